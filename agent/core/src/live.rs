//! Connecting, online, offline: a session lives, and the agent keeps all that it needs fresh.
//!
//! The three differ only in what is there (a link, a session token) and in what failed last, so they share this file;
//! what to start when is decided in `upkeep`.

mod again;
mod holdings;

pub(crate) use holdings::{Certificate, Link, Posture, ProviderTokens, Secrets, Session};

use crate::event::{Account, Answer, Effect, Ending, Event, Ticket, Tokens, Validity};
use crate::lapse::Lapse;
use crate::machine::State;
use crate::renewal;
use crate::resting::Resting;
use crate::step_up::StepUp;
use crate::turn::Turn;
use crate::upkeep::{Duties, Kind};
use crate::verdict::{Verdict, concerns_session};
use holdings::LONGEST_LIFE;
use postern_protocol::{Code, Problem, Timestamp, local};
use std::time::Duration;

/// A link that lived this long was good: losing it is no failure of dialling.
const STABLE: Duration = Duration::from_secs(60);
/// What lives shorter than this is no use, and renewing it would be a storm.
const SHORTEST_LIFE: Duration = Duration::from_secs(5);
/// The same for session tokens, which can be short when the provider's token is old.
const SHORTEST_GRANT: Duration = Duration::from_secs(1);
/// However often the data path complains, the session token is renewed at most this often.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);

/// A living session.
#[derive(Debug)]
pub(crate) struct Live {
    account: Account,
    pub(crate) tokens: ProviderTokens,
    pub(crate) certificate: Certificate,
    /// The link dialled last; the one in use until a session token is bound to this one may be older.
    pub(crate) newest: Option<Link>,
    pub(crate) session: Option<Session>,
    pub(crate) secrets: Secrets,
    pub(crate) apps_stale: bool,
    pub(crate) posture: Posture,
    pub(crate) duties: Duties,
    pub(crate) step_up: StepUp,
    pub(crate) lapse: Option<Lapse>,
    problem: Option<Problem>,
    save_problem: Option<Problem>,
}

/// Why a session is over.
type Over = (Ending, Problem);

impl Live {
    /// After a sign-in at `since` and an enrolment just now.
    pub(crate) fn begin(account: Account, tokens: Tokens, since: Timestamp, fresh: Validity, turn: &mut Turn) -> State {
        let tokens = ProviderTokens::new(tokens, since, turn.random());
        let certificate = Certificate::issued(0, fresh, turn);
        Self::enter(account, tokens, certificate, Secrets { version: 1, ..Secrets::default() }, turn)
    }

    /// After a restart: the provider has to give a fresh token first.
    pub(crate) fn resume(account: Account, kept: Validity, turn: &mut Turn) -> State {
        let never = Timestamp::default();
        let tokens = ProviderTokens { renewable: true, renew_at: never, stale_at: never, ends: never };
        let certificate = Certificate::kept(kept, turn);
        Self::enter(account, tokens, certificate, Secrets::default(), turn)
    }

    fn enter(
        account: Account,
        tokens: ProviderTokens,
        certificate: Certificate,
        secrets: Secrets,
        turn: &mut Turn,
    ) -> State {
        turn.halt(Problem::new(Code::RelayUnreachable).detail("the agent is connecting"));
        Box::new(Self {
            account,
            tokens,
            certificate,
            newest: None,
            session: None,
            secrets,
            apps_stale: true,
            posture: Posture::default(),
            duties: Duties::new(),
            step_up: StepUp::default(),
            lapse: None,
            problem: None,
            save_problem: None,
        })
        .settle(Ok(()), turn)
    }

    pub(crate) fn handle(mut self: Box<Self>, event: Event, turn: &mut Turn) -> State {
        let outcome = match event {
            Event::SignOut => Err((Ending::SignedOut, Problem::new(Code::NotSignedIn))),
            Event::StepUp { asked } => {
                self.want_step_up(asked, turn);
                Ok(())
            }
            Event::CancelSignIn => {
                self.step_up.give_up(turn);
                Ok(())
            }
            Event::Answer { ticket, answer } if self.step_up.is(ticket) => {
                self.stepped_up(answer, turn);
                Ok(())
            }
            Event::Answer { ticket, answer } => match self.duties.holder(ticket) {
                Some(kind) => match answer {
                    Ok(answer) => self.succeeded(kind, ticket, answer, turn),
                    Err(problem) => self.failed(kind, *problem, turn),
                },
                None => Ok(()),
            },
            Event::LinkClosed { link, problem } => self.link_closed(link, *problem, turn),
            Event::Revoked { code } => Err((Ending::Revoked, Problem::new(code))),
            Event::Refused { code } if concerns_session(code) => self.refused(code, turn),
            Event::AppsChanged => {
                self.apps_stale = true;
                Ok(())
            }
            Event::Draining => {
                self.outdate_link();
                Ok(())
            }
            // A sign-in while a session lives is someone asking whether it could be tried now.
            Event::SignIn { .. } if self.session.is_some() => Ok(()),
            Event::Woke | Event::SignIn { .. } => {
                self.certificate.renew_early(turn.now);
                self.outdate_link();
                self.duties.hurry();
                Ok(())
            }
            Event::Tick | Event::Refused { .. } | Event::Resume { .. } | Event::Remember { .. } => Ok(()),
        };
        self.settle(outcome, turn)
    }

