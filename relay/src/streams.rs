//! Every live stream and request in flight, with the permit it holds, and the means to cut it.
//!
//! Opening is the hot path and cutting is rare: a stream is filed once, in one shard, and a cut looks at all of
//! them, which takes a few milliseconds at 100,000.

use crate::gate;
use crate::state::Relay;
use crate::transport::{Cut, Use};
use parking_lot::{Mutex, MutexGuard};
use postern_protocol::control::RelayEvent;
use postern_protocol::{AppName, Code, DecisionId, DeviceId, SessionId, Timestamp};
use postern_relay_core::access::{Permit, Request};
use postern_relay_core::certificate::VerifiedDevice;
use postern_relay_core::principal::PrincipalKey;
use postern_relay_core::revocation;
use postern_relay_core::token::VerifiedSession;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How often deadlines are looked at: the most by which a stream outlives its permit.
const TICK: Duration = Duration::from_secs(1);

/// Connections one device may hold: one is usual, two while it changes certificates.
const PER_DEVICE: usize = 16;

/// Whose streams to cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All of a principal's.
    Principal(PrincipalKey),
    /// All of a device's, and its connections.
    Device(DeviceId),
    /// All of a session's.
    Session(SessionId),
    /// All that lead to an app.
    App(AppName),
}

impl From<revocation::Target> for Target {
    fn from(target: revocation::Target) -> Self {
        match target {
            revocation::Target::Principal(principal) => Self::Principal(principal),
            revocation::Target::Device(device) => Self::Device(device),
            revocation::Target::Session(session) => Self::Session(session),
        }
    }
}

/// Cuts every live stream of `target`, in both directions; writes each cut to the audit log and tells its session.
/// Call it when the snapshot that no longer permits them is in place: then nothing slips between.
pub async fn cut(relay: &Relay, target: &Target, code: Code) -> usize {
    let streams = relay.streams.cut(target, code);
    for stream in &streams {
        tell(relay, stream, gate::record_cut(relay, stream, code).await, code);
    }
    streams.len()
}

/// Holds streams to the deadlines of their permits for as long as it is polled.
pub async fn watch_deadlines(relay: &Relay) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        recheck_due(relay).await;
    }
}

/// Decides anew, with the newest token and posture, each stream whose permit has ended; cuts what is not allowed.
pub async fn recheck_due(relay: &Relay) {
    for stream in relay.streams.due(relay.clock.now()) {
        match gate::recheck(relay, &stream).await {
            Ok(permit) => stream.deadline.store(permit.deadline().millis(), Ordering::Relaxed),
            Err((decision, code)) => {
                if stream.cut.cut(stream.this_use, code) {
                    tell(relay, &stream, decision, code);
                }
            }
        }
    }
}

fn tell(relay: &Relay, stream: &Stream, decision: DecisionId, code: Code) {
    let app = stream.request.app.clone();
    relay.events.send(stream.session.session(), RelayEvent::Cut { app, decision, code });
}

/// What is filed of one stream.
#[derive(Debug)]
pub struct Stream {
    /// Why it lives.
    pub permit: Permit,
    /// On which device.
    pub device: Arc<VerifiedDevice>,
    /// In which session, as the token that opened it has it.
    pub session: Arc<VerifiedSession>,
    /// What was asked for; asked again at each re-check.
    pub request: Request,
    /// Since when.
    pub since: Timestamp,
    /// Bytes from device to upstream so far.
    pub sent: AtomicU64,
    /// Bytes from upstream to device so far.
    pub received: AtomicU64,
    /// Did the request's body break off?
    pub upload_broken: AtomicBool,
    /// The deadline of the newest permit.
    deadline: AtomicU64,
    cut: Arc<Cut>,
    this_use: Use,
}

/// The streams and connections that live.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    shared: Arc<Shared>,
}

/// Enough that cores seldom meet at one lock.
const SHARDS: usize = 64;

#[derive(Debug)]
struct Shared {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    next: AtomicU64,
    connections: Mutex<HashMap<u64, Connection>>,
}

#[derive(Debug, Default)]
struct Shard {
    streams: HashMap<u64, Arc<Stream>>,
    /// The newest token of each session, and the device as it was when the token was issued to it.
    sessions: HashMap<SessionId, Credentials>,
}

/// A session token and the device it is bound to.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The token.
    pub session: Arc<VerifiedSession>,
    /// The device, by the certificate it had then.
    pub device: Arc<VerifiedDevice>,
}

#[derive(Debug)]
struct Connection {
    device: Arc<VerifiedDevice>,
    cut: Arc<Cut>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            next: AtomicU64::new(0),
            connections: Mutex::default(),
        }
    }
}

/// A filed stream; dropping it takes the stream off the files.
#[derive(Debug)]
pub struct Live {
    stream: Arc<Stream>,
    shared: Arc<Shared>,
    number: u64,
}

/// A filed connection; dropping it takes the connection off the files.
#[derive(Debug)]
pub struct LiveConnection {
    shared: Arc<Shared>,
    number: u64,
}

impl Registry {
    /// Nothing lives yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Files a stream that was allowed. From now on it can be cut.
    pub fn open(
        &self,
        permit: Permit,
        device: Arc<VerifiedDevice>,
        session: Arc<VerifiedSession>,
        request: Request,
        since: Timestamp,
        cut: Arc<Cut>,
    ) -> Live {
        let this_use = cut.begin();
        let deadline = AtomicU64::new(permit.deadline().millis());
        let stream = Arc::new(Stream {
            permit,
            device,
            session,
            request,
            since,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            upload_broken: AtomicBool::new(false),
            deadline,
            cut,
            this_use,
        });
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        self.shared.shard(stream.session.session()).streams.insert(number, stream.clone());
        Live { stream, shared: self.shared.clone(), number }
    }

