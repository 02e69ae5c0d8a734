//! A QUIC bidirectional stream as one byte stream for hyper, and as two halves for whoever copies raw bytes.

use super::Cut;
use bytes::Bytes;
use postern_protocol::Code;
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Both directions.
#[derive(Debug)]
pub struct QuicStream {
    /// From the device.
    pub recv: Receiving,
    /// To the device.
    pub send: Sending,
}

/// The direction to the device. Dropped before [`Sending::finish`], it is reset: half an answer never looks whole.
#[derive(Debug)]
pub struct Sending {
    stream: SendStream,
    finished: bool,
    cut: Arc<Cut>,
}

/// The direction from the device. Dropped before its end, the device is told to stop.
#[derive(Debug)]
pub struct Receiving {
    stream: RecvStream,
    ended: bool,
    cut: Arc<Cut>,
}

impl QuicStream {
    /// The stream of these halves; once `cut` is cut, dropping it resets both with the code.
    pub fn new(send: SendStream, recv: RecvStream, cut: Arc<Cut>) -> Self {
        Self {
            recv: Receiving { stream: recv, ended: false, cut: cut.clone() },
            send: Sending { stream: send, finished: false, cut },
        }
    }
}

impl Sending {
    /// Sends some of `chunk` without copying it, and leaves the rest there. Dropped before it resolves, it sent nothing.
    pub async fn write_some(&mut self, chunk: &mut Bytes) -> Result<(), WriteError> {
        self.stream.write_chunks(std::slice::from_mut(chunk)).await.map(drop)
    }

    /// Says that nothing follows.
    pub fn finish(&mut self) {
        self.finished = true;
        let _closed_already = self.stream.finish();
    }

    /// Resolves when the device no longer wants this direction, or is gone.
    pub fn abandoned(&self) -> impl Future<Output = ()> + Send + 'static {
        let stopped = self.stream.stopped();
        async move {
            if let Ok(None) = stopped.await {
                // It has all of it, after `finish`: well done, not abandoned.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Receiving {
    /// Takes what has arrived, up to the number of `chunks`, without copying; `None` at the end.
    pub async fn read_chunks(&mut self, chunks: &mut [Bytes]) -> Result<Option<usize>, ReadError> {
        let read = self.stream.read_chunks(chunks).await?;
        self.ended = read.is_none();
        Ok(read)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.finished || self.cut.code().is_some() {
            let code = self.cut.code().unwrap_or(Code::Internal);
            let _closed_already = self.stream.reset(VarInt::from_u32(code.number()));
        }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if !self.ended {
            // 0: no error, the rest was merely not needed, as after a refusal that did not wait for the body.
            let number = self.cut.code().map_or(0, Code::number);
            let _closed_already = self.stream.stop(VarInt::from_u32(number));
        }
    }
}

impl AsyncRead for QuicStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.recv.stream).poll_read(cx, buf);
        if matches!(result, Poll::Ready(Ok(()))) && buf.filled().len() == before && buf.remaining() > 0 {
            self.recv.ended = true;
        }
        result
    }
}

impl AsyncWrite for QuicStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // Named, because the inherent method of this name has another error type.
        AsyncWrite::poll_write(Pin::new(&mut self.send.stream), cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send.finish();
        Poll::Ready(Ok(()))
    }
}
