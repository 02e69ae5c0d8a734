//! What tasks bring back: the secrets stay here, the machine gets to know what it has to.

use super::clock;
use super::driver::Driver;
use super::held::{Held, Relay};
use super::sign_in::tokens;
use crate::enroll::{DeviceCertificate, Enrolment};
use crate::link::Link;
use crate::oidc::{Provider, RefreshFailure, SignedIn};
use postern_agent_core::{Account, Answer, Event, Task, Ticket, Tokens, Validity};
use postern_protocol::control::{AppEntry, Posture, Principal, SessionResponse};
use postern_protocol::local::LoginEvent;
use postern_protocol::{Code, Problem, Retry, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use std::time::Duration;

/// A task's result.
pub(super) enum Outcome {
    SignedIn(Box<Held>),
    SteppedUp(Box<(Arc<Provider>, SignedIn)>),
    Enrolled(Enrolment),
    Saved,
    Connected { link: Arc<Link>, moved: Option<Relay> },
    Refreshed(Box<Result<(Arc<Provider>, SignedIn), RefreshFailure>>),
    Granted(Box<(SessionResponse, Posture)>),
    PostureSeen(Box<Posture>),
    PostureReported(Box<Posture>),
    Lapsed(Option<Duration>),
    Renewed(Enrolment),
    Apps(Vec<AppEntry>),
}

impl Driver {
    /// A task ended. What a cancelled one brings is dropped unseen.
    pub(super) fn done(&mut self, ticket: Ticket, outcome: Result<Outcome, Problem>) {
        let Some(task) = self.finished(ticket) else { return };
        let answer = outcome.and_then(|outcome| self.take(ticket, task, outcome));
        if let Err(problem) = &answer {
            tracing::warn!(?task, code = %problem.code, detail = problem.detail, "failed");
            match task {
                Task::SignIn | Task::Enroll => self.note_login_problem(problem),
                Task::Exchange { .. } => {
                    self.answer_renewals(&Err(problem.clone()));
                    if let Some(wanted) = problem.step_up.as_deref() {
                        self.cut_for_step_up(wanted.clone());
                    }
                }
                _ => {}
            }
        }
        self.handle(Event::Answer { ticket, answer: answer.map_err(Box::new) });
    }

    fn take(&mut self, ticket: Ticket, task: Task, outcome: Outcome) -> Result<Answer, Problem> {
        if let Outcome::SignedIn(held) = outcome {
            let tokens = tokens(&held);
            self.held = Some(*held);
            return Ok(Answer::SignedIn(tokens));
        }
        if let Outcome::Apps(apps) = outcome {
            self.uplink.set_apps(apps);
            return Ok(Answer::AppsFetched);
        }
        match outcome {
            Outcome::PostureSeen(seen) => {
                return Ok(Answer::PostureSeen { changed: self.posture.as_ref() != Some(&*seen) });
            }
            Outcome::PostureReported(told) => {
                self.posture = Some(*told);
                return Ok(Answer::PostureReported);
            }
            _ => {}
        }
        let gone = || Problem::new(Code::Internal).detail("the session ended meanwhile");
        let held = self.held.as_mut().ok_or_else(gone)?;
        Ok(match outcome {
            Outcome::Enrolled(enrolment) => {
                let device = enrolment.certificate.spiffe_id.device.clone();
                let validity = held.certify(enrolment);
                self.tell(LoginEvent::Enrolled { device });
                Answer::Enrolled(validity)
            }
            Outcome::Renewed(enrolment) => {
                if held.session.as_ref() != Some(&enrolment.session) {
                    return Err(Problem::new(Code::CertificateInvalid).detail("it was renewed for another session"));
                }
                Answer::Renewed(held.certify(enrolment))
            }
            Outcome::Connected { link, moved } => {
                held.relay = moved.unwrap_or_else(|| held.relay.clone());
                self.keep_link(ticket, link);
                Answer::Connected
            }
            Outcome::Refreshed(result) => Answer::Refreshed(held.refreshed(*result)?),
            Outcome::Granted(granted) => {
                let (granted, posture) = *granted;
                let lifetime = Duration::from_secs(granted.expires_in);
                held.known_as(granted.principal);
                self.relay_ends =
                    granted.ends.map(|left| steady(self.relay_ends, clock::wall().plus(Duration::from_secs(left))));
                let Task::Exchange { link } = task else { return Err(gone()) };
                self.posture = Some(posture);
                self.grant(link, SecretString::from(granted.access_token), lifetime);
                Answer::Granted { lifetime }
            }
            Outcome::Lapsed(held_for) => {
                self.lapse_told = true;
                Answer::Lapsed { held_for }
            }
            Outcome::SteppedUp(signed_in) => {
                self.lapse_told = false;
                Answer::SteppedUp(held.stepped_up(*signed_in))
            }
            Outcome::Saved => Answer::Saved,
            Outcome::SignedIn(_) | Outcome::Apps(_) | Outcome::PostureSeen(_) | Outcome::PostureReported(_) => {
                return Err(gone());
            }
        })
    }
}

impl Held {
    fn certify(&mut self, enrolment: Enrolment) -> Validity {
        let validity = validity(&enrolment.certificate);
        self.certificate = Some(Arc::new(enrolment.certificate));
        self.session = Some(enrolment.session);
        // The sign-in's nonce has done its work.
        self.salt = None;
        validity
    }

    /// What the relay says of the user, where the provider's own token did not say who it is.
    fn known_as(&mut self, told: Principal) {
        match &mut self.principal {
            Some(principal) => {
                principal.groups = told.groups;
                principal.email = told.email.or(principal.email.take());
                principal.name = told.name.or(principal.name.take());
            }
            None => self.principal = Some(told),
        }
    }

    /// The same person's newer sign-in. A provider that gives no new refresh token leaves the old one good.
    fn stepped_up(&mut self, (provider, signed_in): (Arc<Provider>, SignedIn)) -> Tokens {
        let rotated = differs(self.refresh_token.as_ref(), signed_in.refresh_token.as_ref());
        let fresh_for = signed_in.proof.fresh_for;
        self.provider = Some(provider);
        self.proof = Some(signed_in.proof);
        self.signed_in = Some(signed_in.auth_time.unwrap_or_else(clock::wall));
        self.refresh_token = signed_in.refresh_token.or_else(|| self.refresh_token.take());
        Tokens { fresh_for, renewable: self.refresh_token.is_some(), rotated }
    }

    fn refreshed(&mut self, result: Result<(Arc<Provider>, SignedIn), RefreshFailure>) -> Result<Tokens, Problem> {
        if result.is_err() {
            // What is known of the provider may be what is wrong: it is asked anew the next time.
            self.provider = None;
        }
        let renewable = |held: &Self| held.account == Account::Service || held.refresh_token.is_some();
        match result {
            Ok((provider, signed_in)) => {
                let rotated = differs(self.refresh_token.as_ref(), signed_in.refresh_token.as_ref());
                let fresh_for = signed_in.proof.fresh_for;
                self.provider = Some(provider);
                self.proof = Some(signed_in.proof);
                self.signed_in = signed_in.auth_time.or(self.signed_in);
                self.refresh_token = signed_in.refresh_token;
                Ok(Tokens { fresh_for, renewable: renewable(self), rotated })
            }
            Err(RefreshFailure { problem, rotated: Some(token) }) if problem.code.retry() != Retry::AfterSignIn => {
                // The old token is spent and the new one good, though nothing else of the answer was.
                tracing::warn!(code = %problem.code, detail = problem.detail, "the provider's new tokens are of no use");
                self.refresh_token = Some(token);
                Ok(Tokens { fresh_for: Duration::ZERO, renewable: true, rotated: true })
            }
            Err(RefreshFailure { problem, .. }) => Err(problem),
        }
    }
}

pub(super) fn validity(certificate: &DeviceCertificate) -> Validity {
    let (age, remaining) = certificate.validity(clock::wall());
    Validity { age, remaining }
}

/// The end as it was told, unless it has moved by more than the way of an answer takes.
fn steady(before: Option<Timestamp>, told: Timestamp) -> Timestamp {
    const SAME: Duration = Duration::from_secs(3);
    before.filter(|before| before.since(told).max(told.since(*before)) <= SAME).unwrap_or(told)
}

fn differs(old: Option<&SecretString>, new: Option<&SecretString>) -> bool {
    old.map(ExposeSecret::expose_secret) != new.map(ExposeSecret::expose_secret)
}
