//! Session tokens: five-minute JWTs of the relay, bound to the device certificate (RFC 8705, RFC 9068).

use crate::limits::{MAX_AMR, MAX_GROUP_BYTES, MAX_GROUPS, MAX_TOKEN_BYTES};
use crate::policy::Subject;
use crate::principal::PrincipalKey;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use postern_protocol::{Code, DeviceId, SessionId, Timestamp};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The `typ` of a session token.
const TYP: &str = "at+jwt";

/// Who signs and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// `iss`: the relay's public address.
    pub issuer: String,
    /// `aud`: `urn:postern:<trust domain>`.
    pub audience: String,
}

/// What a session token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionGrant {
    /// The session.
    pub session: SessionId,
    /// Who.
    pub principal: PrincipalKey,
    /// On which device.
    pub device: DeviceId,
    /// The certificate the token is bound to: its `x5t#S256`.
    pub certificate: String,
    /// The client the provider's token was issued to.
    pub client_id: String,
    /// For people; never identity.
    pub email: Option<String>,
    /// For people; never identity.
    pub name: Option<String>,
    /// Groups of the provider's token presented now.
    pub groups: Vec<String>,
    /// Authentication context class.
    pub acr: Option<String>,
    /// Authentication methods.
    pub amr: Vec<String>,
    /// When the person last proved themself to the provider.
    pub auth_time: Option<Timestamp>,
}

/// Why a key cannot be used or a token cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a PKCS#8 key of the kind this purpose takes.
    #[error("the key is not a PKCS#8 private key of the right kind")]
    Key,
    /// More groups than a token carries.
    #[error("the principal has too many or too long groups for a session token")]
    TooLarge,
    /// The signature could not be made.
    #[error("the token could not be signed")]
    Signing,
}

/// Signs session tokens. It holds the one key of this purpose.
pub struct TokenSigner {
    key: EncodingKey,
    public: Vec<u8>,
    rules: TokenRules,
}

impl TokenSigner {
    /// From an Ed25519 private key as PKCS#8 DER.
    pub fn from_pkcs8(der: &[u8], rules: TokenRules) -> Result<Self, TokenError> {
        let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|_| TokenError::Key)?;
        Ok(Self { key: EncodingKey::from_ed_der(der), public: pair.public_key().as_ref().to_vec(), rules })
    }

    /// A session token for `grant`, good for `lifetime` from `now`. `jti` is random and tells two tokens apart.
    pub fn sign(
        &self,
        grant: &SessionGrant,
        now: Timestamp,
        lifetime: Duration,
        jti: u128,
    ) -> Result<SecretString, TokenError> {
        let grant = grant.clone();
        let claims = Claims {
            iss: self.rules.issuer.clone(),
            aud: self.rules.audience.clone(),
            sub: grant.principal.subject().into(),
            idp: grant.principal.issuer().into(),
            sid: grant.session,
            jti: format!("{jti:032x}"),
            iat: now.seconds(),
            nbf: now.seconds(),
            exp: now.plus(lifetime).seconds(),
            client_id: grant.client_id,
            cnf: Confirmation { certificate: grant.certificate },
            dev: grant.device,
            email: grant.email,
            name: grant.name,
            groups: grant.groups,
            acr: grant.acr,
            amr: grant.amr,
            auth_time: grant.auth_time.map(Timestamp::seconds),
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TYP.into());
        let token = encode(&header, &claims, &self.key).map_err(|_| TokenError::Signing)?;
        if token.len() > MAX_TOKEN_BYTES || !claims.in_bounds() {
            return Err(TokenError::TooLarge);
        }
        Ok(SecretString::from(token))
    }

    /// Verifies what this signs.
    pub fn verifier(&self) -> TokenVerifier {
        TokenVerifier { key: DecodingKey::from_ed_der(&self.public), rules: self.rules.clone() }
    }
}

/// Verifies session tokens.
#[derive(Clone)]
pub struct TokenVerifier {
    key: DecodingKey,
    rules: TokenRules,
}

