//! `POST /session`: a fresh token of the provider becomes a session token of the session that the device names.

use crate::clock::random;
use crate::enroll::{check_registered, recorded, token_hash, token_kind, until};
use crate::reverify;
use crate::service::Peer;
use crate::state::Relay;
use crate::store::Session;
use crate::{gate, lapse};
use postern_protocol::control::{
    GRANT_TOKEN_EXCHANGE, Posture, Principal, SessionRequest, SessionResponse, TYPE_ACCESS_TOKEN,
};
use postern_protocol::{Code, Problem, SessionId, StepUp, Timestamp};
use postern_relay_core::access::PostureReport;
use postern_relay_core::audit::{Event, Record};
use postern_relay_core::certificate::VerifiedDevice;
use postern_relay_core::provider::{Identity, TokenKind};
use postern_relay_core::revocation::Lapse;
use postern_relay_core::token::{SessionGrant, TokenError};
use secrecy::{ExposeSecret as _, SecretString};
use std::sync::Arc;
use std::time::Duration;

/// No session token is given for less than this.
const LAST_TOKEN: Duration = Duration::from_secs(3);

/// Most characters of a text in a posture report.
const POSTURE_TEXT: usize = 128;

/// Exchanges the token. The session token is given out only once the audit log has the record.
pub async fn exchange(peer: &Peer, form: &[u8]) -> Result<SessionResponse, Problem> {
    let Peer { relay, device, source, .. } = peer;
    let record = Record::event(Event::SessionRenewal, relay.clock.now());
    let mut record = record.from(source.ip()).of_device(device.id());
    let result = renewed(relay, device, form, &mut record).await;
    let of_posture = Record { event: Event::Posture, ..record.clone() };
    let (response, posture, lapsed) = recorded(relay, record, result, Some(peer)).await?;
    if let Some(posture) = posture {
        if relay.postures.get(&response.session).is_none_or(|last| last.posture != posture) {
            let told = serde_json::to_string(&posture).unwrap_or_default();
            recorded(relay, of_posture.detail(told), Ok(()), Some(peer)).await?;
        }
        let report = PostureReport { posture, at: relay.clock.now() };
        relay.postures.insert(response.session.clone(), Arc::new(report));
    }
    if let Some(lapsed) = lapsed {
        lapse::mend(relay, &response.session, lapsed);
    }
    gate::issued(relay, device, &response.access_token);
    // What lives goes by the new token from now on: by its groups, and out of hold if it was that.
    reverify::soon(relay, &response.session);
    Ok(response)
}