    /// Files a connection, so that it ends with its device. A device with too many loses its oldest: after a change
    /// of network those are the dead ones.
    pub fn connected(&self, device: Arc<VerifiedDevice>, cut: Arc<Cut>) -> LiveConnection {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let mut connections = self.shared.connections.lock();
        let of_device = || connections.iter().filter(|(_, connection)| connection.device.id() == device.id());
        if of_device().count() >= PER_DEVICE
            && let Some((_, oldest)) = of_device().min_by_key(|(number, _)| **number)
        {
            oldest.cut.cut_any(Code::RateLimited);
        }
        connections.insert(number, Connection { device, cut });
        LiveConnection { shared: self.shared.clone(), number }
    }

    /// Notes a token that was issued to a device; the newest of a session is what re-checks go by. A device that
    /// renewed its certificate keeps its streams: its new token is bound to the new certificate, and so is noted with it.
    pub fn note(&self, issued: Credentials) {
        let mut shard = self.shared.shard(issued.session.session());
        let newest = shard.sessions.entry(issued.session.session().clone()).or_insert_with(|| issued.clone());
        if issued.session.expires() > newest.session.expires() {
            *newest = issued;
        }
    }

    /// The newest credentials of the session that `stream` belongs to.
    pub fn newest(&self, stream: &Stream) -> Credentials {
        let id = stream.session.session();
        let noted = self.shared.shard(id).sessions.get(id).cloned();
        let own = || Credentials { session: stream.session.clone(), device: stream.device.clone() };
        noted.filter(|noted| noted.device.id() == stream.device.id()).unwrap_or_else(own)
    }

    /// Cuts every live stream of `target`, and a device's connections. What it cut.
    pub fn cut(&self, target: &Target, code: Code) -> Vec<Arc<Stream>> {
        if let Target::Device(device) = target {
            self.cut_connections(code, |connected| connected.id() == device);
        }
        let mut streams = self.select(|stream| stream.is_of(target));
        streams.retain(|stream| stream.cut.cut(stream.this_use, code));
        streams
    }

    /// Everything that lives.
    pub fn list(&self) -> Vec<Arc<Stream>> {
        self.select(|_| true)
    }

    /// How many streams live.
    pub fn len(&self) -> usize {
        self.shared.shards.iter().map(|shard| shard.lock().streams.len()).sum()
    }

    /// Does nothing live?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The streams whose permit has ended. Ends connections whose certificate has, forgets tokens that have.
    fn due(&self, now: Timestamp) -> Vec<Arc<Stream>> {
        self.cut_connections(Code::CertificateExpired, |device| now > device.not_after());
        for shard in &self.shared.shards {
            shard.lock().sessions.retain(|_, issued| issued.session.expires() > now);
        }
        self.select(|stream| now.millis() >= stream.deadline.load(Ordering::Relaxed))
    }

    fn select(&self, wanted: impl Fn(&Stream) -> bool) -> Vec<Arc<Stream>> {
        let mut streams = Vec::new();
        for shard in &self.shared.shards {
            streams.extend(shard.lock().streams.values().filter(|stream| wanted(stream)).cloned());
        }
        streams
    }

    fn cut_connections(&self, code: Code, wanted: impl Fn(&VerifiedDevice) -> bool) {
        for connection in self.shared.connections.lock().values() {
            if wanted(&connection.device) {
                connection.cut.cut_any(code);
            }
        }
    }
}

impl Shared {
    fn shard(&self, session: &SessionId) -> MutexGuard<'_, Shard> {
        #[expect(clippy::cast_possible_truncation, reason = "any part of a hash is as good as another")]
        let hash = self.hasher.hash_one(session) as usize;
        #[expect(clippy::indexing_slicing, reason = "a remainder is below its divisor")]
        self.shards[hash % SHARDS].lock()
    }
}

impl Stream {
    fn is_of(&self, target: &Target) -> bool {
        match target {
            Target::Principal(principal) => self.session.principal() == principal,
            Target::Device(device) => self.device.id() == device,
            Target::Session(session) => self.session.session() == session,
            Target::App(app) => self.request.app == *app,
        }
    }

    /// Counts bytes from device to upstream.
    pub fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
    }

    /// Counts bytes from upstream to device.
    pub fn count_received(&self, bytes: usize) {
        self.received.fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
    }
}

impl Live {
    /// What is filed.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// The permit it holds.
    pub fn permit(&self) -> &Permit {
        &self.stream.permit
    }

    /// Resets the stream with `code` for what happened to it.
    pub fn fail(&self, code: Code) {
        self.stream.cut.cut(self.stream.this_use, code);
    }

    /// Waits until the stream is cut.
    pub async fn cut(&self) -> Code {
        self.stream.cut.wait().await
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.shard(self.stream.session.session()).streams.remove(&self.number);
        // A cut meant for this use must not hit the next.
        self.stream.cut.end(self.stream.this_use);
    }
}

impl Drop for LiveConnection {
    fn drop(&mut self) {
        self.shared.connections.lock().remove(&self.number);
    }
}
