//! The provider's tokens: ID tokens and RFC 9068 access tokens, verified against the provider's key set.

mod jwks;

pub use jwks::Jwks;

use crate::claims::Claims;
use crate::limits::{CLOCK_SKEW, MAX_AMR, MAX_CLAIM_BYTES, MAX_GROUP_BYTES, MAX_GROUPS, MAX_ISSUER_BYTES};
use crate::limits::{MAX_SUBJECT_BYTES, MAX_TOKEN_BYTES};
use crate::principal::PrincipalKey;
use jsonwebtoken::{Header, decode_header};
use postern_protocol::Timestamp;
use std::time::Duration;

/// What the relay demands of the provider's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderRules {
    /// `iss`, exactly.
    pub issuer: String,
    /// The agent's client; `aud` of ID tokens.
    pub client_id: String,
    /// `aud` of access tokens; absent: no access token is accepted.
    pub resource: Option<String>,
    /// The claim that lists groups.
    pub groups_claim: String,
    /// How long after its issue a token still starts or renews a session.
    pub max_age: Duration,
}

/// Which token the caller was told this is. The rules of the other kind do not apply to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// OpenID Connect ID token.
    Id,
    /// RFC 9068 access token.
    Access,
}

/// Why a provider's token was refused. The texts name claims, never their values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// The key set has no key of this name: worth one refresh of the key set.
    #[error("the token is signed with a key that the provider does not publish")]
    UnknownKey,
    /// Right, but too old or ended: a fresh one will do.
    #[error("{0}")]
    Stale(String),
    /// Not acceptable.
    #[error("{0}")]
    Invalid(String),
}

impl From<String> for TokenFault {
    fn from(fault: String) -> Self {
        Self::Invalid(fault)
    }
}

/// What a verified token says. Only [`verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// Who: issuer and subject.
    pub key: PrincipalKey,
    /// For people; absent where the provider says that it is not verified. Never identity.
    pub email: Option<String>,
    /// For people; never identity.
    pub name: Option<String>,
    /// Groups of this very token; no claim: none.
    pub groups: Vec<String>,
    /// Authentication context class.
    pub acr: Option<String>,
    /// Authentication methods.
    pub amr: Vec<String>,
    /// When the person last proved themself to the provider.
    pub auth_time: Option<Timestamp>,
    /// When the token was issued.
    pub issued_at: Timestamp,
    /// When the token ends.
    pub expires: Timestamp,
    /// The nonce of the sign-in.
    pub nonce: Option<String>,
    /// The client it was issued to, where the token tells.
    pub client_id: Option<String>,
    /// The provider's session, by which its logout tokens name it.
    pub provider_session: Option<String>,
}

/// Verifies `token` as a token of `kind`: signature, type, issuer, audience, times, shapes.
pub fn verify(
    token: &str,
    kind: TokenKind,
    jwks: &Jwks,
    rules: &ProviderRules,
    now: Timestamp,
) -> Result<Identity, TokenFault> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(invalid("the token is too long"));
    }
    let header = decode_header(token).map_err(|_| invalid("the token is not a signed JWT of a known algorithm"))?;
    check_header(&header, kind)?;
    let claims = jwks.verified(token, &header)?;
    check_issue(&claims, kind, rules)?;
    let (issued_at, expires) = check_times(&claims, rules.max_age, now)?;
    identity(&claims, rules, issued_at, expires)
}

fn invalid(why: &str) -> TokenFault {
    TokenFault::Invalid(why.into())
}

/// `typ` keeps kinds of JWT apart (RFC 8725 §3.11); `crit` lists what a receiver must know, and we know none.
fn check_header(header: &Header, kind: TokenKind) -> Result<(), TokenFault> {
    let typ = header.typ.as_deref().map(str::to_ascii_lowercase);
    let fits = match kind {
        TokenKind::Id => matches!(typ.as_deref(), None | Some("jwt")),
        TokenKind::Access => matches!(typ.as_deref(), Some("at+jwt" | "application/at+jwt")),
    };
    if !fits {
        return Err(invalid("typ is not that of this kind of token"));
    }
    check_extensions(header)
}

/// None of the extensions of RFC 7515 §4.1.11 and RFC 7516 is known here, and no token may need one.
pub(crate) fn check_extensions(header: &Header) -> Result<(), TokenFault> {
    if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
        return Err(invalid("the token uses extensions that are not supported"));
    }
    Ok(())
}

