//! The end of a session: what is closed, told and forgotten.

use super::clock;
use super::driver::Driver;
use super::held::Held;
use super::record::{Over, Record};
use super::setup::Setup;
use super::upkeep;
use crate::link::Link;
use crate::oidc::Provider;
use crate::secrets::Item;
use futures_util::FutureExt as _;
use postern_agent_core::Ending;
use postern_protocol::control::SignOutReason;
use postern_protocol::local::{Party, SignedOut, Untold};
use postern_protocol::{Code, Problem, SessionId, Timestamp};
use secrecy::SecretString;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Whom it takes longer to tell is not told, and the user gets to know that.
const COURTESY: Duration = Duration::from_secs(5);

impl Driver {
    pub(super) fn end(&mut self, ending: Ending, problem: Problem) {
        let no_way = self.uplink.current().err().filter(|problem| problem.code != Code::NotSignedIn);
        self.uplink.set(None, problem.clone());
        self.uplink.set_apps(Vec::new());
        self.answer_renewals(&Err(problem.clone()));
        self.resuming = None;
        let (granted, token_ends) = (self.granted.take(), self.token_ends.take());
        (self.posture, self.relay_ends) = (None, None);
        self.end_step_up(&Err(problem.clone()));
        let way = granted.and_then(|granted| {
            let link = Arc::clone(&self.links.get(&granted.link)?.link);
            Some((link, granted.token))
        });
        let links = self.links.drain().map(|(_, dialled)| Arc::clone(&dialled.link));
        let links = links.chain(self.released.drain(..).filter_map(|link| link.upgrade())).collect();
        let refused = problem.code == Code::RefreshRefused;
        let told = std::mem::take(&mut self.lapse_told);
        let over = Over { revoked: ending == Ending::Revoked, problem };
        let held = self.held.take();
        let session = match &held {
            Some(held) => held.session.clone(),
            None => self.unfinished_session(),
        };
        let record = match (&held, ending) {
            (Some(held), Ending::SignedOut) => {
                Some(Record::new(held.relay.address.clone(), held.relay.ca_pem.clone(), None))
            }
            (Some(held), _) => Some(held.record(Some(over))),
            (None, _) => self.remembered.take().map(|record| Record::new(record.address, record.ca_pem, None)),
        };
        self.remembered = record.clone();
        let setup = Arc::clone(&self.setup);
        let no_way =
            no_way.unwrap_or_else(|| Problem::new(Code::NotSignedIn).detail("no token of the session is left"));
        let ended = Ended { ending, refused, told, way, no_way, links, held, session, token_ends, record, setup };
        let (status, reply) = (self.status(), self.logout.take());
        // Spawned, so that it is done whether or not anybody waits for it.
        let cleaning = tokio::spawn(async move {
            let (result, untold) = ended.clean_up().await;
            if let Err(problem) = &result {
                tracing::warn!(code = %problem.code, detail = problem.detail, "not everything could be forgotten");
            }
            for Untold { who, problem, .. } in &untold {
                tracing::warn!(?who, code = %problem.code, detail = problem.detail, "not told of the session's end");
            }
            if let Some(reply) = reply {
                let _ = reply.send(match result {
                    Ok(()) => Ok(SignedOut { status, untold }),
                    Err(problem) => Err(and_untold(problem, &untold)),
                });
            }
        });
        self.cleanup = Some(cleaning.map(drop).boxed().shared());
    }

    /// A session of before that was never taken up again and whose end nobody was told of.
    fn unfinished_session(&self) -> Option<SessionId> {
        let kept = self.remembered.as_ref()?.session.as_ref()?;
        kept.over.is_none().then(|| kept.id.clone())
    }
}

/// A wipe that failed is what the user has to act on first; the rest must not be lost over it.
fn and_untold(problem: Problem, untold: &[Untold]) -> Problem {
    let Some(Untold { problem: other, .. }) = untold.first() else { return problem };
    let told = [problem.detail.as_deref(), Some(&other.title), other.fix.as_deref()];
    let told: Vec<_> = told.into_iter().flatten().collect();
    let told = told.join(". ");
    problem.detail(told)
}

/// What is left of a session.
struct Ended {
    ending: Ending,
    /// The provider ended it: there is nothing to give back.
    refused: bool,
    /// The relay ends it by itself.
    told: bool,
    held: Option<Held>,
    /// The link that the session token is bound to, and the token.
    way: Option<(Arc<Link>, SecretString)>,
    /// Why there is no such link, where there is none.
    no_way: Problem,
    links: Vec<Arc<Link>>,
    /// The session that others may still think alive.
    session: Option<SessionId>,
    token_ends: Option<Timestamp>,
    record: Option<Record>,
    setup: Arc<Setup>,
}

