//! Logout tokens of the provider (OpenID Connect Back-Channel Logout 1.0 §2.4 and §2.6): which sessions end, and by
//! whose word.

use crate::claims::Claims;
use crate::limits::{CLOCK_SKEW, MAX_CLAIM_BYTES, MAX_EVENT_BYTES, MAX_ISSUER_BYTES, MAX_SUBJECT_BYTES};
use crate::principal::PrincipalKey;
use crate::provider::{Jwks, TokenFault, check_extensions};
use jsonwebtoken::{Header, decode_header};
use postern_protocol::Timestamp;
use std::time::Duration;

/// The one event that a logout token tells.
pub const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// How long after its issue a logout token still counts, whatever its `exp`: so long its `jti` must be remembered.
const MAX_AGE: Duration = Duration::from_secs(600);
/// The same for one without `exp`.
const MAX_AGE_WITHOUT_END: Duration = Duration::from_secs(120);

/// What the relay demands of logout tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutRules {
    /// `iss`, exactly.
    pub issuer: String,
    /// The agent's client; `aud`.
    pub client_id: String,
    /// May `typ` be `JWT` or absent, and `exp` be missing? For providers older than the final specification.
    pub untyped: bool,
}

/// A verified logout token. Only [`verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Logout {
    /// Who signed out. Absent: only the provider's session is named.
    pub principal: Option<PrincipalKey>,
    /// Which of the provider's sessions ended. Absent: all of the principal's.
    pub provider_session: Option<String>,
    /// The token's own name, which counts once.
    pub jti: String,
    /// When the token was issued.
    pub issued_at: Timestamp,
    /// From then on no check lets the token pass, so its name may be forgotten.
    pub until: Timestamp,
}

/// Verifies `token` as a logout token: size, type, signature, issuer, audience, times, event, shapes.
pub fn verify(token: &str, jwks: &Jwks, rules: &LogoutRules, now: Timestamp) -> Result<Logout, TokenFault> {
    if token.len() > MAX_EVENT_BYTES {
        return Err(invalid("the logout token is too long"));
    }
    let header =
        decode_header(token).map_err(|_| invalid("the logout token is not a signed JWT of a known algorithm"))?;
    check_header(&header, rules)?;
    let claims = jwks.verified(token, &header)?;
    check_issue(&claims, rules)?;
    check_event(&claims)?;
    let (issued_at, until) = check_times(&claims, rules, now)?;
    let principal = match claims.text("sub", MAX_SUBJECT_BYTES)? {
        Some(subject) => Some(PrincipalKey::new(&rules.issuer, subject).map_err(|why| invalid(&why.to_string()))?),
        None => None,
    };
    let provider_session = claims.text("sid", MAX_CLAIM_BYTES)?.map(String::from);
    if principal.is_none() && provider_session.is_none() {
        return Err(invalid("neither sub nor sid tells whose sessions end"));
    }
    let jti = claims.text("jti", MAX_CLAIM_BYTES)?.ok_or_else(|| invalid("jti is missing"))?.to_owned();
    Ok(Logout { principal, provider_session, jti, issued_at, until })
}

fn invalid(why: &str) -> TokenFault {
    TokenFault::Invalid(why.into())
}

fn check_header(header: &Header, rules: &LogoutRules) -> Result<(), TokenFault> {
    let typ = header.typ.as_deref().map(str::to_ascii_lowercase);
    let fits = match typ.as_deref() {
        Some("logout+jwt" | "application/logout+jwt") => true,
        None | Some("jwt") => rules.untyped,
        Some(_) => false,
    };
    if !fits {
        return Err(invalid("typ is not logout+jwt"));
    }
    check_extensions(header)
}

fn check_issue(claims: &Claims, rules: &LogoutRules) -> Result<(), TokenFault> {
    if claims.text("iss", MAX_ISSUER_BYTES)? != Some(&rules.issuer) {
        return Err(invalid("iss is not the configured provider"));
    }
    if !claims.strings("aud", 16, MAX_CLAIM_BYTES)?.contains(&rules.client_id) {
        return Err(invalid("aud does not name this relay's client"));
    }
    Ok(())
}

/// The event that makes a JWT a logout token and nothing else, and the nonce that it must not have, lest an ID token
/// passes for one.
fn check_event(claims: &Claims) -> Result<(), TokenFault> {
    if claims.has("nonce") {
        return Err(invalid("nonce must not be in a logout token"));
    }
    let events = claims.object("events")?.ok_or_else(|| invalid("events is missing"))?;
    match events.get(EVENT) {
        Some(event) if events.len() == 1 && event.is_object() => Ok(()),
        _ => Err(invalid("events does not hold the logout event alone")),
    }
}

/// When it was issued, and until when it counts.
fn check_times(claims: &Claims, rules: &LogoutRules, now: Timestamp) -> Result<(Timestamp, Timestamp), TokenFault> {
    let time = |name: &str| Ok::<_, TokenFault>(claims.seconds(name)?.map(Timestamp::from_seconds));
    let issued_at = time("iat")?.ok_or_else(|| invalid("iat is missing"))?;
    let begins = time("nbf")?.map_or(issued_at, |begins| begins.max(issued_at));
    if begins > now.plus(CLOCK_SKEW) {
        return Err(invalid("the logout token begins in the future: compare the clocks of provider and relay"));
    }
    let ends = match time("exp")? {
        Some(expires) => expires.plus(CLOCK_SKEW).min(issued_at.plus(MAX_AGE + CLOCK_SKEW)),
        None if rules.untyped => issued_at.plus(MAX_AGE_WITHOUT_END),
        None => return Err(invalid("exp is missing")),
    };
    if ends <= now {
        return Err(TokenFault::Stale("the logout token has ended or was issued too long ago".into()));
    }
    Ok((issued_at, ends))
}

#[cfg(test)]
mod tests;
