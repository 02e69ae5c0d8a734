//! The state machine of one agent: which state it is in, and which state handles what happens.

use crate::event::{Effect, Event, Moment};
use crate::live::Live;
use crate::resting::Resting;
use crate::sign_in::SigningIn;
use crate::turn::Turn;
use postern_protocol::{Code, Problem, Timestamp, local};

/// All that the agent decides about its session.
#[derive(Debug)]
pub struct Machine {
    state: State,
    tickets: u64,
    latest: Timestamp,
}

/// Each variant lives in a file of its own.
#[derive(Debug)]
pub(crate) enum State {
    /// Signed out, expired or revoked: only a sign-in leads on.
    Resting(Box<Resting>),
    /// Signing in or enrolling.
    SigningIn(Box<SigningIn>),
    /// Connecting, online or offline.
    Live(Box<Live>),
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// Nobody is signed in.
    pub fn new() -> Self {
        Self { state: State::Resting(Box::new(Resting::at_start())), tickets: 0, latest: Timestamp::default() }
    }

    /// Takes an event; says what to do now. A time before that of the last event counts as that time.
    pub fn handle(&mut self, event: Event, moment: Moment) -> Vec<Effect> {
        self.latest = self.latest.max(moment.now);
        let mut turn = Turn::new(Moment { now: self.latest, ..moment }, &mut self.tickets);
        let state = std::mem::replace(&mut self.state, State::Resting(Box::new(Resting::signed_out())));
        if let (Event::StepUp { .. }, State::Resting(_) | State::SigningIn(_)) = (&event, &state) {
            turn.effects.push(Effect::StepUpFailed { problem: Box::new(Problem::new(Code::NotSignedIn)) });
        }
        self.state = match state {
            State::Resting(resting) => resting.handle(event, &mut turn),
            State::SigningIn(signing_in) => signing_in.handle(event, &mut turn),
            State::Live(live) => live.handle(event, &mut turn),
        };
        turn.effects
    }

    /// When to send [`Event::Tick`]: always later than the last event. `None`: not before something happens.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        match &self.state {
            State::Resting(resting) => resting.deadline(),
            State::SigningIn(signing_in) => Some(signing_in.deadline()),
            State::Live(live) => Some(live.deadline(self.latest)),
        }
    }

    /// The state, in the words of the local API.
    pub fn state(&self) -> local::State {
        match &self.state {
            State::Resting(resting) => resting.state(),
            State::SigningIn(signing_in) => signing_in.state(),
            State::Live(live) => live.state(),
        }
    }

    /// Why the agent is not online, where there is a reason to tell.
    pub fn problem(&self) -> Option<&Problem> {
        match &self.state {
            State::Resting(resting) => resting.problem(),
            State::SigningIn(_) => None,
            State::Live(live) => live.problem(),
        }
    }

    /// Has the provider refused to renew the sign-in of the session that lives?
    pub fn is_refused(&self) -> bool {
        matches!(&self.state, State::Live(live) if live.lapse.is_some())
    }

    /// Does the session wait for its user to sign in again, while the relay holds live streams?
    pub fn is_lapsed(&self) -> bool {
        matches!(&self.state, State::Live(live) if live.is_lapsed())
    }

    /// When the session ends unless its user signs in again, on the machine's clock; nothing where it renews itself.
    pub fn ends(&self) -> Option<Timestamp> {
        match &self.state {
            State::Live(live) => live.ends(),
            _ => None,
        }
    }

    /// When the session token in use ends, on the machine's clock.
    pub fn token_ends(&self) -> Option<Timestamp> {
        match &self.state {
            State::Live(live) => live.token_ends(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
