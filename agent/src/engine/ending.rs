//! The end of a session: what is closed, told and forgotten.

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
use postern_protocol::{Code, Problem};
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;

/// Telling relay and provider is courtesy: nobody waits longer for it.
const COURTESY: Duration = Duration::from_secs(5);

impl Driver {
    pub(super) fn end(&mut self, ending: Ending, problem: Problem) {
        self.uplink.set(None, problem.clone());
        self.uplink.set_apps(Vec::new());
        self.answer_renewals(&Err(problem.clone()));
        self.resuming = None;
        let granted = self.granted.take();
        let way = granted.and_then(|granted| {
            let link = Arc::clone(&self.links.get(&granted.link)?.link);
            Some((link, granted.token))
        });
        let links = self.links.drain().map(|(_, dialled)| Arc::clone(&dialled.link));
        let links = links.chain(self.released.drain(..).filter_map(|link| link.upgrade())).collect();
        let refused = problem.code == Code::RefreshRefused;
        let over = Over { revoked: ending == Ending::Revoked, problem };
        let held = self.held.take();
        let record = match (&held, ending) {
            (Some(held), Ending::SignedOut) => {
                Some(Record::new(held.relay.address.clone(), held.relay.ca_pem.clone(), None))
            }
            (Some(held), _) => Some(held.record(Some(over))),
            (None, _) => self.remembered.take().map(|record| Record::new(record.address, record.ca_pem, None)),
        };
        self.remembered = record.clone();
        let ended = Ended { ending, refused, way, links, held, record, setup: Arc::clone(&self.setup) };
        let (status, reply) = (self.status(), self.logout.take());
        // Spawned, so that it is done whether or not anybody waits for it.
        let cleaning = tokio::spawn(async move {
            let result = ended.clean_up().await;
            if let Err(problem) = &result {
                tracing::warn!(code = %problem.code, detail = problem.detail, "not everything could be forgotten");
            }
            if let Some(reply) = reply {
                let _ = reply.send(result.map(|()| status));
            }
        });
        self.cleanup = Some(cleaning.map(drop).boxed().shared());
    }
}

/// What is left of a session.
struct Ended {
    ending: Ending,
    /// The provider ended it: there is nothing to give back.
    refused: bool,
    held: Option<Held>,
    /// The link that the session token is bound to, and the token.
    way: Option<(Arc<Link>, SecretString)>,
    links: Vec<Arc<Link>>,
    record: Option<Record>,
    setup: Arc<Setup>,
}

impl Ended {
    /// Forgets here and tells there, at the same time: neither waits for the other.
    async fn clean_up(self) -> Result<(), Problem> {
        let (forgotten, ()) = tokio::join!(self.forget(), self.tell());
        for link in &self.links {
            link.close();
        }
        forgotten
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

    async fn tell(&self) {
        if self.ending == Ending::Revoked {
            // Whoever revoked knows; and a revoked device should be quiet.
            self.links.iter().for_each(|link| link.close());
            return;
        }
        let relay = async {
            if let Some((link, token)) = &self.way {
                let told = upkeep::end_session(link, token).await;
                tracing::debug!(told = told.is_ok(), "told the relay");
            }
        };
        let provider = async {
            if let (Some(held), false) = (&self.held, self.refused) {
                give_back(held).await;
            }
        };
        let _ = tokio::time::timeout(COURTESY, async { tokio::join!(relay, provider) }).await;
    }
}

/// Gives the refresh token back to the provider.
pub(super) async fn give_back(held: &Held) {
    let Some(token) = &held.refresh_token else { return };
    let provider = match &held.provider {
        Some(provider) => Ok(Arc::clone(provider)),
        None => Provider::discover(&held.relay.discovery.sign_in).await.map(Arc::new),
    };
    if let Ok(provider) = provider {
        let revoked = provider.revoke(token).await;
        tracing::debug!(revoked, "told the provider");
    }
}

impl Driver {
    /// A sign-in that came to nothing leaves tokens behind: they are given back.
    pub(super) fn drop_unfinished(&mut self) {
        if let Some(held) = self.held.take_if(|held| held.certificate.is_none()) {
            tokio::spawn(async move { tokio::time::timeout(COURTESY, give_back(&held)).await });
        }
    }
}
