//! Every live stream and request in flight, with the permit it holds, and the means to cut or hold it.

mod connections;

pub use connections::LiveConnection;

use crate::reverify::{Pace, Tally};
use crate::transport::{Cut, Use, Valve};
use crate::upstream::{Slot, Tether};
use connections::Connections;
use parking_lot::{Mutex, MutexGuard};
use postern_protocol::{AppName, Code, DeviceId, SessionId, Timestamp};
use postern_relay_core::access::{Permit, Request};
use postern_relay_core::certificate::VerifiedDevice;
use postern_relay_core::principal::PrincipalKey;
use postern_relay_core::registry::{Filed, Index, Scope};
use postern_relay_core::token::VerifiedSession;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

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
    /// The request's body on its way, and the app's connection that it goes to.
    pub(crate) upload: Tether,
    number: u64,
    /// Since when it is held, in milliseconds; 0: it flows.
    held: AtomicU64,
    ended: AtomicBool,
    /// The policies of the last answer that was recorded.
    answer: Mutex<Option<Vec<String>>>,
    tally: OnceLock<Arc<Tally>>,
    cut: Arc<Cut>,
    this_use: Use,
}

/// The streams and connections that live.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    shared: Arc<Shared>,
}

/// Enough that cores seldom meet at one lock. Streams stand in the shard of their session.
const SHARDS: usize = 64;

#[derive(Debug)]
struct Shared {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    next: AtomicU64,
    connections: Connections,
    turns: [Mutex<()>; SHARDS],
    pace: Pace,
}

#[derive(Debug, Default)]
struct Shard {
    streams: Index<Arc<Stream>>,
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

impl Default for Shared {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            next: AtomicU64::new(0),
            connections: Connections::default(),
            turns: std::array::from_fn(|_| Mutex::default()),
            pace: Pace::default(),
        }
    }
}

/// A filed stream; dropping it takes the stream off the files.
#[derive(Debug)]
pub struct Live {
    stream: Arc<Stream>,
    shared: Arc<Shared>,
    place: OnceLock<Slot>,
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
        let (number, deadline) = (self.shared.next.fetch_add(1, Ordering::Relaxed), permit.deadline());
        let stream = Arc::new(Stream {
            permit,
            device,
            session,
            request,
            since,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            upload_broken: AtomicBool::new(false),
            upload: Tether::default(),
            number,
            held: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            answer: Mutex::new(None),
            tally: OnceLock::new(),
            cut,
            this_use,
        });
        self.shared.shard(stream.session()).streams.insert(number, stream.clone(), deadline);
        Live { stream, shared: self.shared.clone(), place: OnceLock::new() }
    }

    /// The connections of devices.
    pub fn connections(&self) -> &Connections {
        &self.shared.connections
    }

    /// Notes a token that was issued to a device; the newest of a session is what re-checks go by. A device that
    /// renewed its certificate keeps its streams: its new token is bound to the new certificate, and so is noted with it.
    pub fn note(&self, issued: Credentials) {
        let mut shard = self.shared.shard(issued.session.session());
        let newest = shard.sessions.entry(issued.session.session().clone()).or_insert_with(|| issued.clone());
        // By issue and not by end: what is issued from one token of the provider may all end at the same moment.
        if issued.session.issued_at() >= newest.session.issued_at() {
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

    /// Held while a session's streams are decided anew and the answer is carried out.
    pub(crate) fn turn(&self, session: &SessionId) -> MutexGuard<'_, ()> {
        #[expect(clippy::indexing_slicing, reason = "a remainder is below its divisor")]
        self.shared.turns[self.shared.number(session)].lock()
    }

    /// How often sessions may have their streams decided anew.
    pub(crate) fn pace(&self) -> &Pace {
        &self.shared.pace
    }

    /// The streams of `scope`.
    pub fn select(&self, scope: &Scope) -> Vec<Arc<Stream>> {
        let mut found = Vec::new();
        match scope {
            Scope::Session(id) => self.shared.shard(id).streams.select(scope, &mut found),
            _ => self.shared.shards.iter().for_each(|shard| shard.lock().streams.select(scope, &mut found)),
        }
        found
    }

    /// The streams whose permit, or time on hold, has ended.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<Arc<Stream>> {
        let mut found = Vec::new();
        self.shared.shards.iter().for_each(|shard| shard.lock().streams.due(now, &mut found));
        found
    }

    /// When the next is due.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.shared.shards.iter().filter_map(|shard| shard.lock().streams.next_deadline()).min()
    }

    /// The permit of `stream`, or its time on hold, ends then.
    pub(crate) fn set_deadline(&self, stream: &Stream, deadline: Timestamp) {
        self.shared.shard(stream.session()).streams.set_deadline(stream.number, deadline);
    }

    /// `stream` is cut: nothing is to be decided of it any more.
    pub(crate) fn retire(&self, stream: &Stream) {
        self.shared.shard(stream.session()).streams.retire(stream.number);
    }

    /// Ends connections whose certificate has ended, forgets tokens that have.
    pub(crate) fn tidy(&self, now: Timestamp) {
        self.shared.pace.tidy();
        self.shared.connections.cut(Code::CertificateExpired, |device| now > device.not_after());
        for shard in &self.shared.shards {
            shard.lock().sessions.retain(|_, issued| issued.session.expires() > now);
        }
    }

    /// Everything that lives.
    pub fn list(&self) -> Vec<Arc<Stream>> {
        self.select(&Scope::Everything)
    }

    /// How many streams live.
    pub fn len(&self) -> usize {
        self.shared.shards.iter().map(|shard| shard.lock().streams.len()).sum()
    }

    /// Does nothing live?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shared {
    fn shard(&self, session: &SessionId) -> MutexGuard<'_, Shard> {
        #[expect(clippy::indexing_slicing, reason = "a remainder is below its divisor")]
        self.shards[self.number(session)].lock()
    }

    fn number(&self, session: &SessionId) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "any part of a hash is as good as another")]
        let hash = self.hasher.hash_one(session) as usize;
        hash % SHARDS
    }
}

