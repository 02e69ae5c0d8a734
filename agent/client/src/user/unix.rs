//! Unix knows users by number.

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use tokio::net::UnixStream;

/// A user of this machine, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User(u32);

impl User {
    /// The user this program acts for.
    pub fn own() -> Self {
        Self(rustix::process::geteuid().as_raw())
    }

    /// The user with this number.
    pub const fn numbered(number: u32) -> Self {
        Self(number)
    }

    /// Whoever opened the other end.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        stream.peer_cred().map(|peer| Self(peer.uid()))
    }

    pub(crate) fn owns(&self, file: &Metadata) -> bool {
        file.uid() == self.0
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
