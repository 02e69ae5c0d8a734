//! How an app checks who a request is from: the relay's signed header, verified with the keys at its JWKS.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use postern_protocol::headers::IDENTITY;
use reqwest::Certificate;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// The claims of the header that this app makes use of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) iss: String,
    pub(crate) aud: String,
    pub(crate) sub: String,
    pub(crate) idp: String,
    pub(crate) name: Option<String>,
    pub(crate) email: Option<String>,
    #[serde(default)]
    pub(crate) groups: Vec<String>,
    /// The device.
    pub(crate) dev: String,
    /// The session.
    pub(crate) sid: String,
    pub(crate) iat: u64,
    pub(crate) exp: u64,
}

/// The relay an app stands behind.
pub(crate) struct Verifier {
    http: reqwest::Client,
    jwks_uri: String,
    issuer: String,
    keys: Mutex<Option<(JwkSet, Instant)>>,
}

/// Unknown keys make the app look again, but not more often than this.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
const MOST_KEYS: u64 = 64 * 1024;

impl Verifier {
    /// Of the relay with this issuer; `authority` (PEM) is the one that signs its public certificate.
    pub(crate) fn new(issuer: &str, authority: &[u8]) -> reqwest::Result<Self> {
        let builder = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy();
        let http = builder.redirect(reqwest::redirect::Policy::none());
        let http = http.tls_certs_only([Certificate::from_pem(authority)?]).build()?;
        let issuer = issuer.trim_end_matches('/').to_owned();
        Ok(Self { http, jwks_uri: format!("{issuer}/.well-known/jwks.json"), issuer, keys: Mutex::new(None) })
    }

    /// The claims of the identity header of a request to `app`.
    pub(crate) async fn verify(&self, app: &str, token: &str) -> Result<Identity, String> {
        let header = decode_header(token).map_err(|error| format!("{IDENTITY} is no JWT: {error}"))?;
        if header.typ.as_deref() != Some("postern-identity+jwt") {
            return Err(format!("{IDENTITY} has the type {:?}", header.typ));
        }
        let key = self.key(header.kid.as_deref()).await?;
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_audience(&[app]);
        rules.set_issuer(&[&self.issuer]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let token = decode::<Identity>(token, &key, &rules).map_err(|error| format!("{IDENTITY}: {error}"))?;
        Ok(token.claims)
    }

    async fn key(&self, id: Option<&str>) -> Result<DecodingKey, String> {
        let mut keys = self.keys.lock().await;
        let known = |keys: &JwkSet| match id {
            Some(id) => keys.find(id).cloned(),
            None => keys.keys.first().cloned(),
        };
        let mut found = keys.as_ref().and_then(|(keys, _)| known(keys));
        if found.is_none() && keys.as_ref().is_none_or(|(_, at)| at.elapsed() > LOOK_AGAIN) {
            let fresh = self.fetch().await?;
            found = known(&fresh);
            *keys = Some((fresh, Instant::now()));
        }
        let found = found.ok_or("the relay has no such key")?;
        DecodingKey::from_jwk(&found).map_err(|error| error.to_string())
    }

    async fn fetch(&self) -> Result<JwkSet, String> {
        let failed = |error: reqwest::Error| format!("{}: {error}", self.jwks_uri);
        let answer = self.http.get(&self.jwks_uri).send().await.map_err(failed)?;
        let answer = answer.error_for_status().map_err(failed)?;
        if answer.content_length().is_none_or(|length| length > MOST_KEYS) {
            return Err(format!("{}: no or too great a length", self.jwks_uri));
        }
        answer.json().await.map_err(failed)
    }
}
