//! Holds back the first bytes to a `tcp` app until they show that no web page makes a browser send them.

use bytes::{Buf as _, BytesMut};
use postern_agent_core::guard::Opening;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

/// How long the rest of what looks like a request is waited for. A browser sends the head of one at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// One read while the opening is unclear.
const READ_SIZE: usize = 16 * 1024;

/// What a local client sends to the `tcp` app on `port`.
pub(super) struct Screened<R> {
    from: R,
    port: u16,
    /// What was read and not yet passed on.
    held: BytesMut,
    opening: Opening,
    patience: Pin<Box<Sleep>>,
}

impl<R: AsyncRead + Unpin> Screened<R> {
    pub(super) fn new(from: R, port: u16) -> Self {
        let patience = Box::pin(tokio::time::sleep(PATIENCE));
        Self { from, port, held: BytesMut::new(), opening: Opening::Unclear, patience }
    }

    /// Was it a page of another site?
    pub(super) fn refused(&self) -> bool {
        self.opening == Opening::ForeignPage
    }

    pub(super) fn into_inner(self) -> R {
        self.from
    }

    /// Reads until it is clear what the first bytes are.
    fn poll_opening(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.opening == Opening::Unclear {
            let mut chunk = [0; READ_SIZE];
            let mut buf = ReadBuf::new(&mut chunk);
            match Pin::new(&mut self.from).poll_read(cx, &mut buf)? {
                Poll::Ready(()) if buf.filled().is_empty() => self.opening = Opening::at_last(&self.held, self.port),
                Poll::Ready(()) => {
                    if self.held.is_empty() {
                        self.patience.as_mut().reset(tokio::time::Instant::now() + PATIENCE);
                    }
                    self.held.extend_from_slice(buf.filled());
                    self.opening = Opening::of(&self.held, self.port);
                }
                // A silent client has said nothing unclear.
                Poll::Pending if self.held.is_empty() => return Poll::Pending,
                Poll::Pending => {
                    ready!(self.patience.as_mut().poll(cx));
                    self.opening = Opening::at_last(&self.held, self.port);
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Screened<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.opening == Opening::Unclear {
            ready!(self.poll_opening(cx))?;
        }
        if self.refused() {
            return Poll::Ready(Err(io::ErrorKind::PermissionDenied.into()));
        }
        if self.held.is_empty() {
            return Pin::new(&mut self.from).poll_read(cx, buf);
        }
        let length = self.held.len().min(buf.remaining());
        buf.put_slice(self.held.get(..length).unwrap_or_default());
        self.held.advance(length);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn what_is_no_request_passes_at_once() {
        let (mut client, local) = tokio::io::duplex(100);
        let mut screened = Screened::new(local, 8700);
        let mut read = [0; 4];
        client.write_all(b"PING").await.unwrap();
        screened.read_exact(&mut read).await.unwrap();
        client.write_all(b"more").await.unwrap();
        screened.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"more");
        drop(client);
        assert_eq!(screened.read(&mut read).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_slow_beginning_is_let_go_in_the_end() {
        let (mut client, local) = tokio::io::duplex(100);
        let mut screened = Screened::new(local, 8700);
        client.write_all(b"GET ").await.unwrap();
        let mut read = [0; 4];
        screened.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"GET ");
    }

    /// A18: however its request is cut, a page is refused and nothing of it goes on.
    #[tokio::test]
    async fn a18_a_request_in_pieces_is_refused_whole() {
        let (mut client, local) = tokio::io::duplex(100);
        let mut screened = Screened::new(local, 8700);
        let sending = tokio::spawn(async move {
            for piece in ["POST", " / HT", "TP/1.1\r\n", "Host: evil.exa", "mple\r\n\r\nFLUSHALL\r\n"] {
                client.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
            client
        });
        assert!(screened.read(&mut [0; 100]).await.is_err());
        assert!(screened.refused());
        drop(sending.await.unwrap());
    }
}
