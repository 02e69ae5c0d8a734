//! A shell made of maps: it runs no task, but holds the machine to its promises after every event.

use crate::event::{Account, Answer, Effect, Ending, Event, Moment, Task, Ticket, Tokens, Validity};
use crate::machine::Machine;
use postern_protocol::{Code, Problem, Timestamp, local};
use std::collections::{BTreeMap, BTreeSet};
use std::mem::discriminant;
use std::time::Duration;

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);

pub(super) struct World {
    pub(super) machine: Machine,
    pub(super) now: Timestamp,
    pub(super) flights: BTreeMap<Ticket, (Task, Timestamp)>,
    pub(super) links: BTreeSet<Ticket>,
    /// The link that requests travel over.
    pub(super) carrying: Option<Ticket>,
    pub(super) log: Vec<(Event, Moment)>,
    pub(super) effects: Vec<Effect>,
    pub(super) started: Vec<(Timestamp, Task)>,
    pub(super) ended: Option<Ending>,
    random: u64,
    /// A refresh token was given that would be lost with the process.
    unsaved: bool,
    unsaved_since_save_began: bool,
    /// The keyring refused the newest.
    save_failed: bool,
    token_stale_at: Timestamp,
    session_token_ends: Timestamp,
    /// The posture that the relay knows is of this time.
    posture_of: Timestamp,
    /// Somebody waits for a step-up.
    pub(super) waiting: bool,
    /// So it was before the last wish for one.
    waited: bool,
    /// A step-up brought new tokens, which the relay has not yet taken.
    proven: bool,
    /// When a step-up ended last.
    step_up_ended: Option<Timestamp>,
    service: bool,
    /// The session waits for its user.
    lapsed: bool,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            machine: Machine::new(),
            now: Timestamp::from_seconds(1_800_000_000),
            flights: BTreeMap::new(),
            links: BTreeSet::new(),
            carrying: None,
            log: Vec::new(),
            effects: Vec::new(),
            started: Vec::new(),
            ended: None,
            random: 1,
            unsaved: false,
            unsaved_since_save_began: false,
            save_failed: false,
            token_stale_at: Timestamp::default(),
            session_token_ends: Timestamp::default(),
            posture_of: Timestamp::default(),
            waiting: false,
            waited: false,
            proven: false,
            step_up_ended: None,
            service: false,
            lapsed: false,
        }
    }

    /// Sends an event and checks everything that must hold after it.
    pub(super) fn send(&mut self, event: Event) {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let moment = Moment { now: self.now, random: self.random };
        self.note(&event);
        let effects = self.machine.handle(event.clone(), moment);
        for effect in &effects {
            self.check(effect, &event);
        }
        self.log.push((event, moment));
        self.effects.extend(effects);
        self.check_standing();
    }

    /// What the world itself knows to have changed by this event.
    fn note(&mut self, event: &Event) {
        match event {
            Event::Answer { ticket, answer } => {
                let Some((task, began)) = self.flights.remove(ticket) else { return };
                match (task, answer) {
                    (Task::SignIn, Ok(Answer::SignedIn(tokens))) | (Task::Refresh, Ok(Answer::Refreshed(tokens))) => {
                        self.token_stale_at = self.now.plus(tokens.fresh_for);
                        if tokens.rotated {
                            self.change_secrets();
                        }
                    }
                    (Task::Enroll, Ok(Answer::Enrolled(_)))
                    | (Task::RenewCertificate { .. }, Ok(Answer::Renewed(_))) => {
                        self.change_secrets();
                    }
                    (Task::StepUp, Ok(Answer::SteppedUp(tokens))) => {
                        self.token_stale_at = self.now.plus(tokens.fresh_for);
                        (self.proven, self.lapsed) = (true, false);
                        if tokens.rotated {
                            self.change_secrets();
                        }
                    }
                    (Task::Lapse { .. }, Ok(Answer::Lapsed { held_for: Some(_) })) => self.lapsed = true,
                    (Task::Save, Ok(Answer::Saved)) => self.unsaved = self.unsaved_since_save_began,
                    (Task::Save, _) => self.save_failed = !self.unsaved_since_save_began,
                    (Task::Connect, Ok(Answer::Connected)) => {
                        self.links.insert(*ticket);
                    }
                    (Task::Exchange { .. }, Ok(Answer::Granted { lifetime })) if lifetime.as_secs() >= 1 => {
                        self.session_token_ends = began.plus(*lifetime);
                        self.posture_of = began;
                    }
                    (Task::ReportPosture { .. }, Ok(Answer::PostureReported)) => self.posture_of = began,
                    _ => {}
                }
            }
            Event::StepUp { .. } => (self.waited, self.waiting) = (self.waiting, true),
            Event::LinkClosed { link, .. } => {
                self.links.remove(link);
                self.carrying = self.carrying.filter(|used| used != link);
            }
            _ => {}
        }
    }

    fn change_secrets(&mut self) {
        (self.unsaved, self.unsaved_since_save_began, self.save_failed) = (true, true, false);
    }

    fn check(&mut self, effect: &Effect, cause: &Event) {
        match effect {
            Effect::Do { ticket, task } => self.check_start(*ticket, *task, cause),
            Effect::Cancel { ticket } => {
                let stopped = self.flights.remove(ticket);
                assert!(stopped.is_some(), "cancelled a task that does not run: {ticket:?}");
                if matches!(stopped, Some((Task::Save, _))) {
                    self.save_failed = !self.unsaved_since_save_began;
                }
            }
            Effect::Carry { link } => {
                assert!(self.links.contains(link), "carries over a link that is gone");
                self.carrying = Some(*link);
            }
            Effect::Halt { .. } => self.carrying = None,
            Effect::Release { link } => {
                assert_ne!(self.carrying, Some(*link), "let go of the link in use");
                self.links.remove(link);
            }
            Effect::SteppedUp => {
                assert!(self.waiting && self.proven, "a step-up that nobody made is over");
                assert!(self.carrying.is_some(), "stepped up without a session token");
                (self.waiting, self.proven, self.step_up_ended) = (false, false, Some(self.now));
            }
            Effect::StepUpFailed { .. } => {
                (self.waiting, self.proven) = (false, false);
                if !matches!(cause, Event::StepUp { .. }) {
                    self.step_up_ended = Some(self.now);
                }
            }
            Effect::End { ending, .. } => {
                (self.waiting, self.proven, self.lapsed) = (false, false, false);
                assert!(self.flights.is_empty(), "the session ended with tasks running: {:?}", self.flights);
                self.ended = Some(*ending);
                // The next session's user has just signed in by their own hand: what was asked in this one does not bind it.
                self.step_up_ended = None;
                self.carrying = None;
                self.links.clear();
                self.unsaved = false;
            }
        }
    }

    fn check_start(&mut self, ticket: Ticket, task: Task, cause: &Event) {
        let same = |(other, _): &&(Task, Timestamp)| discriminant(other) == discriminant(&task);
        assert!(!self.flights.values().any(|flight| same(&flight)), "two of {task:?} at once");
        if self.ended == Some(Ending::Revoked) {
            let asked = matches!((task, cause), (Task::SignIn, Event::SignIn { .. }));
            assert!(asked, "after a revocation {task:?} was begun because of {cause:?}");
        }
        match task {
            Task::SignIn => self.ended = None,
            Task::Refresh => assert!(!self.unsaved || self.save_failed, "a refresh token is used before it was saved"),
            Task::Save => self.unsaved_since_save_began = false,
            Task::Exchange { link } => {
                assert!(self.now < self.token_stale_at, "an exchange with a token the relay would refuse");
                assert!(self.links.contains(&link), "an exchange over a link that is gone");
            }
            Task::RenewCertificate { link }
            | Task::Lapse { link }
            | Task::FetchApps { link }
            | Task::ReportPosture { link }
            | Task::Listen { link } => {
                assert_eq!(self.carrying, Some(link), "{task:?} without a session");
                assert!(self.now < self.session_token_ends, "{task:?} with a session token that has ended");
            }
            Task::StepUp => {
                assert!(self.carrying.is_some() || self.waited || self.lapsed, "a step-up without a session");
                let Event::StepUp { asked } = cause else { panic!("a step-up that nobody wants: {cause:?}") };
                assert!(!self.service, "nobody is there to sign a service account in");
                let pause = self.step_up_ended.map(|at| self.now.since(at));
                assert!(*asked || pause.is_none_or(|pause| pause >= Duration::from_secs(30)), "again after {pause:?}");
                self.proven = false;
            }
            Task::LookAtPosture => assert!(self.carrying.is_some(), "a look at the posture that nobody asks for"),
            Task::Enroll | Task::Connect => {}
        }
        assert!(self.flights.insert(ticket, (task, self.now)).is_none(), "a ticket was used twice");
        self.started.push((self.now, task));
    }

    /// What must hold whenever the machine has come to rest.
    fn check_standing(&self) {
        let (state, deadline) = (self.machine.state(), self.machine.next_deadline());
        if let Some(deadline) = deadline {
            assert!(deadline > self.now, "{state:?} asks to be woken in the past: {deadline} at {}", self.now);
        }
        assert_eq!(self.machine.is_lapsed(), self.lapsed);
        let resting = matches!(state, local::State::SignedOut | local::State::Expired | local::State::Revoked);
        let resting = resting && !self.lapsed;
        assert!(resting || deadline.is_some(), "{state:?} waits for nothing");
        assert!(!resting || self.flights.is_empty(), "{state:?} has tasks: {:?}", self.flights);
        assert_eq!(state == local::State::Online, self.carrying.is_some(), "the state tells another story");
        assert_eq!(self.machine.token_ends().is_some(), self.carrying.is_some());
        let stepping = self.flights.values().any(|(task, _)| matches!(task, Task::StepUp));
        assert_eq!(self.waiting, stepping || self.proven, "somebody waits for a step-up in vain");
        if self.carrying.is_some() {
            assert!(self.now < self.session_token_ends, "requests travel with a session token that has ended");
        }
    }

    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.send(Event::Answer { ticket, answer: Ok(answer) });
    }

    pub(super) fn refuse(&mut self, ticket: Ticket, code: Code) {
        self.send(Event::Answer { ticket, answer: Err(Box::new(Problem::new(code))) });
    }

    /// Who the next session is of, as far as the world can tell: the machine may stay with the one before.
    pub(super) fn note_account(&mut self, account: Account) {
        self.service &= account == Account::Service;
    }

    /// How old the posture is that the relay knows.
    pub(super) fn posture_age(&self) -> Duration {
        self.now.since(self.posture_of)
    }

    /// The running task of this kind.
    pub(super) fn running(&self, wanted: fn(&Task) -> bool) -> Option<Ticket> {
        self.flights.iter().find(|(_, (task, _))| wanted(task)).map(|(ticket, _)| *ticket)
    }

    /// Lets the clock run to the next deadline.
    pub(super) fn tick(&mut self) {
        if let Some(deadline) = self.machine.next_deadline() {
            self.now = self.now.max(deadline);
        }
        self.send(Event::Tick);
    }

    /// Answers every running task but listening as a world would in which all goes well.
    pub(super) fn all_goes_well(&mut self) {
        while let Some((&ticket, &(task, _))) =
            self.flights.iter().find(|(_, (t, _))| !matches!(t, Task::Listen { .. }))
        {
            self.answer(ticket, good_answer(task));
        }
    }

    /// As after a sign-in in which all went well.
    pub(super) fn online(account: Account) -> Self {
        let mut world = Self { service: account == Account::Service, ..Self::new() };
        world.send(Event::SignIn { account });
        world.all_goes_well();
        assert_eq!(world.machine.state(), local::State::Online);
        world
    }

    pub(super) fn started_since(&self, since: usize, wanted: fn(&Task) -> bool) -> usize {
        self.started.iter().skip(since).filter(|(_, task)| wanted(task)).count()
    }
}

pub(super) fn good_answer(task: Task) -> Answer {
    let tokens = Tokens { fresh_for: 15 * MINUTE, renewable: true, rotated: true };
    let day = Validity { age: Duration::ZERO, remaining: 24 * HOUR };
    match task {
        Task::SignIn => Answer::SignedIn(tokens),
        Task::StepUp => Answer::SteppedUp(tokens),
        Task::Enroll => Answer::Enrolled(day),
        Task::Save => Answer::Saved,
        Task::Connect => Answer::Connected,
        Task::Refresh => Answer::Refreshed(tokens),
        Task::Exchange { .. } => Answer::Granted { lifetime: 5 * MINUTE },
        Task::RenewCertificate { .. } => Answer::Renewed(day),
        Task::Lapse { .. } => Answer::Lapsed { held_for: Some(10 * MINUTE) },
        Task::LookAtPosture => Answer::PostureSeen { changed: false },
        Task::ReportPosture { .. } => Answer::PostureReported,
        Task::FetchApps { .. } | Task::Listen { .. } => Answer::AppsFetched,
    }
}