impl Filed for Stream {
    fn principal(&self) -> &PrincipalKey {
        self.session.principal()
    }

    fn device(&self) -> &DeviceId {
        self.device.id()
    }

    fn session(&self) -> &SessionId {
        self.session.session()
    }

    fn app(&self) -> &AppName {
        &self.request.app
    }
}

impl Stream {
    /// Counts bytes from device to upstream.
    pub fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
    }

    /// Counts bytes from upstream to device.
    pub fn count_received(&self, bytes: usize) {
        self.received.fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
    }

    /// The log has it that these policies let it live.
    pub(crate) fn recorded(&self, policies: &[String]) {
        let mut answer = self.answer.lock();
        if answer.as_deref() != Some(policies) {
            *answer = Some(policies.to_vec());
        }
    }

    /// Does the log have that already?
    pub(crate) fn is_recorded(&self, policies: &[String]) -> bool {
        self.answer.lock().as_deref() == Some(policies)
    }

    /// Since when it is held, if it is.
    pub fn held_since(&self) -> Option<Timestamp> {
        Some(self.held.load(Ordering::Relaxed)).filter(|at| *at != 0).map(Timestamp::from_millis)
    }

    /// Freezes it. False: it was already, or has ended.
    pub(crate) fn hold(&self, now: Timestamp) -> bool {
        let changed = self.cut.hold(self.this_use, true);
        if changed {
            self.held.store(now.millis(), Ordering::Relaxed);
        }
        changed
    }

    /// Lets it flow again. False: it did, or has ended.
    pub(crate) fn resume(&self) -> bool {
        self.held.store(0, Ordering::Relaxed);
        self.cut.hold(self.this_use, false)
    }

    /// Cuts it, and has its end counted: no byte passes from here on, and it ends once it is woken. False: it was cut
    /// already, or has ended.
    pub(crate) fn cut(&self, code: Code, tally: &Arc<Tally>) -> bool {
        if self.tally.set(tally.clone()).is_ok() {
            tally.expect();
            if self.ended.load(Ordering::SeqCst) {
                self.tell_end();
            }
        }
        self.cut.mark(self.this_use, code)
    }

    /// Wakes it, so that it ends although nothing moves, the app's socket with it.
    pub(crate) fn wake(&self) {
        self.cut.wake();
        self.upload.let_go();
    }

    /// Is it cut?
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.code().is_some()
    }

    /// Tells whoever cut it that it has ended; once.
    fn tell_end(&self) {
        if let Some(tally) = self.tally.get()
            && self.ended.swap(false, Ordering::SeqCst)
        {
            tally.ended();
        }
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

    /// Keeps the place at the upstream until the last of it has ended.
    pub(crate) fn keep(&self, place: Slot) {
        let _there_is_one_already = self.place.set(place);
    }

    /// Waits until the stream is cut.
    pub async fn cut(&self) -> Code {
        self.stream.cut.wait().await
    }

    /// For whoever carries its bytes.
    pub fn valve(&self) -> Valve {
        self.stream.cut.valve()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.shard(self.stream.session.session()).streams.remove(self.stream.number);
        // A cut meant for this use must not hit the next.
        self.stream.cut.end(self.stream.this_use);
        self.stream.ended.store(true, Ordering::SeqCst);
        self.stream.tell_end();
    }
}