async fn renewed(
    relay: &Relay,
    device: &VerifiedDevice,
    form: &[u8],
    record: &mut Record,
) -> Result<(SessionResponse, Option<Posture>, Option<Lapse>), Problem> {
    if relay.draining.is_cancelled() {
        return Err(Problem::new(Code::Draining));
    }
    let request = parse(form)?;
    record.session = Some(request.session.clone());
    if request.grant_type != GRANT_TOKEN_EXCHANGE {
        return Err(Problem::new(Code::RequestInvalid).detail("grant_type must be token exchange (RFC 8693)"));
    }
    let posture = request.posture.as_deref().map(posture).transpose()?;
    let now = relay.clock.now();
    device.check_validity(now)?;
    let kind = token_kind(Some(&request.subject_token_type))?;
    let identity = relay.provider.verify(&request.subject_token, kind, relay.provider.token_max_age(), now).await?;
    record.principal = Some(identity.key.clone());
    let revocations = relay.snapshot.load().revocations.clone();
    if let Some(code) = revocations.cause(device.id(), &identity.key, &request.session) {
        return Err(Problem::new(code));
    }
    let changed = revocations.changed(&identity.key);
    if changed.is_some_and(|changed| identity.issued_at < changed.at) {
        return Err(Problem::new(Code::IdentityTokenStale).detail("what the token says changed since it was issued"));
    }
    let lapsed = revocations.lapsed(&request.session);
    if lapsed.is_some_and(|lapse| identity.issued_at < lapse.at) {
        let why = "the provider renews this sign-in no longer: the session waits for a new one";
        return Err(Problem::new(Code::IdentityTokenStale).detail(why));
    }
    let session = check_session(relay, device, &identity, &request.session, record).await?;
    if session.service {
        check_registered(relay, &identity, device.key_thumbprint())?;
    }
    if kind == TokenKind::Id && identity.nonce.is_none() {
        // Not bound to a key, it could enrol one: not after it was shown here.
        relay.store.use_up(&token_hash(&request.subject_token), until(&identity)).await?;
    }
    let (email, name) = (identity.email.as_deref(), identity.name.as_deref());
    let (provider_session, proved) = (identity.provider_session.as_deref(), identity.auth_time);
    let renewed = relay.store.renew_session(&request.session, email, name, provider_session, proved, now).await?;
    let Some(proved) = renewed else { return Err(Problem::new(Code::SessionRevoked)) };
    let max_age = relay.config.session_max_age.filter(|_| !session.service);
    let left = max_age.map(|max_age| left(proved, max_age, now)).transpose()?;
    let lifetime = lifetime(relay, &identity, now).min(left.unwrap_or(Duration::MAX));
    let grant = grant(relay, device, &identity, request.session.clone());
    // `now` was read before the changes were looked for: a token that may have missed one is issued before it.
    let from = changed.map(|changed| changed.tokens_from).max(lapsed.map(|lapse| lapse.tokens_from));
    let issued = from.map_or(now, |from| from.max(now));
    let token = sign(relay, &grant, lifetime, issued)?;
    let response = SessionResponse {
        access_token: token.expose_secret().to_owned(),
        issued_token_type: TYPE_ACCESS_TOKEN.to_owned(),
        token_type: "Bearer".to_owned(),
        expires_in: lifetime.as_secs(),
        ends: left.map(|left| left.as_secs()),
        session: request.session,
        principal: shown(identity),
    };
    Ok((response, posture, lapsed))
}

/// The session must be there, alive, of this principal and on this device. Which of these failed is for the log.
async fn check_session(
    relay: &Relay,
    device: &VerifiedDevice,
    identity: &Identity,
    id: &SessionId,
    record: &mut Record,
) -> Result<Session, Problem> {
    let unknown = |record: &mut Record, why: &str| {
        record.detail = Some(why.to_owned());
        Err(Problem::new(Code::SessionUnknown))
    };
    match relay.store.session(id).await? {
        None => unknown(record, "there is no such session"),
        Some(session) if session.device != *device.id() => unknown(record, "the session is of another device"),
        Some(session) if session.principal != identity.key => unknown(record, "the session is of another principal"),
        Some(session) if session.ended => Err(Problem::new(Code::SessionRevoked)),
        Some(session) => Ok(session),
    }
}

/// How long the session token lives: not beyond the age that the provider's token may have, so that somebody
/// disabled at the provider is out within that.
fn lifetime(relay: &Relay, identity: &Identity, now: Timestamp) -> Duration {
    let provider_token = identity.issued_at.plus(relay.provider.token_max_age()).since(now);
    relay.config.token_lifetime.min(provider_token).max(Duration::from_secs(1))
}

/// How long a session has left whose user proved themself then. A little before its end it is refused, while there still is
/// a session token by which the agent can say that live streams are to be held.
fn left(proved: Timestamp, max_age: Duration, now: Timestamp) -> Result<Duration, Problem> {
    let left = Duration::from_secs(proved.plus(max_age).since(now).as_secs());
    if left >= LAST_TOKEN {
        return Ok(left);
    }
    let wanted = StepUp { max_age: Some(max_age.as_secs()), acr_values: None };
    let reason = "Your organisation wants people to sign in afresh from time to time.";
    Err(Problem::new(Code::StepUpRequired)
        .detail("the session has reached session.max_age")
        .step_up(Some(wanted))
        .advice(Some(reason.into()), Some("Sign in again: postern login".into())))
}

fn grant(relay: &Relay, device: &VerifiedDevice, identity: &Identity, session: SessionId) -> SessionGrant {
    SessionGrant {
        session,
        principal: identity.key.clone(),
        device: device.id().clone(),
        certificate: device.thumbprint().to_owned(),
        client_id: identity.client_id.clone().unwrap_or_else(|| relay.config.provider.client_id.clone()),
        email: identity.email.clone(),
        name: identity.name.clone(),
        groups: identity.groups.clone(),
        acr: identity.acr.clone(),
        amr: identity.amr.clone(),
        auth_time: identity.auth_time,
    }
}

