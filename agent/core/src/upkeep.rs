//! What a living session needs done, and when each task may start.

use crate::duty::Duty;
use crate::event::{Task, Ticket};
use crate::lapse::Lapse;
use crate::live::Live;
use crate::turn::Turn;
use postern_protocol::{Code, Problem, Timestamp};
use std::time::Duration;

/// The duties of a living session. At most one task is at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Save,
    Refresh,
    Connect,
    Exchange,
    Lapse,
    Renew,
    Apps,
    Look,
    Posture,
    Events,
}

/// The device's posture is looked at this often: a change is told to the relay at once.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// The relay is told this often although nothing changed: a failed report can be repeated within the minute.
const REPORT_EVERY: Duration = Duration::from_secs(40);

impl Kind {
    const ALL: [Self; 10] = [
        Self::Save,
        Self::Refresh,
        Self::Connect,
        Self::Exchange,
        Self::Lapse,
        Self::Renew,
        Self::Apps,
        Self::Look,
        Self::Posture,
        Self::Events,
    ];

    /// How long a task may take before it counts as lost. Tasks have shorter limits of their own; saving may wait for
    /// a person to unlock the keyring, and listening is meant to last.
    const fn limit(self) -> Option<Duration> {
        match self {
            Self::Save => Some(Duration::from_secs(5 * 60)),
            Self::Refresh | Self::Renew | Self::Connect => Some(Duration::from_secs(60)),
            Self::Exchange | Self::Lapse | Self::Apps | Self::Look | Self::Posture => Some(Duration::from_secs(30)),
            Self::Events => None,
        }
    }

    /// What a task failed of that took too long.
    pub(crate) fn late(self) -> Problem {
        let code = match self {
            Self::Save => Code::KeyringLocked,
            Self::Refresh => Code::ProviderUnreachable,
            _ => Code::RelayUnreachable,
        };
        Problem::new(code).detail("no answer in time")
    }
}

/// Who is at what.
#[derive(Debug)]
pub(crate) struct Duties {
    save: Duty,
    refresh: Duty,
    connect: Duty,
    exchange: Duty,
    lapse: Duty,
    renew: Duty,
    apps: Duty,
    look: Duty,
    posture: Duty,
    events: Duty,
    /// The version of the secrets that is being saved.
    pub(crate) version_in_flight: u64,
    /// The certificate that the link under way is dialled with.
    pub(crate) certificate_in_flight: u64,
    /// The link that is listened on, if any is.
    pub(crate) listening_on: Option<Ticket>,
    /// When the exchange under way began.
    pub(crate) exchange_began: Timestamp,
    /// When the look or the report under way began.
    pub(crate) look_began: Timestamp,
    pub(crate) report_began: Timestamp,
}

impl Duties {
    pub(crate) fn new() -> Self {
        Self {
            save: Duty::patient(),
            refresh: Duty::new(),
            connect: Duty::new(),
            exchange: Duty::new(),
            lapse: Duty::new(),
            renew: Duty::new(),
            apps: Duty::new(),
            look: Duty::new(),
            posture: Duty::new(),
            events: Duty::new(),
            version_in_flight: 0,
            certificate_in_flight: 0,
            listening_on: None,
            exchange_began: Timestamp::default(),
            look_began: Timestamp::default(),
            report_began: Timestamp::default(),
        }
    }

    pub(crate) fn of(&mut self, kind: Kind) -> &mut Duty {
        match kind {
            Kind::Save => &mut self.save,
            Kind::Refresh => &mut self.refresh,
            Kind::Connect => &mut self.connect,
            Kind::Exchange => &mut self.exchange,
            Kind::Lapse => &mut self.lapse,
            Kind::Renew => &mut self.renew,
            Kind::Apps => &mut self.apps,
            Kind::Look => &mut self.look,
            Kind::Posture => &mut self.posture,
            Kind::Events => &mut self.events,
        }
    }

    fn get(&self, kind: Kind) -> &Duty {
        match kind {
            Kind::Save => &self.save,
            Kind::Refresh => &self.refresh,
            Kind::Connect => &self.connect,
            Kind::Exchange => &self.exchange,
            Kind::Lapse => &self.lapse,
            Kind::Renew => &self.renew,
            Kind::Apps => &self.apps,
            Kind::Look => &self.look,
            Kind::Posture => &self.posture,
            Kind::Events => &self.events,
        }
    }

    /// The duty that the task of this ticket is at. Answers of tasks that were cancelled belong to none.
    pub(crate) fn holder(&self, ticket: Ticket) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| self.get(*kind).ticket() == Some(ticket))
    }

    pub(crate) fn tickets(&self) -> impl Iterator<Item = Ticket> {
        Kind::ALL.into_iter().filter_map(|kind| self.get(kind).ticket())
    }

    pub(crate) fn overdue(&self, now: Timestamp) -> Vec<(Kind, Ticket)> {
        let late = |kind: &Kind| self.get(*kind).overdue().is_some_and(|at| at <= now);
        Kind::ALL.into_iter().filter(late).filter_map(|kind| Some((kind, self.get(kind).ticket()?))).collect()
    }

    /// Stops a task whose circumstances are gone. That is nobody's failure.
    pub(crate) fn abandon(&mut self, kind: Kind, turn: &mut Turn) {
        if let Some(ticket) = self.get(kind).ticket() {
            turn.cancel(ticket);
            self.of(kind).land();
        }
    }

    pub(crate) fn hurry(&mut self) {
        for kind in Kind::ALL {
            self.of(kind).hurry();
        }
    }
}

