//! A policy asked for a fresher or stronger sign-in: who waits for it, and the sign-in itself.

use super::driver::Driver;
use super::held::Held;
use super::outcome::Outcome;
use super::sign_in::prompt_event;
use crate::oidc::{Again, Browser, DevicePrompt, Provider, SignedIn};
use aws_lc_rs::rand;
use futures_util::future::BoxFuture;
use postern_agent_core::{Account, Event, FOR_SERVICE};
use postern_protocol::binding::{self, Salt};
use postern_protocol::control::Principal;
use postern_protocol::local::{LoginEvent, LoginMethod, State};
use postern_protocol::{AppName, Code, Problem, StepUp, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use url::Url;

/// This long after a refusal a sign-in by hand is taken for the one that it asked for.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);
/// Most characters of what a relay may ask a provider for.
const MAX_ACR: usize = 512;

/// How the person signs in.
enum Way {
    Page(Browser),
    DeviceCode,
}

/// Who waits for which sign-in.
#[derive(Default)]
pub(super) struct SteppingUp {
    waiting: Vec<oneshot::Sender<Result<(), Problem>>>,
    /// What was asked for last, and when.
    wanted: Option<(StepUp, Timestamp)>,
    /// One is under way, or is being shown to the relay.
    pub(super) runs: bool,
    /// It is the user's own: how it is shown, and that they are told of its end.
    by_hand: Option<LoginMethod>,
    /// It is to prolong the session.
    prolongs: bool,
}

impl Driver {
    /// A request was refused that this sign-in would let through. Without `waits` whoever asks only wants to know whether
    /// it begins.
    pub(super) fn want_step_up(&mut self, wanted: StepUp, waits: bool, reply: oneshot::Sender<Result<(), Problem>>) {
        self.step_up.waiting.retain(|waiting| !waiting.is_closed());
        self.step_up.waiting.push(reply);
        self.step_up.wanted = Some((wanted, self.now));
        self.handle(Event::StepUp { asked: false });
        // Who was refused at once is no longer among those who wait.
        if !waits && let Some(reply) = self.step_up.waiting.pop() {
            let _ = reply.send(Ok(()));
        }
    }

    /// Live streams were cut for want of this sign-in: it is for the user to begin.
    pub(super) fn cut_for_step_up(&mut self, wanted: StepUp) {
        if !self.step_up.runs {
            self.step_up.wanted = Some((wanted, self.now));
        }
    }

    /// The advice of a refusal is for people; and the relay cannot know that a token will not be renewed by itself.
    pub(super) fn advised(&self, problem: Problem) -> Problem {
        if problem.code == Code::TokenExpired && self.machine.is_refused() {
            return problem.advice(None, Some("The provider ended the sign-in. Sign in again: postern login".into()));
        }
        let service = self.held.as_ref().is_some_and(|held| held.account == Account::Service);
        if service && problem.code == Code::StepUpRequired {
            return problem.advice(None, Some(FOR_SERVICE.into()));
        }
        problem
    }

    /// Live streams wait for this sign-in.
    pub(super) fn held_for_step_up(&mut self, wanted: StepUp) {
        self.step_up.wanted = Some((wanted, self.now));
        self.handle(Event::StepUp { asked: false });
    }

    /// Someone signs in while a session lives: is it for what was asked of them, or because it lapsed?
    pub(super) fn steps_up_by_hand(&mut self, method: LoginMethod) -> bool {
        let asked = self.step_up.wanted.as_ref().is_some_and(|(_, at)| self.now.since(*at) < REMEMBERED);
        let person = self.held.as_ref().is_some_and(|held| held.account == Account::Person);
        let wanted = self.machine.is_lapsed() || (asked && self.machine.state() == State::Online);
        if !wanted || !person {
            return false;
        }
        self.step_up.by_hand = Some(method);
        self.step_up.prolongs = false;
        self.handle(Event::StepUp { asked: true });
        true
    }

    /// Someone signs in again to prolong the session that lives, and as `app` wants it.
    pub(super) fn prolong(&mut self, method: LoginMethod, app: Option<&AppName>) {
        if self.held.as_ref().is_some_and(|held| held.account == Account::Service) {
            let detail = "a service account's session renews itself, and no sign-in of a person prolongs it";
            return self.fail_login(Problem::new(Code::RequestInvalid).detail(detail));
        }
        let apps = self.uplink.apps();
        if let Some(wanted) = app.and_then(|app| apps.iter().find(|entry| entry.name == *app)?.step_up.clone()) {
            self.step_up.wanted = Some((wanted, self.now));
        }
        self.step_up.by_hand = Some(method);
        self.step_up.prolongs = true;
        self.handle(Event::StepUp { asked: true });
    }

    /// What the sign-in is to be like. A fresh one can be what a policy asked for as well.
    fn wanted_again(&self) -> Again {
        let wanted = self.step_up.wanted.as_ref();
        let recent = wanted.filter(|(_, at)| self.now.since(*at) < REMEMBERED).map(|(wanted, _)| wanted.clone());
        match (self.step_up.prolongs, recent) {
            (true, Some(wanted)) => Again::Wanted(StepUp { max_age: Some(0), ..wanted }),
            (true, None) => Again::ToProlong,
            (false, _) => Again::Wanted(wanted.map(|(wanted, _)| wanted.clone()).unwrap_or_default()),
        }
    }

    /// The task.
    pub(super) fn step_up_work(&mut self) -> Option<BoxFuture<'static, Result<Outcome, Problem>>> {
        let held = self.held.clone()?;
        let wanted = self.wanted_again();
        self.step_up.runs = true;
        let way = match (self.step_up.by_hand, self.request.method) {
            (Some(LoginMethod::DeviceCode), _) => Way::DeviceCode,
            (Some(LoginMethod::NoBrowser), _) => Way::Page(Browser::Shown),
            // Whoever signed in elsewhere would not see a page that opens here.
            (None, LoginMethod::DeviceCode) => {
                let detail = "the session was signed in with a code, on another device";
                return Some(Box::pin(async move { Err(Problem::new(Code::BrowserUnavailable).detail(detail)) }));
            }
            _ => Way::Page(Browser::System),
        };
        let steps = self.login.as_ref().filter(|_| self.step_up.by_hand.is_some()).map(|login| login.steps.clone());
        Some(Box::pin(async move {
            let signed_in = sign_in_again(&held, &wanted, way, steps).await?;
            Ok(Outcome::SteppedUp(Box::new(signed_in)))
        }))
    }

    pub(super) fn stepped_up(&mut self) {
        self.step_up.wanted = None;
        self.end_step_up(&Ok(()));
    }

    pub(super) fn step_up_failed(&mut self, problem: Problem) {
        tracing::info!(code = %problem.code, detail = problem.detail, "no fresh sign-in");
        if self.step_up.by_hand.is_some() {
            self.fail_login(problem.clone());
        }
        self.end_step_up(&Err(problem));
    }

    /// Tells everyone who waits, for good or bad.
    pub(super) fn end_step_up(&mut self, how: &Result<(), Problem>) {
        (self.step_up.runs, self.step_up.by_hand, self.step_up.prolongs) = (false, None, false);
        for waiting in self.step_up.waiting.drain(..) {
            let _ = waiting.send(how.clone());
        }
    }
}

