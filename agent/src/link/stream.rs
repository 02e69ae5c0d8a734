//! A QUIC stream as `tokio` sees streams, and as the raw bytes of an app once `CONNECT` went through.

use crate::activity::InUse;
use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use postern_protocol::{Code, DecisionId};
use quinn::{ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reset code of a stream that its local user gave up: no cause of Postern's.
const GIVEN_UP: VarInt = VarInt::from_u32(0);

/// Both halves of a stream under HTTP.
pub(super) struct QuicStream {
    send: SendStream,
    recv: RecvStream,
}

impl QuicStream {
    pub(super) fn new(send: SendStream, recv: RecvStream) -> Self {
        Self { send, recv }
    }
}

impl AsyncRead for QuicStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.recv), cx, buf)
    }
}

impl AsyncWrite for QuicStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut written = 0;
        for buf in bufs.iter().filter(|buf| !buf.is_empty()) {
            match AsyncWrite::poll_write(Pin::new(&mut self.send), cx, buf) {
                Poll::Ready(Ok(n)) => {
                    written += n;
                    if n < buf.len() {
                        break;
                    }
                }
                _ if written > 0 => break,
                other => return other,
            }
        }
        Poll::Ready(Ok(written))
    }

    /// Head and body go to quinn as they are, without hyper joining them in a buffer first.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.send), cx)
    }
}

/// The bytes of a `tcp` app. Each direction ends by itself.
pub struct AppStream {
    stream: QuicStream,
    /// What came along with the head of the answer.
    early: Bytes,
    decision: Option<DecisionId>,
    in_use: Option<InUse>,
}

/// How one direction of an [`AppStream`] ended other than in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamEnd {
    /// The relay cut it, for this cause.
    #[error("cut by the relay: {0}")]
    Cut(Code),
    /// The app or the connection broke it off.
    #[error("broken off")]
    Broken,
    /// The agent closed the connection: the session is over.
    #[error("closed with the session")]
    Closed,
    /// The local user broke it off.
    #[error("given up")]
    GivenUp,
}

impl From<&ReadError> for StreamEnd {
    fn from(error: &ReadError) -> Self {
        match error {
            ReadError::Reset(number) => Self::of_number(*number),
            ReadError::ConnectionLost(lost) => Self::of_connection(lost),
            _ => Self::Broken,
        }
    }
}

impl From<&WriteError> for StreamEnd {
    fn from(error: &WriteError) -> Self {
        match error {
            WriteError::Stopped(number) => Self::of_number(*number),
            WriteError::ConnectionLost(lost) => Self::of_connection(lost),
            _ => Self::Broken,
        }
    }
}

impl StreamEnd {
    /// How the body of an answer ended, by the error that quinn's adapters to `io` and hyper wrapped.
    pub fn of_body(error: &hyper::Error) -> Self {
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            let inner_io = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if let Some(read) = inner_io.and_then(|inner| inner.downcast_ref::<ReadError>()) {
                return read.into();
            }
            if let Some(write) = inner_io.and_then(|inner| inner.downcast_ref::<WriteError>()) {
                return write.into();
            }
            source = inner.source();
        }
        Self::Broken
    }

    fn of_number(number: VarInt) -> Self {
        Code::from_number(number.into_inner()).map_or(Self::Broken, Self::Cut)
    }

    fn of_connection(lost: &ConnectionError) -> Self {
        match lost {
            ConnectionError::ApplicationClosed(close) => Self::of_number(close.error_code),
            ConnectionError::LocallyClosed => Self::Closed,
            _ => Self::Broken,
        }
    }
}

impl AppStream {
    /// What an upgraded exchange on a [`crate::link::Link`] has become.
    pub fn of_upgraded(upgraded: Upgraded) -> Option<Self> {
        let parts = upgraded.downcast::<TokioIo<QuicStream>>().ok()?;
        Some(Self { stream: parts.io.into_inner(), early: parts.read_buf, decision: None, in_use: None })
    }

    /// The same, as the relay decided it.
    pub(super) fn decided(self, decision: Option<DecisionId>) -> Self {
        Self { decision, ..self }
    }

    /// The relay's decision, if it told.
    pub fn decision(&self) -> Option<&DecisionId> {
        self.decision.as_ref()
    }

    /// The same, counted as under way until it has ended.
    pub fn counted(self, in_use: InUse) -> Self {
        Self { in_use: Some(in_use), ..self }
    }

    /// The halves, for copying without a buffer in between.
    pub(super) fn split(self) -> (AppSender, AppReceiver, Option<InUse>) {
        let Self { stream: QuicStream { send, recv }, early, in_use, .. } = self;
        (AppSender { send }, AppReceiver { recv, early }, in_use)
    }
}

/// Towards the app.
pub(super) struct AppSender {
    send: SendStream,
}

impl AppSender {
    /// Sends `bytes`, waiting while the app is slow.
    pub(super) async fn send(&mut self, bytes: Bytes) -> Result<(), StreamEnd> {
        self.send.write_chunk(bytes).await.map_err(|error| (&error).into())
    }

    /// No more bytes follow.
    pub(super) fn finish(&mut self) {
        // Fails only on a stream that has ended already.
        let _ = self.send.finish();
    }

    /// Gives up: the app sees a broken connection, not an orderly end.
    pub(super) fn give_up(&mut self) {
        let _ = self.send.reset(GIVEN_UP);
    }
}

/// From the app.
pub(super) struct AppReceiver {
    recv: RecvStream,
    early: Bytes,
}

impl AppReceiver {
    /// Fills `chunks` with what is there, waiting for the first; `None` at the end.
    pub(super) async fn receive(&mut self, chunks: &mut [Bytes]) -> Result<Option<usize>, StreamEnd> {
        if !self.early.is_empty()
            && let Some(first) = chunks.first_mut()
        {
            *first = std::mem::take(&mut self.early);
            return Ok(Some(1));
        }
        self.recv.read_chunks(chunks).await.map_err(|error| (&error).into())
    }

    /// Gives up: no more bytes are wanted.
    pub(super) fn give_up(&mut self) {
        let _ = self.recv.stop(GIVEN_UP);
    }
}