impl Live {
    /// When to look again: the first of all tasks to start, all watchdogs and all ends.
    pub(crate) fn deadline(&self, now: Timestamp) -> Timestamp {
        let starts = Kind::ALL.into_iter().filter_map(|kind| self.opens(kind, now));
        let watchdogs = Kind::ALL.into_iter().filter_map(|kind| self.duties.get(kind).overdue());
        let watchdogs = watchdogs.chain(self.step_up.overdue());
        let stale = Some(self.tokens.stale_at).filter(|at| *at > now);
        let ends = self.session.map(|session| session.ends).into_iter().chain(stale);
        let ends = ends.chain(self.lapse.as_ref().and_then(Lapse::ends));
        starts.chain(watchdogs).chain(ends).min().unwrap_or(self.certificate.ends).min(self.certificate.ends)
    }

    pub(crate) fn start_what_is_due(&mut self, turn: &mut Turn) {
        for kind in Kind::ALL {
            if self.opens(kind, turn.now).is_some_and(|at| at <= turn.now)
                && let Some(task) = self.task(kind)
            {
                self.note_start(kind, turn.now);
                let ticket = turn.start(task);
                self.duties.of(kind).start(ticket, kind.limit().map(|limit| turn.now.plus(limit)));
            }
        }
    }

    /// When a task may start: not while its conditions are unmet, another is at it, or a wait runs.
    fn opens(&self, kind: Kind, now: Timestamp) -> Option<Timestamp> {
        self.wanted(kind, now).and_then(|at| self.duties.get(kind).opens(at))
    }

    fn wanted(&self, kind: Kind, now: Timestamp) -> Option<Timestamp> {
        const AT_ONCE: Timestamp = Timestamp::from_millis(0);
        let unsaved = self.secrets.saved != self.secrets.version;
        match kind {
            Kind::Save => unsaved.then_some(AT_ONCE),
            // A refresh token is used only once it would not be lost with the process; but where the keyring refused it,
            // waiting would save nothing: what is stored there is spent already.
            Kind::Refresh => {
                let waits = unsaved && self.secrets.failed != self.secrets.version;
                (self.tokens.renewable && self.lapse.is_none() && !waits).then(|| self.refresh_wanted())
            }
            Kind::Connect => match self.newest {
                Some(link) if link.certificate == self.certificate.version && !link.outdated => None,
                _ => Some(AT_ONCE),
            },
            Kind::Exchange => self
                .exchange_wanted()
                .filter(|_| self.lapse.is_none())
                .map(|at| self.after_refresh(at))
                .filter(|_| now < self.tokens.stale_at),
            Kind::Lapse => self.lapse.as_ref().filter(|lapse| !lapse.waits()).and(self.session).map(|_| AT_ONCE),
            Kind::Renew => self.session.map(|_| self.certificate.renew_at),
            Kind::Apps => self.session.filter(|_| self.apps_stale).map(|_| AT_ONCE),
            Kind::Look => self.session.map(|_| self.posture.seen.plus(LOOK_EVERY)),
            Kind::Posture => self.session.map(|_| match self.posture.changed {
                true => AT_ONCE,
                false => self.posture.reported.plus(REPORT_EVERY),
            }),
            Kind::Events => self.session.map(|_| AT_ONCE),
        }
    }

    /// On schedule, or when an exchange is waiting for a token the relay would still take.
    fn refresh_wanted(&self) -> Timestamp {
        match self.exchange_wanted() {
            Some(exchange) => self.tokens.renew_at.min(exchange.max(self.tokens.stale_at)),
            None => self.tokens.renew_at,
        }
    }

    /// A renewal waits a while for a fresher token that is on its way: the session token will live longer for it.
    fn after_refresh(&self, wanted: Timestamp) -> Timestamp {
        match self.session {
            Some(session) if session.renew_at == wanted && self.duties.get(Kind::Refresh).ticket().is_some() => {
                wanted.plus(session.ends.since(wanted) / 2)
            }
            _ => wanted,
        }
    }

    fn exchange_wanted(&self) -> Option<Timestamp> {
        let newest = self.newest?;
        match self.session {
            Some(session) if session.link == newest.ticket => Some(session.renew_at),
            _ => Some(Timestamp::default()),
        }
    }

    fn task(&self, kind: Kind) -> Option<Task> {
        let in_use = self.session.map(|session| session.link);
        Some(match kind {
            Kind::Save => Task::Save,
            Kind::Refresh => Task::Refresh,
            Kind::Connect => Task::Connect,
            Kind::Exchange => Task::Exchange { link: self.newest?.ticket },
            Kind::Lapse => Task::Lapse { link: in_use? },
            Kind::Renew => Task::RenewCertificate { link: in_use? },
            Kind::Apps => Task::FetchApps { link: in_use? },
            Kind::Look => Task::LookAtPosture,
            Kind::Posture => Task::ReportPosture { link: in_use? },
            Kind::Events => Task::Listen { link: in_use? },
        })
    }

    /// Keeps what the answer will be about: by then the session may have moved on.
    fn note_start(&mut self, kind: Kind, now: Timestamp) {
        match kind {
            Kind::Save => self.duties.version_in_flight = self.secrets.version,
            Kind::Connect => self.duties.certificate_in_flight = self.certificate.version,
            Kind::Exchange => self.duties.exchange_began = now,
            Kind::Apps => self.apps_stale = false,
            Kind::Look => self.duties.look_began = now,
            Kind::Posture => self.duties.report_began = now,
            Kind::Events => self.duties.listening_on = self.session.map(|session| session.link),
            _ => {}
        }
    }
}
