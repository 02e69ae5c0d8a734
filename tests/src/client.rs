//! HTTP as a client: well-formed exchanges through hyper, arbitrary bytes by hand.

use crate::wait::{SHORT, within};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use postern_protocol::Problem;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body as a problem document, whose status must be the answer's.
    #[track_caller]
    pub fn problem(&self) -> Problem {
        let problem: Problem = serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        assert_eq!(problem.status, self.status.as_u16(), "{self:?}");
        problem
    }

    /// Status and stable code in one, as tests compare them: `(403, "policy_denied")`.
    #[track_caller]
    pub fn refusal(&self) -> (u16, &'static str) {
        (self.status.as_u16(), self.problem().code.as_str())
    }

    /// A header as text; empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// One exchange on `io`, which is then closed.
pub async fn exchange<IO>(io: IO, request: Request<impl Into<Bytes>>) -> hyper::Result<Reply>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = request.map(|body| Full::new(body.into()));
    let talk = async {
        let (mut sender, connection) =
            hyper::client::conn::http1::Builder::new().max_buf_size(512 * 1024).handshake(TokioIo::new(io)).await?;
        let driver = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let reply = collect(response).await;
        driver.abort();
        reply
    };
    within(SHORT * 3, "an HTTP exchange", talk).await
}

/// The whole of a response.
pub async fn collect(response: Response<hyper::body::Incoming>) -> hyper::Result<Reply> {
    let (head, body) = response.into_parts();
    Ok(Reply { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
}

/// One exchange over TCP in the clear.
pub async fn http(address: SocketAddr, request: Request<impl Into<Bytes>>) -> Reply {
    exchange(TcpStream::connect(address).await.unwrap(), request).await.unwrap()
}

/// `GET path` of the app at an agent's HTTP listener.
pub async fn get(address: SocketAddr, host: &str, path: &str) -> Reply {
    http(address, Request::get(path).header("host", host).body("").unwrap()).await
}

/// Sends `bytes` as they are and reads what comes back: until the end of the first whole answer, the end of the
/// stream, or a reset. No answer at all is empty.
///
/// Who says nothing for a second is told that no more bytes will come, and has to make up its mind.
pub async fn raw<IO: AsyncRead + AsyncWrite + Unpin>(io: &mut IO, bytes: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    // The other side may answer and hang up before it has read everything: that is an answer, too.
    let _ = tokio::time::timeout(SHORT, io.write_all(bytes)).await;
    let _ = io.flush().await;
    let first = tokio::time::timeout(Duration::from_secs(1), read_answer(io, &mut answer)).await;
    if first.is_err() {
        let _ = io.shutdown().await;
        let _ = tokio::time::timeout(SHORT, read_answer(io, &mut answer)).await;
    }
    answer
}

async fn read_answer(io: &mut (impl AsyncRead + Unpin), answer: &mut Vec<u8>) {
    let mut chunk = vec![0; 16 * 1024];
    while !is_whole(answer) {
        match io.read(&mut chunk).await {
            Ok(read) if read > 0 => answer.extend_from_slice(&chunk[..read]),
            _ => break,
        }
    }
}

/// The status of the first answer in `bytes`; none if there is no answer.
pub fn status_of(bytes: &[u8]) -> Option<u16> {
    let line = bytes.split(|&b| b == b'\r').next()?;
    std::str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok()
}

/// Splits the first answer in `bytes` into head (as text) and what follows.
pub fn split_head(bytes: &[u8]) -> Option<(String, &[u8])> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((String::from_utf8_lossy(&bytes[..end]).into_owned(), &bytes[end + 4..]))
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some((head, body)) = split_head(bytes) else { return false };
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    match length {
        Some(length) => body.len() >= length,
        None if head.contains("transfer-encoding: chunked") => body.ends_with(b"0\r\n\r\n"),
        None => head.starts_with("http/1.1 204") || head.starts_with("http/1.1 200 ok\r\n\r\n"),
    }
}
