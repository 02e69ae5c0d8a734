//! The agent's socket: made for its own user, and each connection to it checked again.

use crate::peer::Uid;
use crate::state_dir::StateDir;
use postern_protocol::{Code, Problem, problem};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};

/// A Unix socket's path has to fit into `sockaddr_un` with its final zero.
const MAX_PATH: usize = 107;
/// How long a refused client may take to read why.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

/// Listens on the socket in the state directory; removes it in the end.
pub struct LocalSocket {
    listener: UnixListener,
    path: PathBuf,
    user: Uid,
}

impl LocalSocket {
    /// Binds the socket of `state`. Whoever holds the directory is its only agent, so a socket that is there
    /// already was left behind.
    pub fn bind(state: &StateDir) -> Result<Self, Problem> {
        Self::bind_for(&state.socket(), Uid::own())
    }

    pub(super) fn bind_for(path: &Path, user: Uid) -> Result<Self, Problem> {
        let unusable = |why: String| Problem::new(Code::StateDir).detail(format!("{}: {why}", path.display()));
        if path.as_os_str().len() > MAX_PATH {
            return Err(unusable(format!("the socket's path is longer than {MAX_PATH} bytes")));
        }
        remove_left_behind(path).map_err(|error| unusable(error.to_string()))?;
        let listener = UnixListener::bind(path).map_err(|error| unusable(error.to_string()))?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(|error| unusable(error.to_string()))?;
        Ok(Self { listener, path: path.to_owned(), user })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn remove_left_behind(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is in its place")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        // Left behind it does no harm: the next agent replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

impl axum::serve::Listener for LocalSocket {
    type Io = UnixStream;
    type Addr = ();

    /// The next connection of the agent's own user. Others are told off before a byte of theirs is read.
    async fn accept(&mut self) -> (UnixStream, ()) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => match self.user.check_unix(&stream) {
                    Ok(()) => return (stream, ()),
                    Err(problem) => {
                        tracing::warn!(detail = problem.detail, "refused another user's call");
                        tokio::spawn(async move {
                            let _ = tokio::time::timeout(GOODBYE_LIMIT, turn_away(stream, &problem)).await;
                        });
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a local call");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

async fn turn_away(mut stream: UnixStream, problem: &Problem) -> io::Result<()> {
    let document = serde_json::to_string(problem)?;
    let answer = format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{document}",
        problem::MEDIA_TYPE,
        document.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Closing with bytes unread would take the answer away from the client.
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(|_| ())
}