/// The same person signs in once more, as fresh or strong as `wanted` says.
async fn sign_in_again(
    held: &Held,
    wanted: &Again,
    way: Way,
    steps: Option<mpsc::Sender<LoginEvent>>,
) -> Result<(Arc<Provider>, SignedIn), Problem> {
    let acr_values = match wanted {
        Again::Wanted(StepUp { acr_values, .. }) => acr_values.as_deref(),
        Again::ToProlong => None,
    };
    if acr_values.is_some_and(|values| values.len() > MAX_ACR) {
        return Err(Problem::new(Code::RequestInvalid).detail("the relay asks for more than a provider would read"));
    }
    let sign_in = &held.relay.discovery.sign_in;
    let provider = match held.provider.as_ref().filter(|provider| provider.serves(sign_in)) {
        Some(provider) => Arc::clone(provider),
        None => Arc::new(Provider::discover(sign_in).await?),
    };
    let tell = |step: LoginEvent| {
        if let Some(steps) = &steps {
            let _ = steps.try_send(step);
        }
    };
    let same_person = |signed_in: &SignedIn| check_same_person(held, signed_in);
    let signed_in = match way {
        Way::Page(browser) => {
            let mut bytes = [0; 32];
            rand::fill(&mut bytes).map_err(|_| Problem::new(Code::Internal).detail("no randomness"))?;
            let nonce = binding::nonce(&held.device.key.spki(), &Salt::new(bytes));
            let show = |url: &Url| tell(LoginEvent::Authorize { url: url.clone() });
            provider.step_up(&nonce, wanted, browser, show, same_person).await?
        }
        Way::DeviceCode => {
            let show = |prompt: DevicePrompt| tell(prompt_event(prompt));
            provider.step_up_with_device_code(wanted, show, same_person).await?
        }
    };
    Ok((provider, signed_in))
}

fn is_same(before: &Principal, now: &Principal) -> bool {
    let issuer = |principal: &Principal| principal.issuer.trim_end_matches('/').to_owned();
    issuer(before) == issuer(now) && before.subject == now.subject
}

/// The session is one principal's: nobody else steps in for them.
fn check_same_person(held: &Held, signed_in: &SignedIn) -> Result<(), Problem> {
    let other = || {
        Problem::new(Code::SignInFailed)
            .detail("another user signed in than the one whose session this is")
            .advice(None, Some("Sign in as the same user, or run: postern logout".into()))
    };
    match (&held.principal, &signed_in.principal) {
        (Some(before), Some(now)) if is_same(before, now) => Ok(()),
        (Some(_), _) => Err(other()),
        // The relay knows whose session it is, and refuses anyone else's token.
        (None, _) => Ok(()),
    }
}
