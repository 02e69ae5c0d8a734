//! The one task that owns the machine, the session's secrets and the links.

use super::clock::{self, Clock};
use super::effects::{Dialled, Granted};
use super::held::Held;
use super::login::Login;
use super::outcome::Outcome;
use super::record::Record;
use super::resume::Resuming;
use super::setup::Setup;
use super::status;
use super::step_up::SteppingUp;
use crate::doctor::Patient;
use crate::link::Link;
use crate::uplink::Uplink;
use aws_lc_rs::rand;
use futures_util::future::{BoxFuture, Shared};
use postern_agent_core::{Event, Machine, Moment, Task, Ticket};
use postern_protocol::control::{Posture, RelayEvent};
use postern_protocol::local::{LoginEvent, LoginRequest, SignedOut, State, Status};
use postern_protocol::{Code, Problem, Retry, StepUp, Timestamp};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

/// Timers stand still while some systems sleep: this often the driver looks whether the clock went on without it.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a shutdown waits for secrets to be safe.
const SECRETS_LIMIT: Duration = Duration::from_secs(3);

/// What the driver is told.
pub(super) enum Message {
    Login { request: Box<LoginRequest>, steps: mpsc::Sender<LoginEvent> },
    CancelLogin { reply: oneshot::Sender<()> },
    Logout { reply: oneshot::Sender<Result<SignedOut, Problem>> },
    Renew { code: Code, reply: oneshot::Sender<Result<(), Problem>> },
    Refused { code: Code },
    StepUp { wanted: StepUp, waits: bool, reply: oneshot::Sender<Result<(), Problem>> },
    Examine { reply: oneshot::Sender<Patient> },
    Shutdown { reply: oneshot::Sender<()> },
    Done { ticket: Ticket, outcome: Result<Outcome, Problem> },
    LinkClosed { link: Ticket, problem: Problem },
    Told { event: RelayEvent },
    Resumed { result: Result<Option<Box<Held>>, Problem> },
}

/// A task under way.
pub(super) struct Running {
    pub(super) task: Task,
    pub(super) abort: AbortHandle,
}

pub(super) struct Driver {
    pub(super) setup: Arc<Setup>,
    pub(super) uplink: Arc<Uplink>,
    pub(super) machine: Machine,
    pub(super) clock: Clock,
    pub(super) now: Timestamp,
    pub(super) held: Option<Held>,
    /// The service account's key, which its administrator registers before it can sign in.
    pub(super) service_key: Option<String>,
    /// What is known of the last session and relay when none is held.
    pub(super) remembered: Option<Record>,
    pub(super) tasks: HashMap<Ticket, Running>,
    pub(super) links: HashMap<Ticket, Dialled>,
    /// Links let go of, on which streams may still live.
    pub(super) released: Vec<Weak<Link>>,
    pub(super) granted: Option<Granted>,
    /// When the last session token ends, by the system's clock; known also while there is no link.
    pub(super) token_ends: Option<Timestamp>,
    /// When the session ends unless its user signs in again: by the machine's clock, and so by the system's.
    ends: Option<(Timestamp, Timestamp)>,
    /// The same as the relay tells it, by the system's clock.
    pub(super) relay_ends: Option<Timestamp>,
    pub(super) step_up: SteppingUp,
    /// The relay knows that the provider refuses, and ends the session by itself.
    pub(super) lapse_told: bool,
    /// The posture that the relay was told last in this session.
    pub(super) posture: Option<Posture>,
    /// The last sign-in that was asked for, and who waits for it.
    pub(super) request: LoginRequest,
    pub(super) login: Option<Login>,
    pub(super) resuming: Option<Resuming>,
    pub(super) renewals: Vec<oneshot::Sender<Result<(), Problem>>>,
    pub(super) logout: Option<oneshot::Sender<Result<SignedOut, Problem>>>,
    /// What the session before leaves behind is being wiped; done for ever once done.
    pub(super) cleanup: Option<Shared<BoxFuture<'static, ()>>>,
    status: watch::Sender<Status>,
    messages: mpsc::Receiver<Message>,
    /// For the tasks; weak, so that the engine ends with its last handle.
    inbox: mpsc::WeakSender<Message>,
}