    /// Goes on living, or comes to the end.
    fn settle(mut self: Box<Self>, outcome: Result<(), Over>, turn: &mut Turn) -> State {
        match outcome.and_then(|()| self.keep_up(turn)) {
            Ok(()) => State::Live(self),
            Err(over) => {
                let (ending, problem) = self.as_user_knows_it(over);
                self.duties.tickets().for_each(|ticket| turn.cancel(ticket));
                self.step_up.stop(turn);
                turn.effects.push(Effect::End { ending, problem: Box::new(problem.clone()) });
                State::Resting(Box::new(Resting::after(self.account, ending, problem, turn)))
            }
        }
    }

    /// Of a session that ends because the provider refused, the relay only says that it is over.
    fn as_user_knows_it(&mut self, (ending, problem): Over) -> Over {
        match self.lapse.take() {
            Some(lapse) if problem.code == Code::SessionRevoked => (Ending::Expired, lapse.problem),
            _ => (ending, problem),
        }
    }

    fn succeeded(&mut self, kind: Kind, ticket: Ticket, answer: Answer, turn: &mut Turn) -> Result<(), Over> {
        match (kind, answer) {
            (Kind::Save, Answer::Saved) => {
                self.secrets.saved = self.duties.version_in_flight;
                self.save_problem = None;
                self.duties.of(Kind::Save).done();
            }
            (Kind::Connect, Answer::Connected) => self.connected(ticket, turn),
            (Kind::Refresh, Answer::Refreshed(tokens)) if tokens.fresh_for >= SHORTEST_LIFE => {
                self.tokens = ProviderTokens::new(tokens, turn.now, turn.random());
                self.secrets.version += u64::from(tokens.rotated);
                self.duties.of(Kind::Refresh).done();
            }
            (Kind::Exchange, Answer::Granted { lifetime }) if lifetime >= SHORTEST_GRANT => {
                self.granted(lifetime, turn);
            }
            // The relay cuts the session token's life where the provider's token is about to be too old.
            (Kind::Exchange, Answer::Granted { .. }) => {
                return self.failed(kind, Problem::new(Code::IdentityTokenStale), turn);
            }
            (Kind::Lapse, Answer::Lapsed { held_for }) => return self.lapsed(held_for, turn),
            (Kind::Renew, Answer::Renewed(validity)) if validity.remaining >= SHORTEST_LIFE => {
                self.certificate = Certificate::issued(self.certificate.version + 1, validity, turn);
                self.secrets.version += 1;
                self.duties.of(Kind::Renew).done();
            }
            (Kind::Apps, Answer::AppsFetched) => self.duties.of(Kind::Apps).done(),
            (Kind::Look, Answer::PostureSeen { changed }) => {
                self.posture.seen = self.duties.look_began;
                self.posture.changed = changed;
                self.duties.of(Kind::Look).done();
            }
            (Kind::Posture, Answer::PostureReported) => {
                self.posture.told(self.duties.report_began);
                self.duties.of(Kind::Posture).done();
            }
            (Kind::Refresh, Answer::Refreshed(tokens)) => {
                // What the provider gave replaces the old token even where it is of no use for the relay.
                self.secrets.version += u64::from(tokens.rotated);
                return self.failed(kind, Problem::new(Code::IdentityTokenStale), turn);
            }
            _ => return self.failed(kind, Problem::new(Code::Internal).detail("an answer made no sense"), turn),
        }
        Ok(())
    }

    fn connected(&mut self, ticket: Ticket, turn: &mut Turn) {
        let certificate = self.duties.certificate_in_flight;
        let link = Link { ticket, certificate, since: turn.now, outdated: false };
        if let Some(old) = self.newest.replace(link) {
            self.duties.abandon(Kind::Exchange, turn);
            self.release_unless_used(old.ticket, turn);
        }
        self.duties.of(Kind::Connect).land();
    }

