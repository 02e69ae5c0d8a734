//! A further sign-in for the session that lives, because a policy asks for a fresher or stronger one.

use crate::event::{Account, Effect, Task, Ticket};
use crate::turn::Turn;
use postern_protocol::{Code, Problem, Timestamp};
use std::time::Duration;

/// A person gets ten minutes from the task itself; this is the watchdog.
const LIMIT: Duration = Duration::from_secs(11 * 60);
/// After a step-up, well or badly ended, nobody but the user begins another for so long: a policy that a fresh sign-in
/// does not satisfy must not open one page after the other.
const PAUSE: Duration = Duration::from_secs(30);

/// What a person can do where no sign-in begins by itself.
pub const BY_HAND: &str = "Run: postern login (--no-browser prints the address, --device-code lets you sign in on another \
                           device). Then try again.";
/// What helps a service account.
pub const FOR_SERVICE: &str = "No sign-in of a service account is fresher or stronger. Ask your administrator for a policy \
                               that lets this account in.";

/// Where it stands.
#[derive(Debug, Default)]
pub(crate) struct StepUp {
    flight: Option<(Ticket, Timestamp)>,
    /// The provider vouched anew; the relay has yet to give a session token for it.
    proven: bool,
    not_before: Timestamp,
}

impl StepUp {
    pub(crate) fn is(&self, ticket: Ticket) -> bool {
        self.ticket() == Some(ticket)
    }

    pub(crate) fn ticket(&self) -> Option<Ticket> {
        self.flight.map(|(ticket, _)| ticket)
    }

    pub(crate) fn overdue(&self) -> Option<Timestamp> {
        self.flight.map(|(_, at)| at)
    }

    /// Somebody waits for one. `asked`: the user says so, who may start over at any time.
    pub(crate) fn wanted(&mut self, account: Account, asked: bool, turn: &mut Turn) {
        if account == Account::Service {
            let detail = "a service account signs in without a person";
            return refuse(required(detail, FOR_SERVICE), turn);
        }
        if !asked && self.is_under_way() {
            return;
        }
        if !asked && turn.now < self.not_before {
            let detail = "a sign-in was asked for a moment ago and did not settle it";
            return refuse(required(detail, BY_HAND), turn);
        }
        self.stop(turn);
        self.proven = false;
        self.flight = Some((turn.start(Task::StepUp), turn.now.plus(LIMIT)));
    }

    /// The provider vouched anew.
    pub(crate) fn prove(&mut self) {
        self.flight = None;
        self.proven = true;
    }

    /// It came to nothing, or too late.
    pub(crate) fn fail(&mut self, problem: Problem, turn: &mut Turn) {
        self.flight = None;
        self.proven = false;
        self.not_before = turn.now.plus(PAUSE);
        refuse(problem, turn);
    }

    /// Whoever was to sign in does not want to. What the relay is being shown already stands.
    pub(crate) fn give_up(&mut self, turn: &mut Turn) {
        if self.flight.is_some() {
            self.stop(turn);
            self.fail(Problem::new(Code::SignInCancelled), turn);
        }
    }

    /// The relay gave a session token: was it what somebody waits for?
    pub(crate) fn granted(&mut self, turn: &mut Turn) {
        if std::mem::take(&mut self.proven) {
            self.not_before = turn.now.plus(PAUSE);
            turn.effects.push(Effect::SteppedUp);
        }
    }

    /// Is there one whose end is yet to come?
    pub(crate) fn is_under_way(&self) -> bool {
        self.flight.is_some() || self.proven
    }

    /// Is the relay's answer to a new proof what somebody waits for?
    pub(crate) fn is_proven(&self) -> bool {
        self.proven
    }

    /// Stops what is under way.
    pub(crate) fn stop(&mut self, turn: &mut Turn) {
        if let Some((ticket, _)) = self.flight.take() {
            turn.cancel(ticket);
        }
    }
}

fn required(detail: &str, fix: &str) -> Problem {
    Problem::new(Code::StepUpRequired).detail(detail).advice(None, Some(fix.into()))
}

fn refuse(problem: Problem, turn: &mut Turn) {
    turn.effects.push(Effect::StepUpFailed { problem: Box::new(problem) });
}
