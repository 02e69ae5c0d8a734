//! The HTTP/1.1 streams of a connection: opened when needed, kept a little while for the next request.
//!
//! The relay bounds how many there are at a time. Some are kept back from apps, so that a session is renewed however
//! many downloads run: [`Reserve`].

mod reserve;

use super::stream::QuicStream;
use super::{Body, cause};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use postern_protocol::{Code, MAX_HEADER_BYTES, Problem};
use reserve::Reserve;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Most idle streams kept: each takes one of the 100 that a relay permits at a time.
const MAX_IDLE: usize = 32;
/// Kept for bursts only: a new stream costs no round trip, and the relay sheds idle ones too.
const IDLE_LIMIT: Duration = Duration::from_secs(5);
/// How long a request waits for a free stream when the relay permits no more.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// Whom a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An app's request or stream.
    App,
    /// What keeps the session alive: apps never take the last streams from it.
    Control,
}

pub(super) struct Pool {
    connection: quinn::Connection,
    reserve: Reserve,
    /// The most recently used last.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    sender: SendRequest<Body>,
    since: Instant,
}

impl Pool {
    pub(super) fn start(connection: quinn::Connection) -> Arc<Self> {
        let pool = Arc::new(Self { reserve: Reserve::of(connection.clone()), connection, idle: Mutex::default() });
        tokio::spawn(prune_now_and_then(Arc::downgrade(&pool)));
        pool
    }

    /// A stream that can take a request, and whether it has carried one before.
    pub(super) async fn take(&self, purpose: Purpose) -> Result<(SendRequest<Body>, bool), Problem> {
        if purpose == Purpose::App
            && let Some(sender) = self.take_idle()
        {
            return Ok((sender, true));
        }
        Ok((self.open(purpose).await?, false))
    }

    /// Keeps a stream for the next request once it is through with this one.
    pub(super) fn put(self: &Arc<Self>, purpose: Purpose, mut sender: SendRequest<Body>) {
        // Not one of control's: an app that took it over would shrink the reserve. It ends, and its place is free.
        if purpose == Purpose::Control {
            return;
        }
        if sender.is_ready() {
            return self.keep(sender);
        }
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            if sender.ready().await.is_ok()
                && let Some(pool) = pool.upgrade()
            {
                pool.keep(sender);
            }
        });
    }

    fn take_idle(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock();
        while let Some(Idle { sender, .. }) = idle.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn keep(&self, sender: SendRequest<Body>) {
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    async fn open(&self, purpose: Purpose) -> Result<SendRequest<Body>, Problem> {
        let opened = tokio::time::timeout(OPEN_LIMIT, self.reserve.take(purpose)).await;
        let (send, recv) = opened
            .map_err(|_| Problem::new(Code::RateLimited).detail("the relay permits no more streams at a time"))?
            .map_err(|error| cause::of_connection(&error))?;
        let (sender, exchanges) = Builder::new()
            .max_header_size(MAX_HEADER_BYTES)
            .handshake(TokioIo::new(QuicStream::new(send, recv)))
            .await
            .map_err(|error| cause::of_exchange(&self.connection, &error))?;
        // Its failures reach whoever waits for an answer on it.
        tokio::spawn(exchanges.with_upgrades());
        Ok(sender)
    }

    fn prune(&self, now: Instant) {
        let fresh = |idle: &Idle| !idle.sender.is_closed() && now.saturating_duration_since(idle.since) < IDLE_LIMIT;
        self.idle.lock().retain(fresh);
    }
}

/// Lives as long as the pool.
async fn prune_now_and_then(pool: Weak<Pool>) {
    let mut clock = tokio::time::interval(IDLE_LIMIT / 2);
    loop {
        clock.tick().await;
        match pool.upgrade() {
            Some(pool) => pool.prune(Instant::now()),
            None => return,
        }
    }
}
