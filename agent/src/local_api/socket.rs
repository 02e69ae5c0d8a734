//! The agent's socket: made for its own user, and each connection to it checked again.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

use crate::state_dir::StateDir;
use postern_client::user::User;
use postern_protocol::{Code, Problem, problem};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use system::{Door, Stream, caller};
use tokio::io::AsyncWriteExt as _;

/// How long a refused client may take to read why.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

/// Listens on the socket in the state directory; removes it in the end.
pub struct LocalSocket {
    door: Door,
    path: PathBuf,
    user: User,
}

impl LocalSocket {
    /// Binds the socket of `state`. Whoever holds the directory is its only agent, so a socket that is there
    /// already was left behind.
    pub fn bind(state: &StateDir) -> Result<Self, Problem> {
        Self::bind_for(&state.socket(), User::own())
    }

    pub(super) fn bind_for(path: &Path, user: User) -> Result<Self, Problem> {
        let door = Door::open(path)
            .map_err(|why| Problem::new(Code::StateDir).detail(format!("{}: {why}", path.display())))?;
        Ok(Self { door, path: path.to_owned(), user })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses a connection that another user opened.
    fn check(&self, stream: &Stream) -> Result<(), Problem> {
        let refused = |detail: String| Err(Problem::new(Code::PeerRefused).detail(detail));
        match caller(stream) {
            Ok(caller) if caller == self.user => Ok(()),
            Ok(caller) => refused(format!("the agent belongs to user {}, not to user {caller}", self.user)),
            Err(error) => refused(error.to_string()),
        }
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        // Left behind it does no harm: the next agent replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

impl axum::serve::Listener for LocalSocket {
    type Io = Stream;
    type Addr = ();

    /// The next connection of the agent's own user. Others are told off before a byte of theirs is read.
    async fn accept(&mut self) -> (Stream, ()) {
        loop {
            match self.door.accept().await {
                Ok(stream) => match self.check(&stream) {
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

async fn turn_away(mut stream: Stream, problem: &Problem) -> io::Result<()> {
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
