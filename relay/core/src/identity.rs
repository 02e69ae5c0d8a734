//! What the upstream is told of who calls: a short-lived assertion it can verify with the relay's public key.

use crate::token::{TokenError, VerifiedSession};
use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use postern_protocol::{AppName, Timestamp};
use serde::Serialize;
use std::time::Duration;

/// The `typ` of an assertion: no other JWT of ours or of a provider has it.
const TYP: &str = "postern-identity+jwt";

/// Longest an assertion lives.
pub const MAX_LIFETIME: Duration = Duration::from_secs(60);

/// Signs the assertions in `x-postern-identity`. It holds the one key of this purpose.
pub struct AssertionSigner {
    key: EncodingKey,
    public: Jwk,
    key_id: String,
    issuer: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    idp: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    groups: &'a [String],
    dev: &'a str,
    sid: &'a str,
    iat: u64,
    exp: u64,
}

impl AssertionSigner {
    /// From a P-256 private key as PKCS#8 DER; `issuer` is the relay's public address.
    pub fn from_pkcs8(der: &[u8], issuer: String) -> Result<Self, TokenError> {
        let key = EncodingKey::from_ec_der(der);
        let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256).map_err(|_| TokenError::Key)?;
        let key_id = public.thumbprint(ThumbprintHash::SHA256).map_err(|_| TokenError::Key)?;
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        public.common.key_algorithm = Some(KeyAlgorithm::ES256);
        public.common.key_id = Some(key_id.clone());
        Ok(Self { key, public, key_id, issuer })
    }

    /// The assertion for one app, good for `lifetime` from `now`, but at most [`MAX_LIFETIME`] and never longer than the session token.
    pub fn sign(
        &self,
        session: &VerifiedSession,
        app: &AppName,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<String, TokenError> {
        let grant = session.grant();
        let expires = now.plus(lifetime.min(MAX_LIFETIME)).min(session.expires());
        let claims = Claims {
            iss: &self.issuer,
            aud: app.as_str(),
            sub: grant.principal.subject(),
            idp: grant.principal.issuer(),
            email: grant.email.as_deref(),
            name: grant.name.as_deref(),
            groups: &grant.groups,
            dev: grant.device.as_str(),
            sid: grant.session.as_str(),
            iat: now.seconds(),
            exp: expires.seconds(),
        };
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(TYP.into());
        header.kid = Some(self.key_id.clone());
        encode(&header, &claims, &self.key).map_err(|_| TokenError::Signing)
    }

    /// The relay's key set (RFC 7517): the key that verifies assertions, and no other.
    pub fn jwks_json(&self) -> String {
        serde_json::json!({ "keys": [self.public] }).to_string()
    }
}

#[cfg(test)]
mod tests;
