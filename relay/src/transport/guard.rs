//! Watches the raw bytes of an HTTP/1.1 stream on their way to hyper.
//!
//! hyper refuses most malformed heads itself, but normalises some in silence: it drops a content length beside a
//! transfer coding, merges repeated lengths and takes bare line feeds. What we forward is written anew and so
//! harmless, yet whoever sends such a head is up to something (A43): the service hears of it and refuses. The
//! guard also ends streams that idle or dribble a head, which hyper's one timer cannot tell apart.

use postern_protocol::MAX_HEADER_BYTES;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a stream may lie between two requests.
const IDLE: Duration = Duration::from_secs(60);
/// How long a head may take from its first byte to its last.
const HEAD: Duration = Duration::from_secs(10);

/// What the guard thinks of the requests so far. Shared with the service of the stream.
#[derive(Clone, Debug, Default)]
pub struct Verdict(Arc<OnceLock<&'static str>>);

impl Verdict {
    /// What was wrong, if anything. It stays: nothing after a malformed head can be trusted.
    pub fn fault(&self) -> Option<&'static str> {
        self.0.get().copied()
    }
}

/// A byte stream under guard.
#[derive(Debug)]
pub struct Guarded<IO> {
    io: IO,
    scanner: Scanner,
    /// Made when the stream first has to wait, then used again.
    timer: Option<Pin<Box<Sleep>>>,
    armed: Option<Wait>,
    idle: Duration,
    head: Duration,
}

impl<IO> Guarded<IO> {
    /// `io` under guard, and what becomes known of it.
    pub fn new(io: IO) -> (Self, Verdict) {
        let verdict = Verdict::default();
        let scanner = Scanner::new(verdict.clone());
        (Self { io, scanner, timer: None, armed: None, idle: IDLE, head: HEAD }, verdict)
    }

    /// The stream, from here on unwatched.
    pub fn into_inner(self) -> IO {
        self.io
    }
}

/// What a stream that brings nothing is waiting for, and in which request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    NextRequest(u64),
    RestOfHead(u64),
}

impl<IO> Guarded<IO> {
    /// Resolves once the stream has waited for `wait` as long as it may.
    fn poll_limit(&mut self, wait: Wait, cx: &mut Context<'_>) -> Poll<()> {
        let fresh = || Box::pin(tokio::time::sleep(self.idle));
        let timer = self.timer.get_or_insert_with(fresh);
        if self.armed != Some(wait) {
            self.armed = Some(wait);
            let limit = if matches!(wait, Wait::NextRequest(_)) { self.idle } else { self.head };
            timer.as_mut().reset(Instant::now() + limit);
        }
        timer.as_mut().poll(cx)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut self.io).poll_read(cx, buf) {
            self.scanner.scan(buf.filled().get(before..).unwrap_or_default());
            return Poll::Ready(result);
        }
        let Some(wait) = self.scanner.wait() else { return Poll::Pending };
        ready!(self.poll_limit(wait, cx));
        match wait {
            // An idle stream just ends, as if the other side had ended it.
            Wait::NextRequest(_) => Poll::Ready(Ok(())),
            Wait::RestOfHead(_) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Follows the framing of requests, so that it knows a head from a body.
#[derive(Debug)]
struct Scanner {
    phase: Phase,
    /// The part of a line that came in an earlier read.
    partial: Vec<u8>,
    head: Head,
    heads: u64,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Head,
    Body(u64),
    ChunkSize,
    /// A chunk's bytes and the line end after them.
    Chunk(u64),
    Trailer,
    /// No HTTP any more, or nothing that could still be trusted as such.
    Raw,
}

/// What matters of the head being read.
#[derive(Debug, Default)]
struct Head {
    lines: u32,
    lengths: u32,
    length: u64,
    codings: u32,
    switches: bool,
}

impl Scanner {
    fn new(verdict: Verdict) -> Self {
        Self { phase: Phase::Head, partial: Vec::new(), head: Head::default(), heads: 0, verdict }
    }

    fn wait(&self) -> Option<Wait> {
        match self.phase {
            Phase::Head if self.head.lines == 0 && self.partial.is_empty() => Some(Wait::NextRequest(self.heads)),
            Phase::Head | Phase::Trailer => Some(Wait::RestOfHead(self.heads)),
            _ => None,
        }
    }

    fn scan(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.phase {
                Phase::Raw => return,
                Phase::Body(left) => bytes = self.skip(bytes, left, Phase::Body, Phase::Head),
                Phase::Chunk(left) => bytes = self.skip(bytes, left, Phase::Chunk, Phase::ChunkSize),
                Phase::Head | Phase::ChunkSize | Phase::Trailer => bytes = self.take_line(bytes),
            }
        }
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64, more: fn(u64) -> Phase, then: Phase) -> &'a [u8] {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let still = left.saturating_sub(u64::try_from(here).unwrap_or(u64::MAX));
        self.phase = if still == 0 { then } else { more(still) };
        bytes.split_at(here).1
    }

