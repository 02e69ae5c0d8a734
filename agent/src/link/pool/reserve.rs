//! Streams held ahead of their use, the last of which are for control alone.
//!
//! QUIC does not tell how many streams may still be opened, so a few are opened ahead. That costs nothing on the way:
//! the relay learns of a stream by its first byte, and the one opened first is used first.

use super::Purpose;
use parking_lot::Mutex;
use quinn::{ConnectionError, RecvStream, SendStream};
use std::collections::VecDeque;
use tokio::sync::Notify;

/// Kept back from apps. Control listens to events for as long as the connection lasts, and renews the session token,
/// the certificate and the list of apps now and then.
const KEPT_BACK: usize = 4;

type Stream = (SendStream, RecvStream);

pub(super) struct Reserve {
    connection: quinn::Connection,
    ahead: Mutex<VecDeque<Stream>>,
    /// There is one more ahead.
    more: Notify,
    /// One app waits for a stream at a time, the others behind it.
    turn: tokio::sync::Mutex<()>,
}

impl Reserve {
    pub(super) fn of(connection: quinn::Connection) -> Self {
        Self { connection, ahead: Mutex::default(), more: Notify::new(), turn: tokio::sync::Mutex::default() }
    }

    /// A stream that nothing was sent on, once there may be one for this purpose.
    pub(super) async fn take(&self, purpose: Purpose) -> Result<Stream, ConnectionError> {
        match purpose {
            Purpose::App => self.for_app().await,
            Purpose::Control => self.for_control().await,
        }
    }

    async fn for_app(&self) -> Result<Stream, ConnectionError> {
        let _turn = self.turn.lock().await;
        loop {
            if let Some(stream) = self.next_beyond(KEPT_BACK) {
                return Ok(stream);
            }
            let opened = self.connection.open_bi().await?;
            self.ahead.lock().push_back(opened);
            self.more.notify_waiters();
        }
    }

    async fn for_control(&self) -> Result<Stream, ConnectionError> {
        loop {
            // Listens before it looks, so that no stream comes unseen in between.
            let more = self.more.notified();
            if let Some(stream) = self.next_beyond(0) {
                return Ok(stream);
            }
            tokio::select! {
                opened = self.connection.open_bi() => return opened,
                () = more => {}
            }
        }
    }

    fn next_beyond(&self, kept_back: usize) -> Option<Stream> {
        let mut ahead = self.ahead.lock();
        if ahead.len() > kept_back { ahead.pop_front() } else { None }
    }
}