impl TokenVerifier {
    /// Verifies all of a token that does not change with time: algorithm, type, signature, issuer, audience and
    /// shapes. The result may be kept by the token's hash: every decision checks times and bindings anew.
    pub fn verify(&self, bearer: &str) -> Result<VerifiedSession, Code> {
        self.parse(bearer).ok_or(Code::TokenInvalid)
    }

    fn parse(&self, bearer: &str) -> Option<VerifiedSession> {
        if bearer.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let header = decode_header(bearer).ok()?;
        if header.typ.as_deref() != Some(TYP) || header.alg != Algorithm::EdDSA || header.crit.is_some() {
            return None;
        }
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims = decode::<Claims>(bearer, &self.key, &validation).ok()?.claims;
        let ours = claims.iss == self.rules.issuer && claims.aud == self.rules.audience;
        (ours && claims.in_bounds()).then(|| claims.into_session()).flatten()
    }
}

/// A session whose token was verified. Only [`TokenVerifier::verify`] makes one that leaves this crate.
///
/// It holds the policy's view of the principal, built once and used by every decision.
#[derive(Clone, Debug)]
pub struct VerifiedSession {
    grant: SessionGrant,
    subject: Subject,
    issued_at: Timestamp,
    not_before: Timestamp,
    expires: Timestamp,
}

impl VerifiedSession {
    /// One that nobody showed a token for, good at `now`: to simulate a decision. It must not leave this crate.
    pub(crate) fn supposed(grant: SessionGrant, now: Timestamp) -> Option<Self> {
        let subject = Subject::new(&grant.principal, &grant.groups, &grant.device)?;
        let expires = now.plus(Duration::from_secs(1));
        Some(Self { subject, issued_at: now, not_before: now, expires, grant })
    }

    /// All that the token says.
    pub fn grant(&self) -> &SessionGrant {
        &self.grant
    }

    /// The session.
    pub fn session(&self) -> &SessionId {
        &self.grant.session
    }

    /// Who.
    pub fn principal(&self) -> &PrincipalKey {
        &self.grant.principal
    }

    /// The device the token names.
    pub fn device_claim(&self) -> &DeviceId {
        &self.grant.device
    }

    /// The certificate the token is bound to: its `x5t#S256`.
    pub fn certificate_claim(&self) -> &str {
        &self.grant.certificate
    }

    /// Groups of the principal.
    pub fn groups(&self) -> &[String] {
        &self.grant.groups
    }

    /// When the token was issued.
    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// From when the token is good.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// When the token ends.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The policy's view of the principal.
    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    idp: String,
    sid: SessionId,
    jti: String,
    iat: u64,
    nbf: u64,
    exp: u64,
    client_id: String,
    cnf: Confirmation,
    dev: DeviceId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acr: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    amr: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auth_time: Option<u64>,
}

/// RFC 7800 confirmation: the certificate (RFC 8705 §3.1).
#[derive(Serialize, Deserialize)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    certificate: String,
}

impl Claims {
    fn in_bounds(&self) -> bool {
        self.groups.len() <= MAX_GROUPS
            && self.amr.len() <= MAX_AMR
            && self.groups.iter().all(|group| group.len() <= MAX_GROUP_BYTES)
    }

    fn into_session(self) -> Option<VerifiedSession> {
        let principal = PrincipalKey::new(&self.idp, &self.sub).ok()?;
        let subject = Subject::new(&principal, &self.groups, &self.dev)?;
        Some(VerifiedSession {
            subject,
            issued_at: Timestamp::from_seconds(self.iat),
            not_before: Timestamp::from_seconds(self.nbf),
            expires: Timestamp::from_seconds(self.exp),
            grant: SessionGrant {
                session: self.sid,
                principal,
                device: self.dev,
                certificate: self.cnf.certificate,
                client_id: self.client_id,
                email: self.email,
                name: self.name,
                groups: self.groups,
                acr: self.acr,
                amr: self.amr,
                auth_time: self.auth_time.map(Timestamp::from_seconds),
            },
        })
    }
}

#[cfg(test)]
mod tests;