impl Ended {
    /// Forgets here and tells there, at the same time: neither waits for the other.
    async fn clean_up(self) -> (Result<(), Problem>, Vec<Untold>) {
        let (forgotten, untold) = tokio::join!(self.forget(), self.tell());
        for link in &self.links {
            link.close();
        }
        (forgotten, untold)
    }

    async fn forget(&self) -> Result<(), Problem> {
        // The record first: without it the secrets are not taken up again, even if they cannot be removed now.
        let recorded = self.remember().await;
        let wiped = match (&self.held, self.ending) {
            (_, Ending::SignedOut) => match self.setup.wipe().await {
                // And once more, now that there is nothing left to wipe.
                Ok(()) => self.remember().await,
                Err(problem) => Err(problem),
            },
            (Some(held), Ending::Expired | Ending::Revoked) => {
                let removed = held.device.vault.remove(Item::RefreshToken).await;
                removed.and(held.device.vault.remove(Item::Certificate).await)
            }
            (None, _) => Ok(()),
        };
        recorded.and(wiped)
    }

    async fn remember(&self) -> Result<(), Problem> {
        match &self.record {
            Some(record) => self.setup.remember(record).await,
            None => Ok(()),
        }
    }

    /// Tells relay and provider; who could not be told.
    async fn tell(&self) -> Vec<Untold> {
        if self.ending == Ending::Revoked {
            // Whoever revoked knows; and a revoked device should be quiet.
            self.links.iter().for_each(|link| link.close());
            return Vec::new();
        }
        let (relay, provider) = tokio::join!(
            in_time(Code::RelayUnreachable, self.tell_relay()),
            in_time(Code::ProviderUnreachable, self.tell_provider())
        );
        // Before there was a session nobody else knew of one.
        let Some(session) = &self.session else { return Vec::new() };
        let relay = relay.err().map(|problem| self.relay_untold(session, problem));
        let provider = provider.err().map(|problem| provider_untold(session, problem));
        relay.into_iter().chain(provider).collect()
    }

    async fn tell_relay(&self) -> Result<(), Problem> {
        if self.told {
            return Ok(());
        }
        let Some((link, token)) = &self.way else { return Err(self.no_way.clone()) };
        let reason = if self.refused { SignOutReason::RefreshRefused } else { SignOutReason::SignedOut };
        match upkeep::end_session(link, token, reason).await {
            // It is over there already.
            Err(problem) if is_over(problem.code) => Ok(()),
            told => told,
        }
    }

    async fn tell_provider(&self) -> Result<(), Problem> {
        match &self.held {
            Some(held) if !self.refused => give_back(held).await,
            Some(_) => Ok(()),
            None => Err(self.no_way.clone()),
        }
    }

    fn relay_untold(&self, session: &SessionId, problem: Problem) -> Untold {
        let token_ends = self.token_ends.filter(|end| *end > clock::wall());
        let end = token_ends.map_or_else(|| "has ended or soon does".to_owned(), |end| format!("ends at {end}"));
        let fix = format!(
            "This device's copy is gone: nobody can renew the session, and its last token {end}. To end it at the relay \
             at once, ask your administrator to run: postern-relay revoke session {session}"
        );
        Untold { who: Party::Relay, session: session.clone(), token_ends, problem: problem.advice(None, Some(fix)) }
    }
}

fn provider_untold(session: &SessionId, problem: Problem) -> Untold {
    let fix = "This device's copy of the sign-in is gone. To end it at the provider too, sign out there of all your \
               sessions, or ask your administrator to."
        .to_owned();
    Untold {
        who: Party::Provider,
        session: session.clone(),
        token_ends: None,
        problem: problem.advice(None, Some(fix)),
    }
}

fn is_over(code: Code) -> bool {
    matches!(code, Code::SessionRevoked | Code::SessionUnknown | Code::PrincipalRevoked | Code::DeviceRevoked)
}

async fn in_time(late: Code, telling: impl Future<Output = Result<(), Problem>>) -> Result<(), Problem> {
    let told = tokio::time::timeout(COURTESY, telling).await;
    told.unwrap_or_else(|_| Err(Problem::new(late).detail("no answer in time")))
}

/// Gives the refresh token back to the provider.
async fn give_back(held: &Held) -> Result<(), Problem> {
    let Some(token) = &held.refresh_token else { return Ok(()) };
    let provider = match &held.provider {
        Some(provider) => Arc::clone(provider),
        None => Arc::new(Provider::discover(&held.relay.discovery.sign_in).await?),
    };
    provider.revoke(token).await
}

impl Driver {
    /// A sign-in that came to nothing leaves tokens behind: they are given back.
    pub(super) fn drop_unfinished(&mut self) {
        if let Some(held) = self.held.take_if(|held| held.certificate.is_none()) {
            tokio::spawn(async move { tokio::time::timeout(COURTESY, give_back(&held)).await });
        }
    }
}
