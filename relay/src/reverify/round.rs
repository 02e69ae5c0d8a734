//! One round of re-checks: streams that ask the same question share its answer, and each answer is recorded once.

use crate::state::Relay;
use crate::streams::{Credentials, Stream};
use postern_protocol::control::RelayEvent;
use postern_protocol::{AppName, Code, DecisionId, SessionId, Timestamp};
use postern_relay_core::access::{Action, Denial, Request, Snapshot, decide};
use postern_relay_core::app::OnLapse;
use postern_relay_core::audit::{Event, Record};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, timeout};

/// How long a round waits for what it cut, once all of it was woken.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long it takes at most to take down what was cut. It passes nothing from the moment of the answer; to end
/// thousands of streams and sockets at once would make everybody else wait.
const TAKEN_DOWN: Duration = Duration::from_millis(600);

/// The pause between two goes.
const PAUSE: Duration = Duration::from_millis(2);

/// How many streams end in one go at least: a few are not worth spreading.
const AT_ONCE: usize = 4;

/// What a round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cutback {
    /// Streams that it cut.
    pub cut: usize,
    /// The same by the app they led to.
    pub by_app: BTreeMap<AppName, usize>,
    /// Streams that it froze.
    pub held: usize,
    /// Streams that flow again.
    pub resumed: usize,
    /// Streams that go on as they were.
    pub kept: usize,
    /// From the cause to the end of the last stream that was cut, both directions and the upstream's socket.
    pub slowest: Duration,
    /// Streams that had not ended a second after the last was told to.
    pub unfinished: usize,
}

impl Cutback {
    fn add(&mut self, app: &AppName, cut: usize) {
        if cut > 0 {
            self.cut += cut;
            *self.by_app.entry(app.clone()).or_default() += cut;
        }
    }
}

/// How many answers of one round that let streams go on are recorded one by one. Nobody is told of these.
const RECORDED: usize = 256;

/// How long the records of a round may take to be written.
const WRITTEN: Duration = Duration::from_secs(2);

/// A round under way.
pub(crate) struct Round {
    answers: Vec<Answer>,
    ending: Vec<Arc<Stream>>,
    tally: Arc<Tally>,
    /// Nothing has happened but that time has passed.
    clock: bool,
}

/// What makes two re-checks the same: of these, of what is newest in their session and of the time the decision is a
/// function.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Question {
    /// The session by the token that opened the stream, and the device, by address: the streams keep both.
    session: usize,
    device: usize,
    app: AppName,
    action: Action,
    host: String,
    source: IpAddr,
}

struct Answer {
    session: SessionId,
    app: AppName,
    decision: DecisionId,
    /// The new deadline, or what the user is told.
    outcome: Result<Timestamp, Denial>,
    record: Record,
    cut: usize,
    held: Option<Timestamp>,
    holds: usize,
    resumed: usize,
    going_on: Vec<Arc<Stream>>,
}

/// Counts cut streams to their end.
#[derive(Debug)]
pub struct Tally {
    begun: Instant,
    open: AtomicUsize,
    slowest: AtomicU64,
    done: Notify,
}

impl Tally {
    fn new(begun: Instant) -> Arc<Self> {
        Arc::new(Self { begun, open: AtomicUsize::new(0), slowest: AtomicU64::new(0), done: Notify::new() })
    }

    /// One more is to end.
    pub(crate) fn expect(&self) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    /// One has ended.
    pub(crate) fn ended(&self) {
        let elapsed = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.slowest.fetch_max(elapsed, Ordering::SeqCst);
        if self.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.done.notify_one();
        }
    }

    /// Resolves once all have ended, or after [`PATIENCE`].
    async fn wait(&self) {
        let all = async {
            while self.open.load(Ordering::SeqCst) > 0 {
                self.done.notified().await;
            }
        };
        let _some_are_left = timeout(PATIENCE, all).await;
    }
}

impl Round {
    /// A round for a cause that comes now.
    pub(super) fn new() -> Self {
        Self { answers: Vec::new(), ending: Vec::new(), tally: Tally::new(Instant::now()), clock: false }
    }

