//! Security event tokens pushed to the relay (RFC 8417, OpenID Shared Signals Framework 1.0, CAEP 1.0): verified,
//! read strictly, and turned into what they change here.

mod subject;

pub use subject::Subject;

use crate::claims::Claims;
use crate::limits::{CLOCK_SKEW, MAX_CLAIM_BYTES, MAX_EVENT_BYTES, MAX_ISSUER_BYTES};
use crate::outside::{Effect, Sessions};
use crate::provider::{Jwks, TokenFault, check_extensions};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Header, decode_header};
use postern_protocol::Timestamp;
use serde_json::{Map, Value};
use std::time::Duration;

/// How long after its issue an event still counts: a transmitter may try for some days. So long its `jti` must be
/// remembered.
const MAX_AGE: Duration = Duration::from_secs(7 * 86_400);

const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";

/// What the relay demands of one transmitter's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalRules {
    /// `iss`, exactly.
    pub issuer: String,
    /// `aud`: what the transmitter calls this relay.
    pub audience: String,
    /// The OpenID provider, whose principals and sessions events are about.
    pub provider: String,
}

/// Why an event was refused: the codes of RFC 8935 §2.4, with words that name claims and never their values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignalFault {
    /// Not a security event token, or not one of this profile.
    #[error("{0}")]
    InvalidRequest(String),
    /// Signed by a key that the transmitter does not publish.
    #[error("the event is signed with a key that the transmitter does not publish")]
    InvalidKey,
    /// Of nobody who may tell anything here.
    #[error("iss is not a configured transmitter")]
    InvalidIssuer,
    /// For somebody else.
    #[error("aud is not this relay's")]
    InvalidAudience,
    /// Not shown to be of the transmitter.
    #[error("{0}")]
    AuthenticationFailed(String),
    /// Of another transmitter than the one that delivers it.
    #[error("the authorization is that of another transmitter")]
    AccessDenied,
}

impl SignalFault {
    /// The code on the wire.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::InvalidKey => "invalid_key",
            Self::InvalidIssuer => "invalid_issuer",
            Self::InvalidAudience => "invalid_audience",
            Self::AuthenticationFailed(_) => "authentication_failed",
            Self::AccessDenied => "access_denied",
        }
    }
}

impl From<String> for SignalFault {
    fn from(fault: String) -> Self {
        Self::InvalidRequest(fault)
    }
}

impl From<TokenFault> for SignalFault {
    fn from(fault: TokenFault) -> Self {
        match fault {
            TokenFault::UnknownKey => Self::InvalidKey,
            TokenFault::Stale(why) | TokenFault::Invalid(why) => Self::InvalidRequest(why),
        }
    }
}

/// A verified event. Only [`verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Signal {
    /// Its type, as far as it is known: the last part of its URI.
    pub kind: Kind,
    /// Whom it is about.
    pub subject: Subject,
    /// What it changes.
    pub effect: Effect,
    /// The token's own name, which counts once.
    pub jti: String,
    /// From then on no check lets the token pass, so its name may be forgotten.
    pub until: Timestamp,
}

/// Kinds of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// CAEP §3.1.
    SessionRevoked,
    /// CAEP §3.2.
    TokenClaimsChange,
    /// CAEP §3.3.
    CredentialChange,
    /// CAEP §3.5.
    DeviceComplianceChange,
    /// SSF §8.1.4: the transmitter tries the way.
    Verification,
    /// SSF §8.1.5: the transmitter pauses or stops.
    StreamUpdated,
    /// Any other: acknowledged, without effect.
    Other,
}

impl Kind {
    fn of(uri: &str) -> Self {
        match (uri.strip_prefix(CAEP), uri.strip_prefix(SSF)) {
            (Some("session-revoked"), _) => Self::SessionRevoked,
            (Some("token-claims-change"), _) => Self::TokenClaimsChange,
            (Some("credential-change"), _) => Self::CredentialChange,
            (Some("device-compliance-change"), _) => Self::DeviceComplianceChange,
            (_, Some("verification")) => Self::Verification,
            (_, Some("stream-updated")) => Self::StreamUpdated,
            _ => Self::Other,
        }
    }

