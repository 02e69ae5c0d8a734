//! Systems on which the owner of a loopback socket cannot be told without unsafe code: every connection is refused.

use super::{OwnerUnknown, User};
use std::net::SocketAddr;

/// Always an error: refusing is the safe answer while the system cannot be asked.
pub(super) fn owner(_: SocketAddr, _: SocketAddr) -> Result<User, OwnerUnknown> {
    Err(OwnerUnknown::Unsupported)
}
