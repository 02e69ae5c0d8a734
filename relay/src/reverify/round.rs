//! One round of re-checks: streams that ask the same question share its answer, and each answer is recorded once.

use crate::state::Relay;
use crate::streams::{Credentials, Stream};
use postern_protocol::control::RelayEvent;
use postern_protocol::{AppName, Code, DecisionId, SessionId, Timestamp};
use postern_relay_core::access::{Action, Request, Snapshot, decide};
use postern_relay_core::app::OnLapse;
use postern_relay_core::audit::{Event, Record};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long a round waits for what it cut.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cutback {
    /// Streams that it cut.
    pub cut: usize,
    /// Streams that it froze.
    pub held: usize,
    /// Streams that flow again.
    pub resumed: usize,
    /// Streams that go on as they were.
    pub kept: usize,
    /// From the cause to the end of the last stream that was cut, both directions and the upstream's socket.
    pub slowest: Duration,
    /// Streams that had not ended after a second.
    pub unfinished: usize,
}

/// A round under way.
pub(crate) struct Round {
    answers: HashMap<Question, Answer>,
    streams: Vec<Arc<Stream>>,
    tally: Arc<Tally>,
}

/// What makes two re-checks the same: of these and of the time the decision is a function.
#[derive(PartialEq, Eq, Hash)]
struct Question {
    /// The token and the device by address: they live in the answer.
    session: usize,
    device: usize,
    app: AppName,
    action: Action,
    host: String,
    source: IpAddr,
}

struct Answer {
    credentials: Credentials,
    asked: Request,
    outcome: Result<Timestamp, Code>,
    /// What the user is told besides the code: the policy author's reason and fix.
    advice: (Option<String>, Option<String>),
    record: Record,
    cut: usize,
    held: Option<Timestamp>,
    holds: usize,
    resumed: usize,
    kept: usize,
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
        let _some_are_left = tokio::time::timeout(PATIENCE, all).await;
    }
}

impl Round {
    /// A round for a cause that comes now.
    pub(super) fn new() -> Self {
        Self { answers: HashMap::new(), streams: Vec::new(), tally: Tally::new(Instant::now()) }
    }

    /// Decides `stream` anew and does what the answer says.
    pub(super) fn judge(&mut self, relay: &Relay, stream: &Arc<Stream>) {
        let credentials = relay.streams.newest(stream);
        let snapshot = relay.snapshot.load_full();
        let now = relay.clock.now();
        let question = Question::new(&credentials, &stream.request);
        let answer = self
            .answers
            .entry(question)
            .or_insert_with(|| Answer::new(relay, credentials, &stream.request, &snapshot, now));
        match answer.outcome {
            Ok(deadline) => {
                relay.streams.set_deadline(stream, deadline);
                *if stream.resume() { &mut answer.resumed } else { &mut answer.kept } += 1;
                self.streams.push(stream.clone());
            }
            Err(code) => match hold_until(stream, code, &snapshot, now) {
                Some(until) => {
                    relay.streams.set_deadline(stream, until);
                    answer.held = Some(until);
                    answer.holds += usize::from(stream.hold(now));
                }
                None => answer.cut += usize::from(stream.cut(code, &self.tally)),
            },
        }
    }

    /// Writes the records, tells the sessions, waits for what was cut.
    pub(crate) async fn finish(self, relay: &Relay) -> Cutback {
        let Self { answers, streams, tally } = self;
        let answers: Vec<Answer> = answers.into_values().filter(Answer::did_something).collect();
        let mut result = Cutback::default();
        for answer in &answers {
            result.cut += answer.cut;
            result.held += answer.holds;
            result.resumed += answer.resumed;
            result.kept += answer.kept;
        }
        let records: Vec<Record> = answers.iter().map(Answer::record).collect();
        if !records.is_empty() && relay.audit.record_all(records).await.is_err() {
            // What cannot be recorded is not allowed. The cuts stand: they take nothing that needs a record.
            for stream in &streams {
                result.cut += usize::from(stream.cut(Code::AuditUnavailable, &tally));
            }
        }
        // After the record: a decision that somebody is told is in the log.
        answers.iter().for_each(|answer| answer.tell(relay));
        tally.wait().await;
        result.slowest = Duration::from_nanos(tally.slowest.load(Ordering::SeqCst));
        result.unfinished = tally.open.load(Ordering::SeqCst);
        result
    }
}

impl Question {
    fn new(credentials: &Credentials, request: &Request) -> Self {
        Self {
            session: Arc::as_ptr(&credentials.session).addr(),
            device: Arc::as_ptr(&credentials.device).addr(),
            app: request.app.clone(),
            action: request.action.clone(),
            host: request.host.clone(),
            source: request.source,
        }
    }
}

impl Answer {
    fn new(relay: &Relay, credentials: Credentials, request: &Request, snapshot: &Snapshot, now: Timestamp) -> Self {
        let posture = relay.postures.get(credentials.session.session());
        let asked = Request { id: relay.clock.decision_id(), within_rate: true, posture, ..request.clone() };
        let decision = decide(&credentials.device, &credentials.session, &asked, snapshot, now);
        let record = Record::decision(&credentials.device, &credentials.session, &asked, &decision, now);
        let (outcome, advice) = match decision.outcome {
            Ok(permit) => (Ok(permit.deadline()), (None, None)),
            Err(denial) => (Err(denial.code), (denial.reason, denial.fix)),
        };
        Self { credentials, asked, outcome, advice, record, cut: 0, held: None, holds: 0, resumed: 0, kept: 0 }
    }

    fn tell(&self, relay: &Relay) {
        let (app, decision): (AppName, DecisionId) = (self.asked.app.clone(), self.asked.id.clone());
        let (reason, fix) = self.advice.clone();
        let session: &SessionId = self.credentials.session.session();
        if let (Err(code), true) = (self.outcome, self.cut > 0) {
            relay.events.send(
                session,
                RelayEvent::Cut {
                    app: app.clone(),
                    decision: decision.clone(),
                    code,
                    reason: reason.clone(),
                    fix: fix.clone(),
                },
            );
        }
        if let (Err(code), Some(until), true) = (self.outcome, self.held, self.holds > 0) {
            relay.events.send(session, RelayEvent::Held { app: app.clone(), decision, code, until, reason, fix });
        }
        if self.resumed > 0 {
            relay.events.send(session, RelayEvent::Resumed { app });
        }
    }

    /// Did it change or confirm anything?
    fn did_something(&self) -> bool {
        self.cut + self.holds + self.resumed + self.kept > 0
    }

    fn record(&self) -> Record {
        let (event, streams) = match (self.cut, self.holds) {
            (0, 0) => (Event::Decision, self.resumed + self.kept),
            (0, held) => (Event::StreamHeld, held),
            (cut, _) => (Event::StreamCut, cut),
        };
        Record { event, streams: Some(streams), ..self.record.clone() }
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
    matches!(code, Code::TokenExpired | Code::PostureStale)
}