    /// For the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SessionRevoked => "session-revoked",
            Self::TokenClaimsChange => "token-claims-change",
            Self::CredentialChange => "credential-change",
            Self::DeviceComplianceChange => "device-compliance-change",
            Self::Verification => "verification",
            Self::StreamUpdated => "stream-updated",
            Self::Other => "an event of another kind",
        }
    }
}

/// Who a token that is not verified yet says it is of: enough to choose whose keys to verify it with, and no more.
pub fn claimed_issuer(token: &str) -> Result<String, SignalFault> {
    let malformed = || SignalFault::InvalidRequest("the body is not a signed JWT".into());
    if token.len() > MAX_EVENT_BYTES {
        return Err(SignalFault::InvalidRequest("the event is too long".into()));
    }
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(malformed());
    };
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| malformed())?;
    let claims: Claims = serde_json::from_slice(&payload).map_err(|_| malformed())?;
    let issuer = claims.text("iss", MAX_ISSUER_BYTES)?.ok_or(SignalFault::InvalidIssuer)?;
    Ok(issuer.to_owned())
}

/// Verifies `token` as a security event of this transmitter: size, type, signature, issuer, audience, times, shapes.
pub fn verify(token: &str, jwks: &Jwks, rules: &SignalRules, now: Timestamp) -> Result<Signal, SignalFault> {
    if token.len() > MAX_EVENT_BYTES {
        return Err(SignalFault::InvalidRequest("the event is too long".into()));
    }
    let header = decode_header(token).map_err(|_| invalid("the event is not a signed JWT of a known algorithm"))?;
    check_header(&header)?;
    let claims = jwks.verified(token, &header).map_err(|fault| match fault {
        TokenFault::UnknownKey => SignalFault::InvalidKey,
        TokenFault::Stale(why) | TokenFault::Invalid(why) => SignalFault::AuthenticationFailed(why),
    })?;
    if claims.text("iss", MAX_ISSUER_BYTES)? != Some(&rules.issuer) {
        return Err(SignalFault::InvalidIssuer);
    }
    if !claims.strings("aud", 16, MAX_CLAIM_BYTES)?.contains(&rules.audience) {
        return Err(SignalFault::InvalidAudience);
    }
    let issued_at = check_times(&claims, now)?;
    let jti = claims.text("jti", MAX_CLAIM_BYTES)?.ok_or_else(|| invalid("jti is missing"))?.to_owned();
    let (uri, event) = only_event(&claims)?;
    let kind = Kind::of(uri);
    let subject = match claims.object("sub_id")? {
        Some(subject) => Subject::read(subject, &rules.provider)?,
        None if kind == Kind::Other => Subject::default(),
        None => return Err(invalid("sub_id is missing")),
    };
    let at = happened(event, issued_at, now)?;
    let effect = effect(kind, event, &subject, at)?;
    Ok(Signal { kind, subject, effect, jti, until: issued_at.plus(MAX_AGE) })
}

fn invalid(why: &str) -> SignalFault {
    SignalFault::InvalidRequest(why.into())
}

fn check_header(header: &Header) -> Result<(), SignalFault> {
    let typ = header.typ.as_deref().map(str::to_ascii_lowercase);
    if !matches!(typ.as_deref(), Some("secevent+jwt" | "application/secevent+jwt")) {
        return Err(invalid("typ is not secevent+jwt"));
    }
    Ok(check_extensions(header)?)
}