    /// A round for streams whose time has come.
    pub(super) fn of_the_clock() -> Self {
        Self { clock: true, ..Self::new() }
    }

    /// Decides `streams`, which ask the same, anew and does what the answer says.
    pub(super) fn judge(&mut self, relay: &Relay, streams: Vec<Arc<Stream>>) {
        let Some(first) = streams.first() else { return };
        // What is read here is carried out before another round reads for this session: an older answer never
        // overtakes a newer.
        let _turn = relay.streams.turn(first.session.session());
        let (snapshot, now) = (relay.snapshot.load_full(), relay.clock.now());
        let mut answer = Answer::new(relay, first, &snapshot, now);
        for stream in streams {
            match &answer.outcome {
                _ if stream.is_cut() => relay.streams.retire(&stream),
                Ok(deadline) => {
                    relay.streams.set_deadline(&stream, *deadline);
                    answer.resumed += usize::from(stream.resume());
                    answer.going_on.push(stream);
                }
                Err(Denial { code, .. }) => match hold_until(&stream, *code, &snapshot, now) {
                    Some(until) => {
                        relay.streams.set_deadline(&stream, until);
                        answer.held = Some(until);
                        answer.holds += usize::from(stream.hold(now));
                    }
                    None => {
                        relay.streams.retire(&stream);
                        if stream.cut(*code, &self.tally) {
                            answer.cut += 1;
                            self.ending.push(stream);
                        }
                    }
                },
            }
        }
        self.answers.push(answer);
    }

    /// Writes the records, tells the sessions, waits for what was cut.
    pub(crate) async fn finish(self, relay: &Relay) -> Cutback {
        let Self { answers, ending, tally, clock } = self;
        let mut result = Cutback::default();
        for answer in &answers {
            result.add(&answer.app, answer.cut);
            result.held += answer.holds;
            result.resumed += answer.resumed;
            result.kept += answer.going_on.len() - answer.resumed;
        }
        let Records { records, unchanged } = records(&answers, clock, relay.clock.now());
        relay.limiters.unchanged.fetch_add(unchanged, Ordering::Relaxed);
        let (written, ()) = tokio::join!(written(relay, records), end(&ending));
        if written {
            // After the record: a decision that somebody is told is in the log.
            answers.iter().for_each(|answer| answer.tell(relay));
        } else {
            // What cannot be recorded is not allowed. The cuts stand: they take nothing that needs a record.
            for answer in &answers {
                for stream in &answer.going_on {
                    relay.streams.retire(stream);
                    result.add(&answer.app, usize::from(stream.cut(Code::AuditUnavailable, &tally)));
                    stream.wake();
                }
            }
        }
        tally.wait().await;
        result.slowest = Duration::from_nanos(tally.slowest.load(Ordering::SeqCst));
        result.unfinished = tally.open.load(Ordering::SeqCst);
        result
    }
}

/// Takes down what was cut, evenly over [`TAKEN_DOWN`] if it is much.
async fn end(streams: &[Arc<Stream>]) {
    let goes = usize::try_from(TAKEN_DOWN.as_millis() / PAUSE.as_millis()).unwrap_or(1);
    let mut pace = tokio::time::interval(PAUSE);
    // After a stall no go follows at the other's heels.
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for some in streams.chunks(streams.len().div_ceil(goes).max(AT_ONCE)) {
        pace.tick().await;
        some.iter().for_each(|stream| stream.wake());
    }
}

async fn written(relay: &Relay, records: Vec<Record>) -> bool {
    records.is_empty() || matches!(timeout(WRITTEN, relay.audit.record_all(records)).await, Ok(Ok(())))
}

/// What the log gets of a round.
struct Records {
    records: Vec<Record>,
    /// Answers that the log has already.
    unchanged: u64,
}

