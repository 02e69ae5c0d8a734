//! Which user of this machine is at the other end of a local connection.

#[cfg(not(any(target_os = "linux", windows)))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

#[cfg(not(any(target_os = "linux", windows)))]
use elsewhere::owner;
#[cfg(target_os = "linux")]
use linux::owner;
#[cfg(windows)]
use windows::owner;

use postern_client::user::User;
use postern_protocol::{Code, Problem};
use tokio::net::TcpStream;

/// Refuses a loopback connection whose other end is not held by this user, and logs it.
pub(crate) fn check(user: &User, stream: &TcpStream) -> Result<(), Problem> {
    let detail = match stream.peer_addr().and_then(|peer| Ok((peer, stream.local_addr()?))) {
        Err(error) => error.to_string(),
        Ok((peer, local)) => match owner(peer, local) {
            Ok(owner) if owner == *user => return Ok(()),
            Ok(owner) => format!("{peer} belongs to user {owner}, the agent to user {user}"),
            // Hung up before anything was read, as who only looks whether somebody listens: no attack, and no warning.
            #[cfg(any(target_os = "linux", windows))]
            Err(unknown @ OwnerUnknown::Gone) => {
                tracing::debug!(%peer, "{unknown}");
                return Err(refused(format!("{peer}: {unknown}")));
            }
            Err(unknown) => format!("{peer}: {unknown}"),
        },
    };
    tracing::warn!(detail, "refused another user's connection");
    Err(refused(detail))
}

fn refused(detail: String) -> Problem {
    Problem::new(Code::PeerRefused).detail(detail)
}

/// Why the owner of a socket is not known. Whoever cannot be told is refused.
#[derive(Debug, thiserror::Error)]
enum OwnerUnknown {
    /// Nobody holds it any more.
    #[cfg(any(target_os = "linux", windows))]
    #[error("nobody holds this connection any more")]
    Gone,
    /// The kernel does not tell.
    #[cfg(target_os = "linux")]
    #[error("the kernel does not tell who holds this connection (sock_diag): {0}")]
    Kernel(#[from] std::io::Error),
    /// The table of connections cannot be read.
    #[cfg(windows)]
    #[error("the system does not tell who holds this connection: {0}")]
    Table(#[from] netstat2::error::Error),
    /// There is no way to ask on this system yet.
    #[cfg(not(any(target_os = "linux", windows)))]
    #[error("this system offers no way to tell who holds a connection")]
    Unsupported,
}
