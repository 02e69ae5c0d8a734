//! The way to a running agent: a connection on which nothing is said before its other end is known to be the user's own.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::open;
#[cfg(unix)]
pub(crate) use unix::process;
#[cfg(windows)]
pub(crate) use windows::process;
#[cfg(windows)]
pub use windows::{Pipe, open};

use crate::user::User;
use postern_protocol::{Code, Problem};
use std::io;

/// An agent of another user would be shown this user's addresses and sign-ins.
fn check_owner(owner: io::Result<User>, own: &User) -> Result<(), Problem> {
    let refused = |detail: String| Err(Problem::new(Code::PeerRefused).detail(detail));
    match owner {
        Ok(owner) if owner == *own => Ok(()),
        Ok(owner) => refused(format!("the agent belongs to user {owner}, not to user {own}")),
        Err(error) => refused(error.to_string()),
    }
}