impl Driver {
    pub(super) fn new(
        setup: Arc<Setup>,
        uplink: Arc<Uplink>,
        messages: mpsc::Receiver<Message>,
        inbox: mpsc::WeakSender<Message>,
    ) -> Self {
        let mut clock = Clock::start();
        let now = clock.read().now;
        Self {
            setup,
            uplink,
            machine: Machine::new(),
            clock,
            now,
            held: None,
            service_key: None,
            remembered: None,
            tasks: HashMap::new(),
            links: HashMap::new(),
            released: Vec::new(),
            granted: None,
            token_ends: None,
            ends: None,
            relay_ends: None,
            step_up: SteppingUp::default(),
            lapse_told: false,
            posture: None,
            request: super::login::unasked(),
            login: None,
            resuming: None,
            renewals: Vec::new(),
            logout: None,
            cleanup: None,
            status: watch::Sender::new(status::signed_out()),
            messages,
            inbox,
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    pub(super) async fn run(mut self) {
        loop {
            let rest = self.rest();
            let message = tokio::select! {
                message = self.messages.recv() => match message {
                    Some(message) => Some(message),
                    None => break,
                },
                () = tokio::time::sleep(rest) => None,
            };
            let reading = self.clock.read();
            self.now = reading.now;
            if reading.jumped {
                tracing::info!("the clock jumped, perhaps over a sleep: connecting anew");
                self.handle(Event::Woke);
            }
            match message {
                Some(Message::Shutdown { reply }) => {
                    self.finish_secrets().await;
                    self.stop();
                    let _ = reply.send(());
                    break;
                }
                Some(message) => self.receive(message),
                None => {}
            }
            self.tick();
            self.publish();
        }
        self.stop();
    }

    /// How long nothing needs to be done.
    fn rest(&self) -> Duration {
        let deadlines = [self.machine.next_deadline(), self.login.as_ref().and_then(Login::gives_up)];
        deadlines.into_iter().flatten().map(|at| at.since(self.now)).chain([HEARTBEAT]).min().unwrap_or(HEARTBEAT)
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Login { request, steps } => self.log_in(*request, steps),
            Message::CancelLogin { reply } => {
                self.cancel_login();
                let _ = reply.send(());
            }
            Message::Logout { reply } => {
                self.logout = Some(reply);
                self.handle(Event::SignOut);
            }
            Message::Renew { code, reply } => self.renew(code, reply),
            Message::StepUp { wanted, waits, reply } => self.want_step_up(wanted, waits, reply),
            Message::Examine { reply } => drop(reply.send(self.patient())),
            Message::Refused { code } => self.handle(Event::Refused { code }),
            Message::Done { ticket, outcome } => self.done(ticket, outcome),
            Message::LinkClosed { link, problem } => {
                tracing::info!(code = %problem.code, detail = problem.detail, "a connection ended");
                self.links.remove(&link);
                self.handle(Event::LinkClosed { link, problem: Box::new(problem) });
            }
            Message::Told { event } => self.told(event),
            Message::Resumed { result } => self.resumed(result),
            Message::Shutdown { .. } => {}
        }
    }

    fn renew(&mut self, code: Code, reply: oneshot::Sender<Result<(), Problem>>) {
        if self.machine.state() != State::Online {
            let problem = self.machine.problem().cloned().unwrap_or_else(|| Problem::new(code));
            let _ = reply.send(Err(problem));
            return;
        }
        self.renewals.retain(|waiting| !waiting.is_closed());
        self.renewals.push(reply);
        self.handle(Event::Refused { code });
    }

    fn told(&mut self, event: RelayEvent) {
        match event {
            RelayEvent::Alive => {}
            RelayEvent::Revoked { code } => {
                tracing::warn!(%code, "the relay revoked this session");
                let known = matches!(code, Code::PrincipalRevoked | Code::DeviceRevoked);
                self.handle(Event::Revoked { code: if known { code } else { Code::SessionRevoked } });
            }
            RelayEvent::Cut { app, decision, code, reason, fix, step_up } => {
                let problem = Problem::new(code).decision(decision).step_up(step_up.clone()).advice(reason, fix);
                self.uplink.cut(app, self.advised(problem));
                if let Some(wanted) = step_up {
                    self.cut_for_step_up(wanted);
                }
                self.renew_for_streams(code);
            }
            RelayEvent::Held { app, decision, code, until, reason, fix, step_up } => {
                tracing::warn!(%app, %code, %until, "streams are held until this is mended");
                let problem = Problem::new(code).decision(decision).step_up(step_up.clone()).advice(reason, fix);
                self.uplink.held(app, self.advised(problem), until);
                if let Some(wanted) = step_up {
                    self.held_for_step_up(wanted);
                }
                self.renew_for_streams(code);
            }
            RelayEvent::Resumed { app } => {
                tracing::info!(%app, "streams that were held flow again");
                self.uplink.resumed(app);
            }
            RelayEvent::AppsChanged => self.handle(Event::AppsChanged),
            RelayEvent::Draining => self.handle(Event::Draining),
        }
    }

    /// Streams were cut or held for want of a newer token: nobody need make a request first for one to be fetched.
    fn renew_for_streams(&mut self, code: Code) {
        if code.retry() == Retry::AfterRenewal {
            self.handle(Event::Refused { code });
        }
    }

    /// Hands an event to the machine and does what it says.
    pub(super) fn handle(&mut self, event: Event) {
        let mut random = [0; 8];
        if rand::fill(&mut random).is_err() {
            tracing::warn!("no randomness: waits are not spread");
        }
        let moment = Moment { now: self.now, random: u64::from_ne_bytes(random) };
        let before = self.machine.state();
        for effect in self.machine.handle(event, moment) {
            self.apply(effect);
        }
        let after = self.machine.state();
        if before != after {
            let code = self.machine.problem().map(|problem| problem.code.as_str());
            tracing::info!(state = ?after, code, "the session's state changed");
        }
        if matches!(after, State::SignedOut | State::Expired | State::Revoked) {
            self.drop_unfinished();
        }
        self.settle_login();
    }

    pub(super) fn tick(&mut self) {
        if self.machine.next_deadline().is_some_and(|at| at <= self.now) {
            self.handle(Event::Tick);
        }
        self.settle_login();
    }

    pub(super) fn publish(&mut self) {
        self.note_end();
        let current = self.status();
        self.status.send_if_modified(|known| {
            let changed = *known != current;
            if changed {
                *known = current;
            }
            changed
        });
    }

    /// Notes the session's end by the clock that people read, once for each end: read twice it would seem to move.
    fn note_end(&mut self) {
        let ends = self.machine.ends();
        if self.ends.map(|(machine, _)| machine) != ends {
            self.ends = ends.map(|at| (at, clock::wall().plus(at.since(self.now)).minus(self.now.since(at))));
        }
    }

    /// When the session ends unless its user signs in again, by the system's clock.
    pub(super) fn session_ends(&self) -> Option<Timestamp> {
        self.ends.map(|(_, wall)| wall).into_iter().chain(self.relay_ends).min()
    }

    /// Runs `work` as the task of `ticket`.
    pub(super) fn spawn(&mut self, ticket: Ticket, task: Task, work: BoxFuture<'static, Result<Outcome, Problem>>) {
        let Some(inbox) = self.inbox.upgrade() else { return };
        let running = tokio::spawn(async move {
            let outcome = work.await;
            let _ = inbox.send(Message::Done { ticket, outcome }).await;
        });
        self.tasks.insert(ticket, Running { task, abort: running.abort_handle() });
    }

    pub(super) fn inbox(&self) -> Option<mpsc::Sender<Message>> {
        self.inbox.upgrade()
    }

    /// Lets a refresh and a save that are under way come to their end: a refresh token that is spent, or replaced and not
    /// yet kept, would cost the user a sign-in.
    async fn finish_secrets(&mut self) {
        let until = tokio::time::Instant::now() + SECRETS_LIMIT;
        while self.tasks.values().any(|running| matches!(running.task, Task::Refresh | Task::Save)) {
            match tokio::time::timeout_at(until, self.messages.recv()).await {
                Ok(Some(Message::Done { ticket, outcome })) => self.done(ticket, outcome),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn stop(&mut self) {
        self.tasks.drain().for_each(|(_, running)| running.abort.abort());
        self.resuming = None;
        let why = Problem::new(Code::AgentNotRunning);
        self.uplink.set(None, why);
        for (_, dialled) in self.links.drain() {
            dialled.link.close();
        }
        self.released.drain(..).filter_map(|link| link.upgrade()).for_each(|link| link.close());
    }
}
