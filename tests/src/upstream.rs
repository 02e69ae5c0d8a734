//! Upstreams in this process that keep every byte that arrives: what an app behind the relay really sees.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// An upstream; it ends with this value.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    log: Arc<Mutex<Log>>,
    task: JoinHandle<()>,
}

/// What has arrived so far.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The bytes of each connection.
    pub connections: Vec<Vec<u8>>,
    /// The requests, as a strict reader of those bytes finds them.
    pub requests: Vec<Seen>,
}

/// A request that arrived.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Its target, as sent.
    pub target: String,
    /// Header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// Which connection brought it.
    pub connection: usize,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    /// An HTTP upstream that answers each request with `answer`'s bytes.
    pub async fn http(answer: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        Self::start(move |socket, index, log| serve_http(socket, index, log, answer.clone())).await
    }

    /// An HTTP upstream that answers `200` with the method and the target.
    pub async fn plain() -> Self {
        Self::http(|seen| ok(&format!("{} {}", seen.method, seen.target))).await
    }

    /// An HTTP upstream that answers with the identity header it received.
    pub async fn identity() -> Self {
        Self::http(|seen| ok(seen.header("x-postern-identity").unwrap_or_default())).await
    }

    /// An HTTP upstream that agrees to switch to any protocol, and from then on sends back what it gets.
    pub async fn switching() -> Self {
        Self::start(|mut socket, index, log| async move {
            let mut chunk = [0; 16 * 1024];
            let mut switched = false;
            while let Ok(read @ 1..) = socket.read(&mut chunk).await {
                log.lock().unwrap().connections[index].extend_from_slice(&chunk[..read]);
                let accepted = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
                // The head of a request of ours fits one packet.
                let answer = if switched { &chunk[..read] } else { &accepted[..] };
                switched = true;
                if socket.write_all(answer).await.is_err() {
                    break;
                }
            }
        })
        .await
    }

    /// A TCP upstream that sends back what it gets, and closes when the other side has.
    pub async fn echo() -> Self {
        Self::start(|mut socket, index, log| async move {
            let mut chunk = [0; 16 * 1024];
            while let Ok(read @ 1..) = socket.read(&mut chunk).await {
                log.lock().unwrap().connections[index].extend_from_slice(&chunk[..read]);
                if socket.write_all(&chunk[..read]).await.is_err() {
                    break;
                }
            }
        })
        .await
    }

    /// What has arrived so far.
    pub fn log(&self) -> Log {
        self.log.lock().unwrap().clone()
    }

    /// The requests that have arrived so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.log().requests
    }

    /// The last request that arrived.
    #[track_caller]
    pub fn last(&self) -> Seen {
        self.requests().pop().expect("no request arrived upstream")
    }

    async fn start<F>(serve: impl Fn(TcpStream, usize, Arc<Mutex<Log>>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Log::default()));
        let kept = log.clone();
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let index = {
                    let mut log = log.lock().unwrap();
                    log.connections.push(Vec::new());
                    log.connections.len() - 1
                };
                tokio::spawn(serve(socket, index, log.clone()));
            }
        });
        Self { address, log: kept, task }
    }
}

impl Seen {
    /// The values of a header, joined as they would be by a list-reading server; none if absent.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// How many fields of this name arrived, hyphens and underscores being one to many servers.
    pub fn count(&self, name: &str) -> usize {
        let all = self.headers.iter().chain(&self.trailers);
        all.filter(|(key, _)| key.replace('_', "-") == name).count()
    }
}

/// A `200` with this body.
pub fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

async fn serve_http(
    mut socket: TcpStream,
    index: usize,
    log: Arc<Mutex<Log>>,
    answer: Arc<impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static>,
) {
    let (mut unread, mut chunk) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        while let Some((mut seen, used)) = parse(&unread) {
            unread.drain(..used);
            seen.connection = index;
            let bytes = answer(&seen);
            log.lock().unwrap().requests.push(seen);
            if socket.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let Ok(read @ 1..) = socket.read(&mut chunk).await else { return };
        log.lock().unwrap().connections[index].extend_from_slice(&chunk[..read]);
        unread.extend_from_slice(&chunk[..read]);
    }
}

/// The first whole request in `bytes` and its length.
fn parse(bytes: &[u8]) -> Option<(Seen, usize)> {
    let (head, _) = crate::client::split_head(bytes)?;
    let mut used = head.len() + 4;
    let (first, fields) = head.split_once("\r\n").unwrap_or((&head, ""));
    let mut words = first.split(' ');
    let mut seen = Seen {
        method: words.next()?.into(),
        target: words.next().unwrap_or_default().into(),
        headers: fields_of(fields),
        ..Seen::default()
    };
    if seen.header("transfer-encoding").is_some() {
        loop {
            let line = line_at(bytes, used)?;
            let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
            used += line.len() + 2;
            if size == 0 {
                break;
            }
            seen.body.extend_from_slice(bytes.get(used..used + size)?);
            used += size + 2;
        }
        let mut trailers = String::new();
        loop {
            let line = line_at(bytes, used)?;
            used += line.len() + 2;
            if line.is_empty() {
                break;
            }
            trailers.push_str(&line);
            trailers.push_str("\r\n");
        }
        seen.trailers = fields_of(&trailers);
    } else if let Some(length) = seen.header("content-length") {
        let length: usize = length.parse().ok()?;
        seen.body = bytes.get(used..used + length)?.to_vec();
        used += length;
    }
    Some((seen, used))
}

fn fields_of(text: &str) -> Vec<(String, String)> {
    let fields = text.split("\r\n").filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect()
}

fn line_at(bytes: &[u8], start: usize) -> Option<String> {
    let rest = bytes.get(start..)?;
    let end = rest.windows(2).position(|window| window == b"\r\n")?;
    Some(String::from_utf8_lossy(&rest[..end]).into_owned())
}