    fn granted(&mut self, lifetime: Duration, turn: &mut Turn) {
        // The relay counts from some moment after the question left: counting from the question errs on the safe side.
        let (began, life) = (self.duties.exchange_began, lifetime.min(LONGEST_LIFE));
        self.duties.of(Kind::Exchange).done();
        // An exchange tells the posture too.
        self.posture.told(began);
        let Some(link) = self.newest.map(|link| link.ticket) else { return };
        let session = Session {
            link,
            granted: turn.now,
            renew_at: renewal::due(began, life, turn.random()),
            ends: began.plus(life),
        };
        let old = self.session.replace(session);
        turn.effects.push(Effect::Carry { link });
        if let Some(old) = old.filter(|old| old.link != link) {
            self.abandon_session_work(turn);
            turn.effects.push(Effect::Release { link: old.link });
        }
        if self.duties.listening_on != Some(link) {
            self.duties.abandon(Kind::Events, turn);
        }
        self.problem = None;
        // More may be open after a fresher or stronger sign-in.
        self.apps_stale |= self.step_up.is_proven();
        self.step_up.granted(turn);
    }

    fn failed(&mut self, kind: Kind, problem: Problem, turn: &mut Turn) -> Result<(), Over> {
        self.duties.of(kind).land();
        let verdict = Verdict::of(problem.code);
        if kind == Kind::Save {
            // However the keyring fails, the session goes on from memory and saving is tried again.
            self.save_problem = Some(problem);
            self.secrets.failed = self.duties.version_in_flight;
            self.duties.of(kind).failed(turn.now, turn.random());
            return Ok(());
        }
        // Whatever the relay makes of it: what the provider said stands.
        if let (Kind::Lapse, Some(lapse)) = (kind, &self.lapse) {
            return Err((Ending::Expired, lapse.problem.clone()));
        }
        if self.lapses(kind, &problem, turn) {
            return Ok(());
        }
        match verdict {
            // Before there is a link nobody has shown to be the relay: no word of theirs ends a session.
            _ if kind == Kind::Connect => self.duties.of(kind).failed(turn.now, turn.random()),
            Verdict::Revoked => return Err((Ending::Revoked, problem)),
            Verdict::SignIn => return Err((Ending::Expired, problem)),
            // A provider's page of maintenance passes sooner than a proof becomes stale.
            Verdict::Stop if kind != Kind::Refresh => self.duties.of(kind).stopped(turn.now),
            _ => self.duties.of(kind).failed(turn.now, turn.random()),
        }
        if verdict == Verdict::Renew {
            match kind {
                Kind::Exchange | Kind::Refresh => self.tokens.stale_at = turn.now,
                _ => self.renew_soon(turn),
            }
        }
        if kind == Kind::Exchange && self.step_up.is_proven() && verdict != Verdict::Later {
            self.step_up.fail(problem.clone(), turn);
        }
        if matches!(kind, Kind::Connect | Kind::Exchange | Kind::Refresh) {
            self.report(problem, turn);
        }
        Ok(())
    }

    /// The session token is of no more use; the link is.
    fn drop_session(&mut self, why: Problem, turn: &mut Turn) {
        let Some(session) = self.session.take() else { return };
        self.abandon_session_work(turn);
        self.report(why, turn);
        if self.newest.is_none_or(|newest| newest.ticket != session.link) {
            turn.effects.push(Effect::Release { link: session.link });
        }
    }

    /// Tells those who ask for the data path why there is none.
    fn report(&mut self, problem: Problem, turn: &mut Turn) {
        if self.session.is_none() {
            turn.halt(problem.clone());
        }
        self.problem = Some(problem);
    }

    fn link_closed(&mut self, link: Ticket, problem: Problem, turn: &mut Turn) -> Result<(), Over> {
        let newest = self.newest.filter(|newest| newest.ticket == link);
        let in_use = self.session.is_some_and(|session| session.link == link);
        if newest.is_none() && !in_use {
            return Ok(());
        }
        match Verdict::of(problem.code) {
            Verdict::Revoked => return Err((Ending::Revoked, problem)),
            Verdict::SignIn => return Err((Ending::Expired, problem)),
            _ => {}
        }
        if let Some(lost) = newest {
            self.newest = None;
            self.duties.abandon(Kind::Exchange, turn);
            if turn.now.since(lost.since) >= STABLE {
                self.duties.of(Kind::Connect).hurry();
            } else if self.duties.of(Kind::Connect).ticket().is_none() {
                self.duties.of(Kind::Connect).failed(turn.now, turn.random());
            }
        }
        if self.duties.listening_on == Some(link) {
            self.duties.abandon(Kind::Events, turn);
        }
        if in_use {
            self.session = None;
            self.abandon_session_work(turn);
            self.report(problem, turn);
        }
        Ok(())
    }

