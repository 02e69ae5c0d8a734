//! What the engine holds of a session: where it is, and its secrets. Cheap to clone, for the tasks.

use super::record::{Kept, Over, Record};
use crate::device_key::DeviceKey;
use crate::enroll::DeviceCertificate;
use crate::oidc::{Proof, Provider};
use crate::secrets::{Item, Vault};
use postern_agent_core::Account;
use postern_protocol::binding::Salt;
use postern_protocol::control::Principal;
use postern_protocol::discovery::Discovery;
use postern_protocol::problem::printable;
use postern_protocol::{Problem, SessionId, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use std::sync::Arc;
use url::Url;
use zeroize::Zeroizing;

/// A relay that was asked who it is.
#[derive(Clone)]
pub(super) struct Relay {
    pub(super) address: Url,
    pub(super) ca_pem: Option<String>,
    pub(super) discovery: Arc<Discovery>,
}

/// The device's side of a session.
#[derive(Clone)]
pub(super) struct Device {
    pub(super) key: Arc<DeviceKey>,
    pub(super) vault: Vault,
    /// Where the key lives: `keyring`, `memory`, `file`.
    pub(super) storage: &'static str,
}

/// A session, from the sign-in on.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) account: Account,
    pub(super) relay: Relay,
    pub(super) device: Device,
    pub(super) provider: Option<Arc<Provider>>,
    /// The provider's token that the relay takes, if there is a fresh one.
    pub(super) proof: Option<Proof>,
    /// The salt of that token's nonce, until it is used to enrol.
    pub(super) salt: Option<Salt>,
    pub(super) refresh_token: Option<SecretString>,
    pub(super) certificate: Option<Arc<DeviceCertificate>>,
    pub(super) session: Option<SessionId>,
    pub(super) principal: Option<Principal>,
    /// When the person last proved themself at the provider, by its word or by this device's clock.
    pub(super) signed_in: Option<Timestamp>,
}

impl Held {
    /// What is remembered of it in `session.json`.
    pub(super) fn record(&self, over: Option<Over>) -> Record {
        let kept = self.session.clone().map(|id| Kept {
            id,
            discovery: (*self.relay.discovery).clone(),
            principal: self.principal.clone(),
            signed_in: self.signed_in,
            storage: self.device.storage.to_owned(),
            over,
        });
        Record::new(self.relay.address.clone(), self.relay.ca_pem.clone(), kept)
    }

    /// Puts the secrets into the vault: first the refresh token, whose predecessor is worthless by now.
    pub(super) async fn save(&self) -> Result<(), Problem> {
        let vault = &self.device.vault;
        if let Some(token) = &self.refresh_token {
            vault.put(Item::RefreshToken, Zeroizing::new(token.expose_secret().as_bytes().to_vec())).await?;
        }
        if let Some(certificate) = &self.certificate {
            vault.put(Item::Certificate, Zeroizing::new(certificate.pem.clone().into_bytes())).await?;
        }
        Ok(())
    }

    /// Takes back the secrets of a session that was kept; `None` if they are not all there.
    pub(super) async fn restore(record: &Record, kept: &Kept, vault: Vault) -> Result<Option<Self>, Problem> {
        let (Some(key), Some(certificate), Some(token)) = (
            vault.get(Item::DeviceKey).await?,
            vault.get(Item::Certificate).await?,
            vault.get(Item::RefreshToken).await?,
        ) else {
            return Ok(None);
        };
        let Ok(key) = DeviceKey::from_pkcs8(key) else { return Ok(None) };
        let texts = (std::str::from_utf8(&certificate), std::str::from_utf8(&token));
        let (Ok(certificate), Ok(token)) = texts else { return Ok(None) };
        let Ok(certificate) = DeviceCertificate::read(certificate, &key) else { return Ok(None) };
        Ok(Some(Self {
            account: Account::Person,
            relay: Relay {
                address: record.address.clone(),
                ca_pem: record.ca_pem.clone(),
                discovery: Arc::new(kept.discovery.clone()),
            },
            device: Device { key: Arc::new(key), storage: vault.storage(), vault },
            provider: None,
            proof: None,
            salt: None,
            refresh_token: Some(SecretString::from(token)),
            certificate: Some(Arc::new(certificate)),
            session: Some(kept.id.clone()),
            principal: kept.principal.clone(),
            signed_in: kept.signed_in,
        }))
    }
}

/// A principal fit to show: what others wrote has no control characters and an end.
pub(super) fn presentable(principal: Principal) -> Principal {
    let short = |text: String| -> String { printable(&text).chars().take(256).collect() };
    Principal {
        issuer: short(principal.issuer),
        subject: short(principal.subject),
        email: principal.email.map(short),
        name: principal.name.map(short),
        groups: principal.groups.into_iter().take(500).map(short).collect(),
    }
}
