//! Joining an app's stream with a local one: both directions at once, each ending by itself.

use super::stream::{AppReceiver, AppSender, AppStream, StreamEnd};
use bytes::{Buf as _, Bytes, BytesMut};
use std::io::{self, IoSlice};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// One read of the local side.
const READ_SIZE: usize = 64 * 1024;
/// Chunks of an app's bytes taken at once: single-chunk reads cost two to five times the CPU.
const CHUNKS: usize = 32;

impl AppStream {
    /// Carries bytes both ways until both directions have ended, or one has broken.
    pub async fn splice(
        self,
        mut from_local: impl AsyncRead + Unpin,
        mut to_local: impl AsyncWrite + Unpin,
    ) -> Result<(), StreamEnd> {
        let (mut sender, mut receiver, _in_use) = self.split();
        let both = tokio::try_join!(upwards(&mut from_local, &mut sender), downwards(&mut receiver, &mut to_local));
        if both.is_err() {
            sender.give_up();
            receiver.give_up();
        }
        both.map(|_| ())
    }
}

async fn upwards(from_local: &mut (impl AsyncRead + Unpin), sender: &mut AppSender) -> Result<(), StreamEnd> {
    let mut buffer = BytesMut::new();
    loop {
        // What was read before is with quinn until acknowledged, so this makes a new buffer when it is used up.
        if buffer.capacity() < READ_SIZE / 8 {
            buffer.reserve(READ_SIZE);
        }
        match from_local.read_buf(&mut buffer).await {
            Ok(0) => {
                sender.finish();
                return Ok(());
            }
            Ok(_) => sender.send(buffer.split().freeze()).await?,
            Err(_) => return Err(StreamEnd::GivenUp),
        }
    }
}

async fn downwards(receiver: &mut AppReceiver, to_local: &mut (impl AsyncWrite + Unpin)) -> Result<(), StreamEnd> {
    let mut chunks = [const { Bytes::new() }; CHUNKS];
    while let Some(count) = receiver.receive(&mut chunks).await? {
        let (filled, _) = chunks.split_at_mut(count.min(CHUNKS));
        write_all(to_local, filled).await.map_err(|_| StreamEnd::GivenUp)?;
    }
    to_local.shutdown().await.map_err(|_| StreamEnd::GivenUp)
}

/// Writes every chunk, as many at a time as the system takes.
async fn write_all(to: &mut (impl AsyncWrite + Unpin), mut chunks: &mut [Bytes]) -> io::Result<()> {
    while let Some(first) = chunks.first() {
        if first.is_empty() {
            chunks = chunks.split_at_mut(1).1;
            continue;
        }
        let mut slices = [IoSlice::new(&[]); CHUNKS];
        for (slice, chunk) in slices.iter_mut().zip(chunks.iter()) {
            *slice = IoSlice::new(chunk);
        }
        let mut written = to.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        for chunk in chunks.iter_mut() {
            let step = written.min(chunk.len());
            chunk.advance(step);
            written -= step;
        }
    }
    to.flush().await
}
