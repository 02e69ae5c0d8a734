//! A named pipe that is found by way of a file in the state directory. The system says which process made it.

use super::check_owner;
use crate::pipe_name::{MAX_FILE, PipeName};
use crate::user::{Held, User};
use interprocess::os::windows::named_pipe::pipe_mode::Bytes;
use interprocess::os::windows::named_pipe::tokio::DuplexPipeStream;
use postern_protocol::{Code, Problem};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::OwnedHandle;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// `FILE_FLAG_OVERLAPPED` and `SECURITY_IDENTIFICATION`: the other end may see who we are, never act as us.
const OVERLAPPED: u32 = 0x4000_0000;
const IDENTIFICATION: u32 = 0x0001_0000;
/// `ERROR_PIPE_BUSY`: the agent has not made its next instance yet.
const BUSY: i32 = 231;
const BUSY_LIMIT: Duration = Duration::from_secs(5);
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Connects to the agent whose pipe's name this file holds.
pub async fn open(file: &Path) -> Result<Pipe, Problem> {
    let told = |error: io::Error| format!("{}: {error}", file.display());
    let name = match name_in(file) {
        Ok(name) => name.ok_or_else(|| Problem::new(Code::AgentNotRunning))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Problem::new(Code::AgentNotRunning)),
        Err(error) => return Err(Problem::new(Code::AgentNotRunning).detail(told(error))),
    };
    let pipe = connect(&name).await.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Problem::new(Code::PeerRefused).detail(told(error)),
        io::ErrorKind::NotFound => Problem::new(Code::AgentNotRunning),
        _ => Problem::new(Code::AgentNotRunning).detail(told(error)),
    })?;
    check_owner(pipe.server(&name), &User::own())?;
    Ok(pipe)
}

/// The process at the other end.
pub(crate) fn process(pipe: &Pipe) -> io::Result<Option<i32>> {
    pipe.0.server_process_id().map(|id| i32::try_from(id).ok())
}

/// `None`: it holds no name, or not yet.
fn name_in(file: &Path) -> io::Result<Option<PipeName>> {
    let mut text = String::new();
    File::open(file)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(PipeName::parse(&text))
}

async fn connect(name: &PipeName) -> io::Result<Pipe> {
    let path = name.to_string();
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(OVERLAPPED).security_qos_flags(IDENTIFICATION);
    let free = async {
        loop {
            match options.open(&path) {
                Err(error) if error.raw_os_error() == Some(BUSY) => tokio::time::sleep(BUSY_PAUSE).await,
                other => return other,
            }
        }
    };
    let file = tokio::time::timeout(BUSY_LIMIT, free).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let stream =
        DuplexPipeStream::try_from(OwnedHandle::from(file)).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(Pipe(stream))
}

/// One end of a connection over a pipe. A pipe has no half-close: the other end reads on until this one is dropped.
#[derive(Debug)]
pub struct Pipe(DuplexPipeStream<Bytes>);

impl Pipe {
    /// The user at the other end of a connection that an agent accepted.
    pub fn client(&self) -> io::Result<User> {
        self.0.client_process_id().map(User::of_process)
    }

    /// The user of the agent at the other end. It must be the process that the name tells of: a number alone may go
    /// from a process that has ended to another.
    fn server(&self, name: &PipeName) -> io::Result<User> {
        let held = Held::open(name.process());
        match self.0.server_process_id()? {
            process if process == name.process() => Ok(held.user()),
            process => Err(io::Error::other(format!("process {process} holds the agent's pipe"))),
        }
    }
}

impl From<DuplexPipeStream<Bytes>> for Pipe {
    fn from(stream: DuplexPipeStream<Bytes>) -> Self {
        Self(stream)
    }
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    /// What was written is on its way. A pipe's own flush would wait until the other end has read all of it; that is
    /// done where it counts, after the end is dropped.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interprocess::os::windows::named_pipe::PipeListenerOptions;

    /// What an agent would have written, and the pipe of that name.
    async fn open_named(name: &PipeName) -> Result<Pipe, Problem> {
        let options = PipeListenerOptions::new().path(name.to_string());
        let listener = options.create_tokio_duplex::<Bytes>().unwrap();
        let file = std::env::temp_dir().join(format!("postern-pipe-{}-{}", std::process::id(), name.process()));
        std::fs::write(&file, name.to_string()).unwrap();
        let opened = open(&file).await;
        std::fs::remove_file(&file).unwrap();
        drop(listener);
        opened
    }

    /// A15: a name is its first owner's. Wine 8 lets a second one have it.
    #[tokio::test]
    async fn a15_a_name_that_is_taken_is_not_shared() {
        let options = PipeListenerOptions::new().path(PipeName::fresh(std::process::id(), [3; 16]).to_string());
        let _first = options.create_tokio_duplex::<Bytes>().unwrap();
        assert!(options.create_tokio_duplex::<Bytes>().is_err());
    }

    #[tokio::test]
    async fn a_pipe_of_ones_own_is_spoken_to() {
        let pipe = open_named(&PipeName::fresh(std::process::id(), [1; 16])).await.unwrap();
        assert_eq!(process(&pipe).unwrap(), i32::try_from(std::process::id()).ok());
        assert_eq!(User::own(), User::own());
        assert_ne!(User::own(), User::of_process(0), "nobody is told of, and nobody is our equal");
        assert_ne!(User::of_process(0), User::of_process(0));
    }

    /// A15: whoever waits under an agent's name in its stead is another process.
    #[tokio::test]
    async fn a15_a_pipe_that_another_process_made_is_not_spoken_to() {
        let problem = open_named(&PipeName::fresh(std::process::id() + 4, [2; 16])).await.unwrap_err();
        assert_eq!(problem.code, Code::PeerRefused);
    }
}