    fn take_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(end) = bytes.iter().position(|&b| b == b'\n') else {
            self.partial.extend_from_slice(bytes);
            if self.partial.len() > MAX_HEADER_BYTES {
                // hyper answers 431 and ends the stream.
                self.partial = Vec::new();
                self.phase = Phase::Raw;
            }
            return &[];
        };
        let (line, rest) = bytes.split_at(end + 1);
        let result = if self.partial.is_empty() {
            self.line(line)
        } else {
            let mut whole = std::mem::take(&mut self.partial);
            whole.extend_from_slice(line);
            self.line(&whole)
        };
        if let Err(fault) = result {
            let _earlier_fault_stays = self.verdict.0.set(fault);
            self.phase = Phase::Raw;
        }
        rest
    }

    fn line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let line = line.strip_suffix(b"\r\n").ok_or("a line ends in a bare line feed")?;
        if line.iter().any(|b| matches!(b, b'\r' | 0)) {
            return Err("a line holds a bare carriage return or NUL");
        }
        match self.phase {
            Phase::Head if line.is_empty() => self.end_of_head(),
            Phase::Head => self.head.line(line),
            Phase::ChunkSize => {
                let size = chunk_size(line)?;
                self.phase = if size == 0 { Phase::Trailer } else { Phase::Chunk(size.saturating_add(2)) };
                Ok(())
            }
            _ => {
                if line.is_empty() {
                    self.phase = Phase::Head;
                }
                Ok(())
            }
        }
    }

    fn end_of_head(&mut self) -> Result<(), &'static str> {
        let head = std::mem::take(&mut self.head);
        self.heads += 1;
        self.phase = match (head.codings, head.lengths) {
            _ if head.lines == 0 => return Err("a request begins with an empty line"),
            (1.., 1..) => return Err("a request has both a content length and a transfer coding"),
            (2.., _) => return Err("a request has several transfer codings"),
            (_, 2..) => return Err("a request has several content lengths"),
            (1, _) if head.switches => return Err("a request that switches protocols has a body"),
            (1, _) => Phase::ChunkSize,
            (0, _) if head.switches && head.length > 0 => return Err("a request that switches protocols has a body"),
            (0, _) if head.switches => Phase::Raw,
            (0, _) if head.length > 0 => Phase::Body(head.length),
            (0, _) => Phase::Head,
        };
        Ok(())
    }
}

