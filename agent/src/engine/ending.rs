//! The end of a session: what is closed, told and forgotten.

use super::driver::Driver;
use super::held::Held;
use super::record::{Over, Record, RecordFile};
use super::upkeep;
use crate::link::Link;
use crate::oidc::Provider;
use crate::secrets::{Item, Vault};
use postern_agent_core::Ending;
use postern_protocol::Problem;
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
        let links: Vec<Arc<Link>> = self.links.drain().map(|(_, dialled)| Arc::clone(&dialled.link)).collect();
        let released = self.released.drain(..).filter_map(|link| link.upgrade());
        released.for_each(|link| link.close());
        let over = Over { revoked: ending == Ending::Revoked, problem };
        let held = self.held.take();
        let left_behind = self.setup.lasting_vault("keyring").filter(|_| self.remembered_lasting());
        let record = match (&held, ending) {
            (Some(held), Ending::SignedOut) => {
                Some(Record::new(held.relay.address.clone(), held.relay.ca_pem.clone(), None))
            }
            (Some(held), _) => Some(held.record(Some(over))),
            (None, _) => self.remembered.take().map(|record| Record::new(record.address, record.ca_pem, None)),
        };
        let ended = Ended {
            ending,
            token: self.granted.take().map(|granted| granted.token),
            links,
            vault: held
                .as_ref()
                .map(|held| held.device.vault.clone())
                .or(left_behind)
                .unwrap_or(self.setup.used_vault()),
            held,
            record: record.clone(),
            file: self.setup.record.clone(),
        };
        self.remembered = record;
        let status = self.status();
        let reply = self.logout.take();
        self.cleanup = Some(tokio::spawn(async move {
            let result = ended.clean_up().await;
            if let Err(problem) = &result {
                tracing::warn!(code = %problem.code, detail = problem.detail, "not everything could be forgotten");
            }
            if let Some(reply) = reply {
                let _ = reply.send(result.map(|()| status));
            }
        }));
    }
}

/// What is left of a session.
struct Ended {
    ending: Ending,
    held: Option<Held>,
    vault: Vault,
    token: Option<SecretString>,
    links: Vec<Arc<Link>>,
    record: Option<Record>,
    file: RecordFile,
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
        let recorded = match &self.record {
            Some(record) => self.file.write(record).await,
            None => Ok(()),
        };
        let wiped = match self.ending {
            Ending::SignedOut => self.vault.wipe().await,
            Ending::Expired | Ending::Revoked => {
                let removed = self.vault.remove(Item::RefreshToken).await;
                removed.and(self.vault.remove(Item::Certificate).await)
            }
        };
        recorded.and(wiped)
    }

    async fn tell(&self) {
        if self.ending == Ending::Revoked {
            // Whoever revoked knows; and a revoked device should be quiet.
            self.links.iter().for_each(|link| link.close());
            return;
        }
        let relay = async {
            if let (Some(link), Some(token)) = (self.links.first(), &self.token) {
                let told = upkeep::end_session(link, token).await;
                tracing::debug!(told = told.is_ok(), "told the relay");
            }
        };
        let provider = async {
            if self.ending == Ending::SignedOut {
                self.give_back().await;
            }
        };
        let _ = tokio::time::timeout(COURTESY, async { tokio::join!(relay, provider) }).await;
    }

    async fn give_back(&self) {
        let Some(held) = &self.held else { return };
        give_back(held).await;
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
    fn remembered_lasting(&self) -> bool {
        let session = self.remembered.as_ref().and_then(|record| record.session.as_ref());
        session.is_some_and(|kept| kept.storage == "keyring")
    }

    /// A sign-in that came to nothing leaves tokens behind: they are given back.
    pub(super) fn drop_unfinished(&mut self) {
        if let Some(held) = self.held.take_if(|held| held.certificate.is_none()) {
            tokio::spawn(async move { tokio::time::timeout(COURTESY, give_back(&held)).await });
        }
    }
}
