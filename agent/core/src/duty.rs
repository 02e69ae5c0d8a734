//! One thing the agent keeps done: tried by at most one task at a time, later and later after failures.

use crate::backoff::Backoff;
use crate::event::Ticket;
use postern_protocol::Timestamp;
use std::time::Duration;

/// First and longest wait between two tries.
const BASE: Duration = Duration::from_millis(500);
const CAP: Duration = Duration::from_secs(60);
/// The same for what may put a question to a person each time.
const PATIENT_BASE: Duration = Duration::from_secs(5);
const PATIENT_CAP: Duration = Duration::from_secs(10 * 60);
/// The wait where nothing the agent does can help.
const STOPPED: Duration = Duration::from_secs(15 * 60);

/// A duty: whether a task is at it, and when the next may be.
#[derive(Clone, Debug)]
pub(crate) struct Duty {
    flight: Option<Flight>,
    not_before: Timestamp,
    backoff: Backoff,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    ticket: Ticket,
    overdue: Option<Timestamp>,
}

impl Duty {
    pub(crate) fn new() -> Self {
        Self { flight: None, not_before: Timestamp::default(), backoff: Backoff::new(BASE, CAP) }
    }

    pub(crate) fn patient() -> Self {
        Self { backoff: Backoff::new(PATIENT_BASE, PATIENT_CAP), ..Self::new() }
    }

    /// The task at it, if any.
    pub(crate) fn ticket(&self) -> Option<Ticket> {
        self.flight.map(|flight| flight.ticket)
    }

    /// When the task at it counts as lost: the watchdog that keeps a state from waiting for ever.
    pub(crate) fn overdue(&self) -> Option<Timestamp> {
        self.flight.and_then(|flight| flight.overdue)
    }

    /// When a task that is wanted from `wanted` on may start; never while another is at it.
    pub(crate) fn opens(&self, wanted: Timestamp) -> Option<Timestamp> {
        self.flight.is_none().then(|| wanted.max(self.not_before))
    }

    pub(crate) fn start(&mut self, ticket: Ticket, overdue: Option<Timestamp>) {
        self.flight = Some(Flight { ticket, overdue });
    }

    /// The task came to a good end.
    pub(crate) fn done(&mut self) {
        self.land();
        self.backoff.reset();
    }

    /// The task came to an end of which it is too early to say whether it lasts: the waits do not shrink yet.
    pub(crate) fn land(&mut self) {
        self.flight = None;
        self.not_before = Timestamp::default();
    }

    /// The task failed, but trying again can help.
    pub(crate) fn failed(&mut self, now: Timestamp, random: u64) {
        self.flight = None;
        self.not_before = now.plus(self.backoff.next(random));
    }

    /// The task failed and the cause lies elsewhere.
    pub(crate) fn stopped(&mut self, now: Timestamp) {
        self.flight = None;
        self.not_before = now.plus(STOPPED);
    }

    /// Circumstances changed: no wait from before counts.
    pub(crate) fn hurry(&mut self) {
        self.not_before = Timestamp::default();
        self.backoff.reset();
    }
}