impl Head {
    fn line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        self.lines += 1;
        if self.lines == 1 {
            self.switches = line.starts_with(b"CONNECT ");
            return Ok(());
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err("a header is folded over several lines");
        }
        let mut parts = line.splitn(2, |&b| b == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default().trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            self.lengths += 1;
            self.length = decimal(value).ok_or("a content length is not a number")?;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.codings += 1;
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err("a transfer coding other than chunked");
            }
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.switches = true;
        }
        Ok(())
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, &digit| {
        let digit = char::from(digit).to_digit(10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// The size at the start of a chunk's first line; extensions after it are nobody's business.
fn chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    let fault = "a chunk size is not a hexadecimal number";
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at(digits);
    if digits.is_empty() || digits.len() > 16 || !matches!(rest.first(), None | Some(b';' | b' ' | b'\t')) {
        return Err(fault);
    }
    let text = std::str::from_utf8(digits).map_err(|_| fault)?;
    u64::from_str_radix(text, 16).map_err(|_| fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn scan(bytes: &[u8], step: usize) -> (Option<&'static str>, Phase, u64) {
        let verdict = Verdict::default();
        let mut scanner = Scanner::new(verdict.clone());
        for part in bytes.chunks(step.max(1)) {
            scanner.scan(part);
        }
        (verdict.fault(), scanner.phase, scanner.heads)
    }

    #[test]
    fn a43_what_hyper_would_normalise_is_noticed() {
        for (what, request) in [
            ("both a content", "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ("both a content", "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n"),
            ("several content", "POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n"),
            ("several transfer", "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ("other than chunked", "POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n"),
            ("not a number", "POST / HTTP/1.1\r\ncontent-length: +5\r\n\r\n"),
            ("not a number", "POST / HTTP/1.1\r\ncontent-length: 5, 5\r\n\r\n"),
            ("bare line feed", "GET / HTTP/1.1\nhost: wiki\r\n\r\n"),
            ("bare line feed", "GET / HTTP/1.1\r\nhost: wiki\n\r\n"),
            ("bare carriage", "GET / HTTP/1.1\r\na: b\rc\r\n\r\n"),
            ("bare carriage", "GET / HTTP/1.1\r\na: b\0c\r\n\r\n"),
            ("folded", "GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n"),
            ("empty line", "\r\nGET / HTTP/1.1\r\n\r\n"),
            ("has a body", "GET / HTTP/1.1\r\nupgrade: websocket\r\ncontent-length: 3\r\n\r\n"),
            ("hexadecimal", "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0x5\r\n"),
            ("hexadecimal", "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n11111111111111111\r\n"),
        ] {
            for step in [1, 3, usize::MAX] {
                let (fault, phase, _) = scan(request.as_bytes(), step);
                assert!(fault.is_some_and(|fault| fault.contains(what)), "{request:?}: {fault:?}");
                assert_eq!(phase, Phase::Raw);
            }
        }
    }

    #[test]
    fn bytes_after_a_switch_are_not_heads() {
        for request in ["CONNECT db:1 HTTP/1.1\r\nhost: db:1\r\n\r\n", "GET / HTTP/1.1\r\nupgrade: websocket\r\n\r\n"] {
            let (fault, phase, heads) = scan(format!("{request}\n\n\0 anything").as_bytes(), 7);
            assert_eq!((fault, phase, heads), (None, Phase::Raw, 1));
        }
    }

    fn request() -> impl Strategy<Value = Vec<u8>> {
        let plain = "[a-z]{1,9}".prop_map(|path| format!("GET /{path} HTTP/1.1\r\nhost: wiki\r\n\r\n").into_bytes());
        let sized = prop::collection::vec(any::<u8>(), 0..99).prop_map(|body| {
            let mut bytes = format!("POST / HTTP/1.1\r\nContent-Length:  {}\r\n\r\n", body.len()).into_bytes();
            bytes.extend(body);
            bytes
        });
        let chunked = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..4).prop_map(|chunks| {
            let mut bytes = b"POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n".to_vec();
            for chunk in chunks {
                bytes.extend(format!("{:X};ext=1\r\n", chunk.len()).into_bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\nx-trailer: 1\r\n\r\n");
            bytes
        });
        prop_oneof![plain, sized, chunked]
    }

    proptest! {
        #[test]
        fn follows_any_sequence_of_requests(requests in prop::collection::vec(request(), 0..6), step in 1usize..50) {
            let (fault, phase, heads) = scan(&requests.concat(), step);
            prop_assert_eq!((fault, phase, heads), (None, Phase::Head, requests.len() as u64));
        }

        #[test]
        fn a30_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), step in 1usize..50) {
            scan(&bytes, step);
            let mut chunked = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            chunked.extend(bytes);
            scan(&chunked, step);
        }
    }

    #[tokio::test]
    async fn an_idle_stream_ends_and_a_dribbled_head_fails() {
        let (mut client, server) = tokio::io::duplex(64);
        let (guarded, _) = Guarded::new(server);
        let mut guarded = Guarded { idle: Duration::from_millis(30), head: Duration::from_millis(120), ..guarded };
        let started = Instant::now();
        assert_eq!(guarded.read(&mut [0; 64]).await.unwrap(), 0);
        assert!(started.elapsed() >= guarded.idle);

        // Each byte comes in time for itself; the head as a whole does not.
        let dribble = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let failure = loop {
            match guarded.read(&mut [0; 64]).await {
                Ok(_) => {}
                Err(failure) => break failure,
            }
        };
        assert_eq!(failure.kind(), io::ErrorKind::TimedOut);
        drop(guarded);
        dribble.await.unwrap();
    }
}
