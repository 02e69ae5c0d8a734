//! Signing in at the provider, then enrolling at the relay.

use crate::duty::Duty;
use crate::event::{Account, Answer, Effect, Ending, Event, Task, Ticket, Tokens};
use crate::live::Live;
use crate::machine::State;
use crate::resting::Resting;
use crate::turn::Turn;
use crate::verdict::Verdict;
use postern_protocol::{Code, Problem, Timestamp, local};
use std::time::Duration;

/// A sign-in takes no longer than this, in whatever way it is done.
const SIGN_IN_LIMIT: Duration = Duration::from_secs(15 * 60);
/// The relay takes the sign-in's token for five minutes; tries to enrol end a little before.
const ENROLL_LIMIT: Duration = Duration::from_secs(4 * 60);
/// One try to enrol.
const ENROLL_TRY: Duration = Duration::from_secs(60);

/// A sign-in under way.
#[derive(Debug)]
pub(crate) struct SigningIn {
    account: Account,
    before: Resting,
    step: Step,
    /// When it counts as failed, whatever is under way.
    ends: Timestamp,
}

#[derive(Debug)]
enum Step {
    AtProvider { ticket: Ticket },
    Enrolling { tokens: Tokens, since: Timestamp, duty: Duty },
}

impl SigningIn {
    pub(crate) fn begin(account: Account, before: Resting, turn: &mut Turn) -> Self {
        let ticket = turn.start(Task::SignIn);
        Self { account, before, step: Step::AtProvider { ticket }, ends: turn.now.plus(SIGN_IN_LIMIT) }
    }

    pub(crate) fn handle(mut self: Box<Self>, event: Event, turn: &mut Turn) -> State {
        match event {
            // The newest attempt wins: a person who starts over has lost the page of the first.
            Event::SignIn { account } => {
                self.cancel(turn);
                return State::SigningIn(Box::new(Self::begin(account, self.before, turn)));
            }
            Event::CancelSignIn if self.waits_for_person() => {
                self.cancel(turn);
                return State::Resting(Box::new(self.before.given_up(turn.now)));
            }
            Event::SignOut => {
                self.cancel(turn);
                let problem = Box::new(Problem::new(Code::NotSignedIn));
                turn.effects.push(Effect::End { ending: Ending::SignedOut, problem });
                return State::Resting(Box::new(Resting::signed_out()));
            }
            Event::Answer { ticket, answer } if self.ticket() == Some(ticket) => match answer {
                Ok(answer) => return self.advance(answer, turn),
                Err(problem) => {
                    if let Some(problem) = self.setback(*problem, turn) {
                        return self.fail(problem, turn);
                    }
                }
            },
            _ => {}
        }
        self.keep_going(turn)
    }

    fn advance(self: Box<Self>, answer: Answer, turn: &mut Turn) -> State {
        match (&self.step, answer) {
            (Step::AtProvider { .. }, Answer::SignedIn(tokens)) => {
                let step = Step::Enrolling { tokens, since: turn.now, duty: Duty::new() };
                Box::new(Self { step, ends: turn.now.plus(ENROLL_LIMIT), ..*self }).keep_going(turn)
            }
            (Step::Enrolling { tokens, since, .. }, Answer::Enrolled(certificate)) => {
                Live::begin(self.account, *tokens, *since, certificate, turn)
            }
            _ => self.fail(Problem::new(Code::Internal).detail("a task gave another task's answer"), turn),
        }
    }

    /// Notes a failure; gives it back if it ends the sign-in.
    fn setback(&mut self, problem: Problem, turn: &mut Turn) -> Option<Problem> {
        match &mut self.step {
            Step::Enrolling { duty, .. } if Verdict::of(problem.code) == Verdict::Later => {
                duty.failed(turn.now, turn.random());
                // A wait that outlasts the token is a failure now.
                duty.opens(turn.now).is_none_or(|at| at >= self.ends).then_some(problem)
            }
            _ => Some(problem),
        }
    }

    /// Starts what is due, ends what takes too long.
    fn keep_going(mut self: Box<Self>, turn: &mut Turn) -> State {
        if self.ends <= turn.now {
            self.cancel(turn);
            return self.fail(Problem::new(Code::SignInTimeout), turn);
        }
        if let Step::Enrolling { duty, .. } = &mut self.step {
            if let (Some(ticket), Some(true)) = (duty.ticket(), duty.overdue().map(|at| at <= turn.now)) {
                turn.cancel(ticket);
                duty.failed(turn.now, turn.random());
            }
            if duty.opens(turn.now).is_some_and(|at| at <= turn.now) {
                duty.start(turn.start(Task::Enroll), Some(turn.now.plus(ENROLL_TRY)));
            }
        }
        State::SigningIn(self)
    }

    fn fail(self, problem: Problem, turn: &mut Turn) -> State {
        State::Resting(Box::new(self.before.refused(self.account, problem, turn)))
    }

    fn ticket(&self) -> Option<Ticket> {
        match &self.step {
            Step::AtProvider { ticket } => Some(*ticket),
            Step::Enrolling { duty, .. } => duty.ticket(),
        }
    }

    fn waits_for_person(&self) -> bool {
        self.account == Account::Person && matches!(self.step, Step::AtProvider { .. })
    }

    fn cancel(&self, turn: &mut Turn) {
        if let Some(ticket) = self.ticket() {
            turn.cancel(ticket);
        }
    }

    pub(crate) fn deadline(&self) -> Timestamp {
        match &self.step {
            Step::AtProvider { .. } => self.ends,
            Step::Enrolling { since, duty, .. } => {
                let next = duty.overdue().or_else(|| duty.opens(*since));
                next.unwrap_or(self.ends).min(self.ends)
            }
        }
    }

    pub(crate) fn state(&self) -> local::State {
        match self.step {
            Step::AtProvider { .. } => local::State::SigningIn,
            Step::Enrolling { .. } => local::State::Enrolling,
        }
    }
}
