//! A Unix socket: the kernel says who opened the other end.

use super::check_owner;
use crate::user::User;
use postern_protocol::{Code, Problem};
use std::io;
use std::path::Path;
use tokio::net::UnixStream;

/// Connects to the agent whose socket this is.
pub async fn open(socket: &Path) -> Result<UnixStream, Problem> {
    let stream = UnixStream::connect(socket).await.map_err(|error| {
        let told = format!("{}: {error}", socket.display());
        match error.kind() {
            io::ErrorKind::PermissionDenied => Problem::new(Code::PeerRefused).detail(told),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Problem::new(Code::AgentNotRunning),
            _ => Problem::new(Code::AgentNotRunning).detail(told),
        }
    })?;
    check_owner(User::of(&stream), &User::own())?;
    Ok(stream)
}

/// The process at the other end, where the system tells.
pub(crate) fn process(stream: &UnixStream) -> io::Result<Option<i32>> {
    stream.peer_cred().map(|agent| agent.pid())
}
