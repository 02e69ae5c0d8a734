//! Signed out, expired, revoked: nobody's requests travel, and only a sign-in leads on.

use crate::duty::Duty;
use crate::event::{Account, Effect, Ending, Event};
use crate::live::Live;
use crate::machine::State;
use crate::sign_in::SigningIn;
use crate::turn::Turn;
use crate::verdict::Verdict;
use postern_protocol::{Code, Problem, Timestamp, local};
use std::time::Duration;

/// The least there is between now and what is to be woken for.
const NEXT: Duration = Duration::from_millis(1);

/// No session.
#[derive(Debug)]
pub(crate) struct Resting {
    ending: Ending,
    problem: Option<Problem>,
    /// When a service account signs in by itself, and how often that failed.
    again: Option<(Timestamp, Duty)>,
    /// Nothing has happened yet: only now is a kept session taken up.
    at_start: bool,
}

impl Resting {
    pub(crate) fn at_start() -> Self {
        Self { at_start: true, ..Self::signed_out() }
    }

    pub(crate) fn signed_out() -> Self {
        Self { ending: Ending::SignedOut, problem: None, again: None, at_start: false }
    }

    /// After a session. An expired service account comes back by itself; nobody comes back so from a revocation.
    pub(crate) fn after(account: Account, ending: Ending, problem: Problem, turn: &mut Turn) -> Self {
        let again = (account == Account::Service && ending == Ending::Expired).then(|| {
            let mut duty = Duty::new();
            duty.failed(turn.now, turn.random());
            (turn.now, duty)
        });
        let problem = (ending != Ending::SignedOut).then_some(problem);
        Self { ending, problem, again, at_start: false }
    }

    /// A sign-in from here did not work: as before, with the newer reason. A service account tries again by itself.
    pub(crate) fn refused(mut self, account: Account, problem: Problem, turn: &mut Turn) -> Self {
        self.at_start = false;
        if account == Account::Service && self.ending != Ending::Revoked && self.again.is_none() {
            self.again = Some((turn.now, Duty::new()));
        }
        if let Some((_, duty)) = &mut self.again {
            match Verdict::of(problem.code) {
                Verdict::Later => duty.failed(turn.now, turn.random()),
                // Asking often with credentials that were refused is how clients get locked.
                _ => duty.stopped(turn.now),
            }
        }
        // A revocation stays the better explanation than whatever failed after it.
        if self.ending != Ending::Revoked {
            self.problem = Some(problem);
        }
        self
    }

    /// Whoever began to sign in from here did not want to after all: all is as it was. A service account whose turn came
    /// meanwhile has it next.
    pub(crate) fn given_up(self, now: Timestamp) -> Self {
        let again = self.again.map(|(from, duty)| (from.max(now.plus(NEXT)), duty));
        Self { at_start: false, again, ..self }
    }

    pub(crate) fn handle(self: Box<Self>, event: Event, turn: &mut Turn) -> State {
        match event {
            Event::SignIn { account } => State::SigningIn(Box::new(SigningIn::begin(account, *self, turn))),
            Event::Resume { account, certificate } if self.at_start => Live::resume(account, certificate, turn),
            Event::Remember { account, ending, problem } if self.at_start => {
                turn.halt((*problem).clone());
                State::Resting(Box::new(Self::after(account, ending, *problem, turn)))
            }
            // Signing out of an expired session wipes what it left behind.
            Event::SignOut => {
                let problem = Box::new(Problem::new(Code::NotSignedIn));
                turn.effects.push(Effect::End { ending: Ending::SignedOut, problem });
                State::Resting(Box::new(Self::signed_out()))
            }
            Event::Tick | Event::Woke if self.deadline().is_some_and(|at| at <= turn.now) => {
                State::SigningIn(Box::new(SigningIn::begin(Account::Service, *self, turn)))
            }
            _ => State::Resting(self),
        }
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.again.as_ref().and_then(|(from, duty)| duty.opens(*from))
    }

    pub(crate) fn state(&self) -> local::State {
        match self.ending {
            Ending::SignedOut => local::State::SignedOut,
            Ending::Expired => local::State::Expired,
            Ending::Revoked => local::State::Revoked,
        }
    }

    pub(crate) fn problem(&self) -> Option<&Problem> {
        self.problem.as_ref()
    }
}