/// One record for each answer that changed something, and for each of the first that did not; the others are counted.
/// Where only time has passed, an answer that was recorded before is no news: streams that nobody uses would fill the disk.
fn records(answers: &[Answer], clock: bool, now: Timestamp) -> Records {
    let (mut records, mut recorded, mut decisions, mut streams, mut unchanged) = (Vec::new(), 0, 0, 0, 0);
    for answer in answers {
        let of = |event, streams| Record { event, streams: Some(streams), ..answer.record.clone() };
        if answer.cut > 0 {
            records.push(of(Event::StreamCut, answer.cut));
        }
        if answer.holds > 0 {
            records.push(of(Event::StreamHeld, answer.holds));
        }
        match answer.going_on.len() {
            0 => {}
            _ if clock && answer.is_recorded() => unchanged += 1,
            going_on if recorded < RECORDED => {
                recorded += 1;
                answer.going_on.iter().for_each(|stream| stream.recorded(&answer.record.policies));
                records.push(of(Event::Decision, going_on));
            }
            going_on => (decisions, streams) = (decisions + 1, streams + going_on),
        }
    }
    if decisions > 0 {
        let detail = format!("{decisions} more decisions of this round let {streams} live streams go on");
        records.push(Record::event(Event::Summary, now).detail(detail));
    }
    Records { records, unchanged }
}

impl Question {
    /// What `stream` asks whenever it is decided anew.
    pub(super) fn of(stream: &Stream) -> Self {
        let request = &stream.request;
        Self {
            session: Arc::as_ptr(&stream.session).addr(),
            device: Arc::as_ptr(&stream.device).addr(),
            app: request.app.clone(),
            action: request.action.clone(),
            host: request.host.clone(),
            source: request.source,
        }
    }
}

impl Answer {
    fn new(relay: &Relay, stream: &Stream, snapshot: &Snapshot, now: Timestamp) -> Self {
        let Credentials { session, device } = relay.streams.newest(stream);
        let (decision, posture) = (relay.clock.decision_id(), relay.postures.get(session.session()));
        let asked = Request { id: decision.clone(), within_rate: true, posture, ..stream.request.clone() };
        let decided = decide(&device, &session, &asked, snapshot, now);
        Self {
            session: session.session().clone(),
            app: asked.app.clone(),
            decision,
            record: Record::decision(&device, &session, &asked, &decided, now),
            outcome: decided.outcome.map(|permit| permit.deadline()),
            cut: 0,
            held: None,
            holds: 0,
            resumed: 0,
            going_on: Vec::new(),
        }
    }

    /// Does the log have it that all these streams go on, by these policies?
    fn is_recorded(&self) -> bool {
        self.resumed == 0 && self.going_on.iter().all(|stream| stream.is_recorded(&self.record.policies))
    }

    fn tell(&self, relay: &Relay) {
        let told = |event| relay.events.send(&self.session, event);
        let (app, decision) = (self.app.clone(), self.decision.clone());
        if self.resumed > 0 {
            told(RelayEvent::Resumed { app: app.clone() });
        }
        let Err(Denial { code, reason, fix, step_up }) = self.outcome.clone() else { return };
        if let Some(until) = self.held.filter(|_| self.holds > 0) {
            let (app, decision, reason, fix) = (app.clone(), decision.clone(), reason.clone(), fix.clone());
            let step_up = step_up.clone();
            told(RelayEvent::Held { app, decision, code, until, reason, fix, step_up });
        }
        if self.cut > 0 {
            told(RelayEvent::Cut { app, decision, code, reason, fix, step_up });
        }
    }
}

/// Until when the stream is held instead of being cut; nothing: it is to be cut.
fn hold_until(stream: &Stream, code: Code, snapshot: &Snapshot, now: Timestamp) -> Option<Timestamp> {
    let app = snapshot.apps().get(&stream.request.app)?;
    let OnLapse::Hold(most) = app.on_lapse else { return None };
    let until = stream.held_since().unwrap_or(now).plus(most);
    (is_mendable(code) && now < until).then_some(until)
}

/// Can the user, or the agent without them, set it right?
fn is_mendable(code: Code) -> bool {
    matches!(code, Code::TokenExpired | Code::StepUpRequired | Code::PostureStale)
}