fn check_issue(claims: &Claims, kind: TokenKind, rules: &ProviderRules) -> Result<(), TokenFault> {
    if claims.text("iss", MAX_ISSUER_BYTES)? != Some(&rules.issuer) {
        return Err(invalid("iss is not the configured provider"));
    }
    // A logout token or security event is no proof of a sign-in, even where its typ does not tell.
    if claims.has("events") {
        return Err(invalid("this is an event, not a token of a sign-in"));
    }
    let audience = claims.strings("aud", 16, MAX_CLAIM_BYTES)?;
    let expected = match kind {
        TokenKind::Id => &rules.client_id,
        TokenKind::Access => rules.resource.as_ref().ok_or_else(|| {
            invalid("access tokens are not accepted here: the relay's configuration names no provider.resource")
        })?,
    };
    if !audience.contains(expected) {
        return Err(invalid("aud does not name this relay's client or resource"));
    }
    let authorized = claims.text("azp", MAX_CLAIM_BYTES)?;
    // OpenID Connect Core §3.1.3.7: with several audiences azp must be there, and if it is there it must be us.
    if kind == TokenKind::Id && (audience.len() > 1 || authorized.is_some()) && authorized != Some(&rules.client_id) {
        return Err(invalid("azp is not this relay's client"));
    }
    Ok(())
}

fn check_times(claims: &Claims, max_age: Duration, now: Timestamp) -> Result<(Timestamp, Timestamp), TokenFault> {
    let required = |name: &str| -> Result<Timestamp, TokenFault> {
        let seconds = claims.seconds(name)?.ok_or_else(|| TokenFault::Invalid(format!("{name} is missing")))?;
        Ok(Timestamp::from_seconds(seconds))
    };
    let (issued_at, expires) = (required("iat")?, required("exp")?);
    let begins = claims.seconds("nbf")?.map_or(issued_at, Timestamp::from_seconds);
    if issued_at.max(begins) > now.plus(CLOCK_SKEW) {
        return Err(invalid("the token begins in the future: compare the clocks of provider and relay"));
    }
    // A sign-in of tomorrow would count as fresh until then.
    if claims.seconds("auth_time")?.is_some_and(|at| Timestamp::from_seconds(at) > now.plus(CLOCK_SKEW)) {
        return Err(invalid("auth_time lies in the future: it counts seconds since 1970"));
    }
    if expires.plus(CLOCK_SKEW) <= now {
        return Err(TokenFault::Stale("the token has ended".into()));
    }
    if now.since(issued_at) > max_age {
        return Err(TokenFault::Stale("the token was issued too long ago".into()));
    }
    Ok((issued_at, expires))
}

fn identity(
    claims: &Claims,
    rules: &ProviderRules,
    issued_at: Timestamp,
    expires: Timestamp,
) -> Result<Identity, TokenFault> {
    let subject = claims.text("sub", MAX_SUBJECT_BYTES)?.ok_or_else(|| invalid("sub is missing"))?;
    let owned = |name: &str| Ok::<_, String>(claims.text(name, MAX_CLAIM_BYTES)?.map(String::from));
    let email = claims.display("email", MAX_CLAIM_BYTES).filter(|_| !claims.denies("email_verified"));
    // Entra names a place to ask instead of listing more than 200 groups. Read as "no groups" it would pass by every
    // policy that forbids one.
    if claims.has_elsewhere(&rules.groups_claim) {
        return Err(invalid(
            "the groups are not in the token (overage): have the provider list only groups for this app",
        ));
    }
    let mut groups = claims.strings(&rules.groups_claim, MAX_GROUPS, MAX_GROUP_BYTES)?;
    groups.sort_unstable();
    groups.dedup();
    Ok(Identity {
        key: PrincipalKey::new(&rules.issuer, subject).map_err(|e| TokenFault::Invalid(e.to_string()))?,
        email,
        name: claims.display("name", MAX_CLAIM_BYTES),
        groups,
        acr: owned("acr")?,
        amr: claims.strings("amr", MAX_AMR, MAX_CLAIM_BYTES)?,
        auth_time: claims.seconds("auth_time")?.map(Timestamp::from_seconds),
        issued_at,
        expires,
        nonce: owned("nonce")?,
        client_id: owned("client_id")?.or(owned("azp")?),
        provider_session: claims.text("sid", MAX_CLAIM_BYTES).ok().flatten().map(String::from),
    })
}

#[cfg(test)]
mod tests;
