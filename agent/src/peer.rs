//! Which user of this machine is at the other end of a local connection.

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
use elsewhere::owner;
#[cfg(target_os = "linux")]
use linux::owner;

use postern_protocol::{Code, Problem};
use std::net::SocketAddr;
use tokio::net::{TcpStream, UnixStream};

/// A user of this machine, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uid(pub u32);

impl Uid {
    /// The user this program acts for.
    pub fn own() -> Self {
        Self(rustix::process::geteuid().as_raw())
    }

    /// Refuses a loopback connection whose other end is not held by this user.
    pub fn check_tcp(self, stream: &TcpStream) -> Result<(), Problem> {
        let ends = stream.peer_addr().and_then(|peer| Ok((peer, stream.local_addr()?)));
        let (peer, local) = ends.map_err(|error| refused(error.to_string()))?;
        self.check(owner(peer, local), peer)
    }

    /// Refuses a connection to a Unix socket whose other end was not opened by this user.
    pub fn check_unix(self, stream: &UnixStream) -> Result<(), Problem> {
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == self.0 => Ok(()),
            Ok(peer) => Err(refused(format!("the agent belongs to user {}, not to user {}", self.0, peer.uid()))),
            Err(error) => Err(refused(error.to_string())),
        }
    }

    fn check(self, owner: Result<Uid, OwnerUnknown>, peer: SocketAddr) -> Result<(), Problem> {
        match owner {
            Ok(owner) if owner == self => Ok(()),
            Ok(owner) => Err(refused(format!("{peer} belongs to user {}, the agent to user {}", owner.0, self.0))),
            Err(unknown) => Err(refused(format!("{peer}: {unknown}"))),
        }
    }
}

fn refused(detail: String) -> Problem {
    Problem::new(Code::PeerRefused).detail(detail)
}

/// Why the owner of a socket is not known. Whoever cannot be told is refused.
#[derive(Debug, thiserror::Error)]
enum OwnerUnknown {
    /// Nobody holds it any more.
    #[cfg(target_os = "linux")]
    #[error("nobody holds this connection any more")]
    Gone,
    /// The kernel does not tell.
    #[cfg(target_os = "linux")]
    #[error("the kernel does not tell who holds this connection (sock_diag): {0}")]
    Kernel(#[from] std::io::Error),
    /// There is no way to ask on this system yet.
    #[cfg(not(target_os = "linux"))]
    #[error("this system offers no way to tell who holds a connection")]
    Unsupported,
}