/// SSF §4.1.7 and §4.1.8: an event has no `exp` and no `sub`, lest it passes for an access or ID token elsewhere.
fn check_times(claims: &Claims, now: Timestamp) -> Result<Timestamp, SignalFault> {
    for misleading in ["exp", "sub"] {
        if claims.has(misleading) {
            return Err(SignalFault::InvalidRequest(format!("{misleading} must not be in a security event")));
        }
    }
    let issued_at = claims.seconds("iat")?.map(Timestamp::from_seconds).ok_or_else(|| invalid("iat is missing"))?;
    if issued_at > now.plus(CLOCK_SKEW) {
        return Err(invalid("iat lies in the future: compare the clocks of transmitter and relay"));
    }
    if issued_at.plus(MAX_AGE) <= now {
        return Err(invalid("the event was issued too long ago"));
    }
    Ok(issued_at)
}

fn only_event(claims: &Claims) -> Result<(&str, &Map<String, Value>), SignalFault> {
    let events = claims.object("events")?.ok_or_else(|| invalid("events is missing"))?;
    match events.iter().next() {
        Some((uri, Value::Object(event))) if events.len() == 1 => Ok((uri, event)),
        _ => Err(invalid("events must hold one event, which is an object")),
    }
}

/// When it happened: `event_timestamp` (CAEP §2), else when it was issued; never later than now.
fn happened(event: &Map<String, Value>, issued_at: Timestamp, now: Timestamp) -> Result<Timestamp, SignalFault> {
    let at = match event.get("event_timestamp") {
        None => issued_at,
        Some(Value::Number(seconds)) => {
            let whole = seconds.as_f64().filter(|seconds| (0.0..253_402_300_800.0).contains(seconds));
            let millis = whole.map(Duration::from_secs_f64);
            Timestamp::default().plus(millis.ok_or_else(|| invalid("event_timestamp is out of bounds"))?)
        }
        Some(_) => return Err(invalid("event_timestamp is not a number")),
    };
    // Too far ahead it would outweigh every later event.
    if at > now.plus(CLOCK_SKEW) {
        return Err(invalid("event_timestamp lies in the future: it counts seconds since 1970"));
    }
    Ok(at.min(now))
}

fn effect(kind: Kind, event: &Map<String, Value>, subject: &Subject, at: Timestamp) -> Result<Effect, SignalFault> {
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    if subject.foreign {
        return Ok(Effect::Nothing(
            "sub_id names somebody of another issuer, or a device by an id that is not Postern's",
        ));
    }
    match kind {
        Kind::SessionRevoked => Ok(end(subject, at)),
        Kind::CredentialChange => match text("change_type") {
            Some("create") => Ok(Effect::Nothing("a new credential takes nothing away")),
            Some("revoke" | "update" | "delete") => Ok(end(subject, at)),
            _ => Err(invalid("change_type is not create, revoke, update or delete")),
        },
        Kind::DeviceComplianceChange => {
            let compliant = match text("current_status") {
                Some("compliant") => true,
                Some("not-compliant") => false,
                _ => return Err(invalid("current_status is not compliant or not-compliant")),
            };
            let opaque = || subject.opaque.as_ref().and_then(|id| id.parse().ok());
            Ok(match subject.device.clone().or_else(opaque) {
                Some(device) => Effect::Compliance { device, compliant, at },
                None => Effect::Nothing("sub_id names no device"),
            })
        }
        Kind::TokenClaimsChange => Ok(match &subject.user {
            Some(user) => Effect::ClaimsChanged { principal: user.clone(), at },
            None => Effect::Nothing("sub_id names no user"),
        }),
        Kind::Verification | Kind::StreamUpdated => Ok(Effect::Nothing("it is about the stream of events itself")),
        Kind::Other => Ok(Effect::Nothing("events of this type are not acted on")),
    }
}

fn end(subject: &Subject, at: Timestamp) -> Effect {
    let Subject { user, session, device, opaque, .. } = subject.clone();
    let session = session.or(opaque);
    if user.is_none() && session.is_none() && device.is_none() {
        return Effect::Nothing("sub_id identifies nobody here");
    }
    let or_unknown = user.is_some();
    Effect::End(Sessions { principal: user, session, device, or_unknown, at })
}

#[cfg(test)]
mod tests;
