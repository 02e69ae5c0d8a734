//! Enrolment: a fresh sign-in and a proven device key become a certificate and a session. Renewal: a live session
//! and the same key become another certificate.

use crate::ca::Issued;
use crate::clock::random;
use crate::service::Peer;
use crate::state::Relay;
use crate::store::SignIn;
use postern_protocol::binding;
use postern_protocol::control::{EnrollRequest, EnrollResponse, TYPE_ACCESS_TOKEN, TYPE_ID_TOKEN};
use postern_protocol::problem::printable;
use postern_protocol::{Code, Problem, SessionId, Timestamp};
use postern_relay_core::access::check_identity;
use postern_relay_core::audit::{Event, Record};
use postern_relay_core::certificate::VerifiedDevice;
use postern_relay_core::issuance::{CsrKey, check_csr};
use postern_relay_core::limits::CLOCK_SKEW;
use postern_relay_core::provider::{Identity, TokenKind};
use postern_relay_core::revocation::Target;
use postern_relay_core::token::VerifiedSession;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use subtle::ConstantTimeEq as _;

/// How old the token of a sign-in may be when it enrols.
const FRESH: Duration = Duration::from_secs(300);
/// Characters of a device's name that are kept.
const NAME: usize = 64;

/// `POST /enroll` on the public listener. The certificate is given out only once the audit log has the record.
pub async fn after_sign_in(relay: &Relay, source: IpAddr, request: EnrollRequest) -> Result<EnrollResponse, Problem> {
    let mut record = Record::event(Event::Enrolment, relay.clock.now()).from(source);
    let result = sign_in(relay, request, &mut record).await;
    recorded(relay, record, result, None).await
}

/// `POST /enroll` over mTLS: another certificate for the key that made this connection.
pub async fn renew(peer: &Peer, session: &VerifiedSession, request: EnrollRequest) -> Result<EnrollResponse, Problem> {
    let Peer { relay, device, source, .. } = peer;
    let record = Record::event(Event::CertificateRenewal, relay.clock.now()).from(source.ip());
    let record = record.of_device(device.id()).of_session(session);
    let result = another(relay, device, session, request).await;
    recorded(relay, record, result, Some(peer)).await
}

/// `result`, recorded under a decision of its own: what cannot be recorded is not given out, and a decision that is not
/// in the log is not named. `peer` is at the other end; absent on the public listener.
pub(crate) async fn recorded<T>(
    relay: &Relay,
    mut record: Record,
    result: Result<T, Problem>,
    peer: Option<&Peer>,
) -> Result<T, Problem> {
    let decision = relay.clock.decision_id();
    record.decision = Some(decision.clone());
    if let Err(problem) = &result {
        let source = record.source.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let singly = match peer {
            Some(peer) => peer.records_refusal(),
            None => relay.limiters.refusals.record_public(source, problem.code),
        };
        if !singly {
            return result;
        }
        record = record.refused(problem.code);
        if record.detail.is_none() {
            record.detail.clone_from(&problem.detail);
        }
    }
    let written = relay.audit.record(record).await;
    match (result, written) {
        (Ok(value), Ok(())) => Ok(value),
        (Err(problem), Ok(())) => Err(problem.decision(decision)),
        (Err(problem), Err(_)) => Err(problem),
        (Ok(_), Err(unavailable)) => Err(unavailable.into()),
    }
}

/// What kind of provider token the caller says this is.
pub(crate) fn token_kind(name: Option<&str>) -> Result<TokenKind, Problem> {
    match name {
        Some(TYPE_ID_TOKEN) => Ok(TokenKind::Id),
        Some(TYPE_ACCESS_TOKEN) => Ok(TokenKind::Access),
        _ => Err(Problem::new(Code::RequestInvalid).detail("the type of the provider's token is missing or unknown")),
    }
}

/// A service account counts only on a device whose key was registered for it.
pub(crate) fn check_registered(relay: &Relay, identity: &Identity, thumbprint: &str) -> Result<(), Problem> {
    let subject = identity.key.subject();
    let registered = |account: &&crate::config::ServiceAccount| {
        account.subject == subject && account.key_thumbprint.as_bytes().ct_eq(thumbprint.as_bytes()).into()
    };
    if relay.config.service_accounts.iter().any(|account| registered(&account)) {
        return Ok(());
    }
    let detail = format!("subject {}, key_thumbprint {thumbprint}", printable(subject));
    Err(Problem::new(Code::ServiceAccountUnregistered).detail(detail))
}

