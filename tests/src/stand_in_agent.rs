//! A stand-in for the agent's local API, for what a real agent never says; and an ear between a program and a real one.

use postern_protocol::local::{EVENTS, LOGIN};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// What it answers to a path: whole bytes of a body, after which the connection stays open.
type Answer = dyn Fn(&str) -> Vec<u8> + Send + Sync;

/// A stand-in; it ends with this value.
pub struct StandInAgent {
    socket: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for StandInAgent {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl StandInAgent {
    /// Listens at `socket`, in place of whoever did. What it answers to events and sign-ins does not end.
    pub fn start(socket: &Path, answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer): (_, Arc<Answer>) = (Arc::clone(&asked), Arc::new(answer));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&log), Arc::clone(&answer)));
            }
        });
        Self { socket: socket.to_owned(), asked, task }
    }

    /// What it was asked so far: method and path.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(mut stream: UnixStream, log: Arc<Mutex<Vec<String>>>, answer: Arc<Answer>) {
    let (mut head, mut chunk) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut chunk).await {
            Ok(read @ 1..) => head.extend_from_slice(&chunk[..read]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let asked = head.split(' ').take(2).collect::<Vec<_>>().join(" ");
    log.lock().unwrap().push(asked.clone());
    let start = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
    let told = async {
        stream.write_all(start).await?;
        stream.write_all(&answer(&asked)).await
    };
    let goes_on = [EVENTS, LOGIN].iter().any(|path| asked.ends_with(path));
    if told.await.is_ok() && goes_on {
        // Until the other side has had enough.
        while matches!(stream.read(&mut chunk).await, Ok(1..)) {}
    }
}

/// Stands between programs and the real agent, and counts.
pub struct Ear {
    socket: PathBuf,
    aside: PathBuf,
    calls: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::rename(&self.aside, &self.socket);
    }
}

impl Ear {
    /// Moves the agent's socket aside and listens in its place.
    pub fn at(socket: &Path) -> Self {
        let aside: PathBuf = socket.with_extension("aside");
        std::fs::rename(socket, &aside).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let (counted, agent) = (Arc::clone(&calls), aside.clone());
        let task = tokio::spawn(async move {
            while let Ok((mut caller, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let mut agent = UnixStream::connect(&agent).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut caller, &mut agent).await });
            }
        });
        Self { socket: socket.to_owned(), aside, calls, task }
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}
