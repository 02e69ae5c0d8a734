//! Signing in again while a session lives: because a policy asks for it, or because the provider refreshes no longer.

use super::holdings::LONGEST_LIFE;
use super::{Live, Over, ProviderTokens, SHORTEST_LIFE};
use crate::event::{Account, Answer, Effect, Ending};
use crate::lapse::Lapse;
use crate::turn::Turn;
use crate::upkeep::Kind;
use postern_protocol::{Code, Problem};
use std::time::Duration;

impl Live {
    pub(super) fn want_step_up(&mut self, asked: bool, turn: &mut Turn) {
        // Without a session token nothing was refused for want of a better one; but a lapsed session wants one itself.
        if self.session.is_some() || self.step_up.is_under_way() || (asked && self.is_lapsed()) {
            self.step_up.wanted(self.account, asked, turn);
        } else {
            let problem = self.problem.clone().unwrap_or_else(|| Problem::new(Code::RelayUnreachable));
            turn.effects.push(Effect::StepUpFailed { problem: Box::new(problem) });
        }
    }

    /// The new tokens replace the old ones, and the relay is shown them at once.
    pub(super) fn stepped_up(&mut self, answer: Result<Answer, Box<Problem>>, turn: &mut Turn) {
        let tokens = match answer {
            Ok(Answer::SteppedUp(tokens)) => tokens,
            Ok(_) => return self.step_up.fail(Problem::new(Code::Internal).detail("an answer made no sense"), turn),
            Err(problem) => return self.step_up.fail(*problem, turn),
        };
        // What is under way with the tokens of before would bring back what they say of the user.
        self.duties.abandon(Kind::Refresh, turn);
        self.duties.abandon(Kind::Exchange, turn);
        self.tokens = ProviderTokens::new(tokens, turn.now, turn.random());
        self.secrets.version += u64::from(tokens.rotated);
        self.duties.abandon(Kind::Lapse, turn);
        self.lapse = None;
        if tokens.fresh_for < SHORTEST_LIFE {
            return self.step_up.fail(Problem::new(Code::IdentityTokenStale), turn);
        }
        self.step_up.prove();
        self.duties.of(Kind::Exchange).hurry();
        if let Some(session) = &mut self.session {
            session.renew_at = turn.now;
        }
    }

    /// Could live streams be held until the user has signed in again?
    fn can_lapse(&self) -> bool {
        self.account == Account::Person && self.session.is_some()
    }

    /// Can only its user go on with the session, and may it wait for them? Then it does from now on.
    pub(super) fn lapses(&mut self, kind: Kind, problem: &Problem, turn: &mut Turn) -> bool {
        let wants_its_user = matches!(
            (kind, problem.code),
            (Kind::Refresh, Code::RefreshRefused) | (Kind::Exchange, Code::StepUpRequired)
        );
        if !wants_its_user || !self.can_lapse() {
            return false;
        }
        self.duties.abandon(Kind::Exchange, turn);
        if self.step_up.is_proven() {
            self.step_up.fail(problem.clone(), turn);
        }
        self.lapse = Some(Lapse::begin(problem.clone()));
        true
    }

    pub(crate) fn is_lapsed(&self) -> bool {
        self.lapse.as_ref().is_some_and(Lapse::waits)
    }

    /// The relay knows: either everything waits for the user now, or the session is over.
    pub(super) fn lapsed(&mut self, held_for: Option<Duration>, turn: &mut Turn) -> Result<(), Over> {
        self.duties.of(Kind::Lapse).done();
        let Some(lapse) = &mut self.lapse else { return Ok(()) };
        let problem = lapse.problem.clone();
        let Some(held_for) = held_for else { return Err((Ending::Expired, problem)) };
        lapse.wait(turn.now, held_for.min(LONGEST_LIFE));
        self.drop_session(problem, turn);
        Ok(())
    }
}