async fn sign_in(relay: &Relay, request: EnrollRequest, record: &mut Record) -> Result<EnrollResponse, Problem> {
    if relay.draining.is_cancelled() {
        return Err(Problem::new(Code::Draining));
    }
    let csr = check_csr(&request.csr)?;
    let device = csr.device_id();
    record.device = Some(device.clone());
    let token = request.token.as_deref().unwrap_or_default();
    if token.is_empty() {
        return Err(Problem::new(Code::IdentityTokenInvalid).detail("the provider's token is missing"));
    }
    let kind = token_kind(request.token_type.as_deref())?;
    let now = relay.clock.now();
    let identity = relay.provider.verify(token, kind, FRESH, now).await?;
    record.principal = Some(identity.key.clone());
    match kind {
        TokenKind::Id => check_binding(relay, &identity, &request, &csr)?,
        TokenKind::Access => check_registered(relay, &identity, &csr.thumbprint())?,
    }
    check_not_revoked(relay, &csr, &identity)?;
    let session = SessionId::from_random(u128::from_be_bytes(random()?));
    let name = printable(&request.device_name).chars().take(NAME).collect::<String>();
    let sign_in = SignIn {
        session: &session,
        device: &device,
        device_name: name.trim(),
        principal: &identity.key,
        email: identity.email.as_deref(),
        name: identity.name.as_deref(),
        service: kind == TokenKind::Access,
        token_hash: token_hash(token),
        token_issued: identity.issued_at,
        token_until: until(&identity),
        provider_session: identity.provider_session.as_deref(),
    };
    // The token is used up before anything is signed: a refusal here leaves no certificate behind anywhere.
    relay.store.start_session(&sign_in, now).await?;
    record.session = Some(session.clone());
    // A revocation meanwhile did not see this session: it must not outlive a later restoration.
    if let Err(revoked) = check_not_revoked(relay, &csr, &identity) {
        relay.store.revoke(&Target::Session(session), now).await?;
        return Err(revoked);
    }
    let Issued { chain_pem, not_after } = relay.ca.issue(&csr, now).await?;
    Ok(EnrollResponse { certificate: chain_pem, device, session, not_after })
}

async fn another(
    relay: &Relay,
    device: &VerifiedDevice,
    session: &VerifiedSession,
    request: EnrollRequest,
) -> Result<EnrollResponse, Problem> {
    if relay.draining.is_cancelled() {
        return Err(Problem::new(Code::Draining));
    }
    let now = relay.clock.now();
    check_identity(device, session, &relay.snapshot.load(), now)?;
    let csr = check_csr(&request.csr)?;
    if csr.thumbprint() != device.key_thumbprint() {
        return Err(Problem::new(Code::CsrInvalid).detail("a certificate is renewed for the same key only"));
    }
    match relay.store.session(session.session()).await? {
        None => return Err(Problem::new(Code::SessionUnknown)),
        Some(known) if known.ended => return Err(Problem::new(Code::SessionRevoked)),
        Some(_) => {}
    }
    let Issued { chain_pem, not_after } = relay.ca.issue(&csr, now).await?;
    relay.store.device_seen(device.id(), now).await?;
    Ok(EnrollResponse {
        certificate: chain_pem,
        device: device.id().clone(),
        session: session.session().clone(),
        not_after,
    })
}

/// The nonce of the sign-in is the hash of this key and salt. A flow without a nonce sends no salt; then freshness
/// and single use must do, unless the configuration wants a nonce.
fn check_binding(relay: &Relay, identity: &Identity, request: &EnrollRequest, csr: &CsrKey) -> Result<(), Problem> {
    let bound = match (&identity.nonce, &request.salt) {
        (Some(nonce), Some(salt)) => binding::nonce(csr.spki_der(), salt).as_bytes().ct_eq(nonce.as_bytes()).into(),
        (None, None) if relay.config.provider.require_nonce => {
            let detail = "this relay takes no sign-in whose token has no nonce";
            let fix = "Sign in through a browser on this device, without --device-code.".to_owned();
            return Err(Problem::new(Code::IdentityTokenUnbound).detail(detail).advice(None, Some(fix)));
        }
        (None, None) => true,
        _ => false,
    };
    if bound { Ok(()) } else { Err(Problem::new(Code::IdentityTokenUnbound)) }
}

fn check_not_revoked(relay: &Relay, csr: &CsrKey, identity: &Identity) -> Result<(), Problem> {
    let snapshot = relay.snapshot.load();
    if snapshot.revocations.is_device(&csr.device_id()) {
        Err(Problem::new(Code::DeviceRevoked))
    } else if snapshot.revocations.is_principal(&identity.key) {
        Err(Problem::new(Code::PrincipalRevoked))
    } else {
        Ok(())
    }
}

/// What is remembered of a token that was used up. The signature is left out: an ECDSA signature has a twin that is
/// good for the same token.
pub(crate) fn token_hash(token: &str) -> [u8; 32] {
    binding::sha256(token.rsplit_once('.').map_or(token, |(signed, _)| signed).as_bytes())
}

/// From then on no check would let the token enrol, so its hash may be forgotten.
pub(crate) fn until(identity: &Identity) -> Timestamp {
    identity.expires.max(identity.issued_at.plus(FRESH)).plus(CLOCK_SKEW * 2)
}

#[cfg(test)]
mod tests;