fn sign(relay: &Relay, grant: &SessionGrant, lifetime: Duration, now: Timestamp) -> Result<SecretString, Problem> {
    let jti = u128::from_be_bytes(random()?);
    relay.signer.sign(grant, now, lifetime, jti).map_err(|error| match error {
        TokenError::TooLarge => Problem::new(Code::IdentityTokenInvalid).detail(error.to_string()),
        TokenError::Key | TokenError::Signing => Problem::new(Code::Internal).detail(error.to_string()),
    })
}

fn shown(identity: Identity) -> Principal {
    Principal {
        issuer: identity.key.issuer().to_owned(),
        subject: identity.key.subject().to_owned(),
        email: identity.email,
        name: identity.name,
        groups: identity.groups,
    }
}

/// The form's fields. A field that comes twice is refused (RFC 6749 §3.2); one that is not known is ignored.
fn parse(form: &[u8]) -> Result<SessionRequest, Problem> {
    let invalid = |why: String| Problem::new(Code::RequestInvalid).detail(why);
    let mut fields: std::collections::HashMap<String, String> = std::collections::HashMap::new();
    for (name, value) in form_urlencoded::parse(form) {
        if fields.insert(name.clone().into_owned(), value.into_owned()).is_some() {
            return Err(invalid("a field of the form comes twice".to_owned()));
        }
    }
    let mut needed = |name: &str| fields.remove(name).ok_or_else(|| invalid(format!("the form lacks {name}")));
    Ok(SessionRequest {
        grant_type: needed("grant_type")?,
        subject_token: needed("subject_token")?,
        subject_token_type: needed("subject_token_type")?,
        session: needed("session")?.parse().map_err(|error| invalid(format!("session: {error}")))?,
        posture: fields.remove("posture"),
    })
}

/// A posture report within its bounds.
pub fn posture(json: &str) -> Result<Posture, Problem> {
    let invalid = |why: &str| Problem::new(Code::RequestInvalid).detail(why);
    let posture: Posture =
        serde_json::from_str(json).map_err(|_| invalid("posture is not a posture report in JSON"))?;
    let texts = [&posture.os, &posture.os_version, &posture.agent_version, &posture.key_storage];
    if texts
        .into_iter()
        .chain(&posture.kernel_version)
        .any(|text| text.chars().count() > POSTURE_TEXT || text.chars().any(char::is_control))
    {
        return Err(invalid("posture holds a text that is too long or has control characters"));
    }
    Ok(posture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_with_a_field_twice_is_refused() {
        let form = "grant_type=a&subject_token=b&subject_token_type=c&session=00112233445566778899aabbccddeeff";
        assert!(parse(form.as_bytes()).is_ok());
        assert!(parse(format!("{form}&session=00112233445566778899aabbccddeeff").as_bytes()).is_err());
        assert!(parse(form.replace("session=0", "session=../").as_bytes()).is_err());
        assert!(parse(b"").is_err());
    }

    #[test]
    fn posture_texts_are_bounded() {
        let report = |os: &str| {
            let (os_version, agent_version, key_storage) = ("1".to_owned(), "1".to_owned(), "keyring".to_owned());
            let report = Posture { os: os.to_owned(), os_version, agent_version, key_storage, ..Posture::default() };
            posture(&serde_json::to_string(&report).unwrap())
        };
        assert!(report("linux").is_ok());
        assert!(report(&"x".repeat(129)).is_err());
        assert!(report("li\u{1b}nux").is_err());
        let kernel = |version: &str| {
            let report = Posture { kernel_version: Some(version.to_owned()), ..Posture::default() };
            posture(&serde_json::to_string(&report).unwrap())
        };
        assert_eq!(kernel("6.1.0").unwrap().kernel_version.as_deref(), Some("6.1.0"));
        assert!(kernel(&"6".repeat(129)).is_err());
        assert!(posture("[]").is_err());
    }
}