    fn refused(&mut self, code: Code, turn: &Turn) -> Result<(), Over> {
        match Verdict::of(code) {
            Verdict::Revoked => return Err((Ending::Revoked, Problem::new(code))),
            Verdict::SignIn => return Err((Ending::Expired, Problem::new(code))),
            Verdict::Renew => self.renew_soon(turn),
            Verdict::Later | Verdict::Stop => {}
        }
        Ok(())
    }

    fn renew_soon(&mut self, turn: &Turn) {
        if let Some(session) = &mut self.session {
            session.renew_at = session.renew_at.min(turn.now.max(session.granted.plus(RENEWAL_PAUSE)));
        }
    }

    fn outdate_link(&mut self) {
        if let Some(link) = &mut self.newest {
            link.outdated = true;
        }
    }

    /// Ends what can no longer be used, then starts what is due.
    fn keep_up(&mut self, turn: &mut Turn) -> Result<(), Over> {
        if self.certificate.ends <= turn.now {
            let detail = "the agent was off or away for longer than the certificate lasts";
            return Err((Ending::Expired, Problem::new(Code::CertificateExpired).detail(detail)));
        }
        if self.session.is_some_and(|session| session.ends <= turn.now) {
            let problem = self.problem.take().unwrap_or_else(|| Problem::new(Code::TokenExpired));
            self.drop_session(problem, turn);
        }
        if let Some(lapse) = &self.lapse {
            let over = match lapse.ends() {
                // With the last connection the held streams went, and without a token the relay cannot be told.
                Some(ends) => ends <= turn.now || self.newest.is_none(),
                None => self.session.is_none(),
            };
            if over {
                return Err((Ending::Expired, lapse.problem.clone()));
            }
        } else if self.session.is_none() && !self.tokens.renewable && self.tokens.stale_at <= turn.now {
            let problem = self.problem.take().unwrap_or_else(|| Problem::new(Code::IdentityTokenStale));
            return Err((Ending::Expired, problem));
        }
        for (kind, ticket) in self.duties.overdue(turn.now) {
            turn.cancel(ticket);
            self.failed(kind, kind.late(), turn)?;
        }
        if let (Some(ticket), true) = (self.step_up.ticket(), self.step_up.overdue().is_some_and(|at| at <= turn.now)) {
            turn.cancel(ticket);
            self.step_up.fail(Problem::new(Code::SignInTimeout), turn);
        }
        self.start_what_is_due(turn);
        let shows = self.duties.of(Kind::Exchange).ticket().is_some();
        if self.step_up.is_proven() && !shows && !self.tokens.renewable && self.tokens.stale_at <= turn.now {
            // The proof aged before the relay was shown it, and there is no other.
            self.step_up.fail(Problem::new(Code::IdentityTokenStale), turn);
        }
        Ok(())
    }

    /// Listening goes on: what becomes of live streams is told also while there is no good token.
    fn abandon_session_work(&mut self, turn: &mut Turn) {
        for kind in [Kind::Renew, Kind::Apps, Kind::Look, Kind::Posture] {
            self.duties.abandon(kind, turn);
        }
        self.apps_stale = true;
    }

    fn release_unless_used(&self, link: Ticket, turn: &mut Turn) {
        if self.session.is_none_or(|session| session.link != link) {
            turn.effects.push(Effect::Release { link });
        }
    }

    pub(crate) fn state(&self) -> local::State {
        match (&self.session, &self.problem) {
            _ if self.is_lapsed() => local::State::Expired,
            (Some(_), _) => local::State::Online,
            (None, None) => local::State::Connecting,
            (None, Some(_)) => local::State::Offline,
        }
    }

    pub(crate) fn problem(&self) -> Option<&Problem> {
        self.problem.as_ref().filter(|_| self.session.is_none()).or(self.save_problem.as_ref())
    }

    /// When the session ends unless the person signs in again; nothing where it renews itself.
    pub(crate) fn ends(&self) -> Option<Timestamp> {
        match &self.lapse {
            Some(lapse) => lapse.ends(),
            // The last session token may outlive the proof that it was given for.
            None if !self.tokens.renewable => {
                Some(self.session.map_or(self.tokens.ends, |session| session.ends.max(self.tokens.ends)))
            }
            None => None,
        }
    }

    pub(crate) fn token_ends(&self) -> Option<Timestamp> {
        self.session.map(|session| session.ends)
    }
}
