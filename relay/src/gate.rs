//! The gate: session token, decision, audit record, permit, in this order, for every request and every stream.

use crate::identity_header::TokenHash;
use crate::reverify;
use crate::service::{self, Peer};
use crate::state::Relay;
use crate::streams::{Credentials, Live};
use crate::transport::Cut;
use aws_lc_rs::digest::{SHA256, digest};
use http::header::PROXY_AUTHORIZATION;
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use postern_protocol::{AppName, Code, Problem};
use postern_relay_core::access::{self, Action, PostureReport, decide};
use postern_relay_core::audit::{Event, Record};
use postern_relay_core::certificate::VerifiedDevice;
use postern_relay_core::token::VerifiedSession;
use std::sync::Arc;

/// An allowed request: filed, so that it can be cut.
pub(crate) struct Admitted {
    /// It, with the permit it holds.
    pub(crate) live: Live,
    /// The token it came with, by hash.
    pub(crate) token: TokenHash,
}

/// Decides `request`, which wants `app`. An allow is in the audit log before this returns; so is a refusal, as long as
/// the device has not had too many.
pub(crate) async fn admit(
    peer: &Peer,
    cut: &Arc<Cut>,
    request: &Request<Incoming>,
    app: AppName,
) -> Result<Admitted, Problem> {
    let relay = &peer.relay;
    let mut asked = asked(peer, request, app);
    let (token, session) = match bearer(peer, request.headers()) {
        Ok(found) if !relay.draining.is_cancelled() => found,
        Ok(_) => return Err(turn_away(peer, &asked, Code::Draining).await),
        Err(code) => return Err(turn_away(peer, &asked, code).await),
    };
    asked.within_rate = relay.limiter.check_key(session.session()).is_ok();
    asked.posture = relay.postures.get(session.session());
    loop {
        let snapshot = relay.snapshot.load_full();
        let now = relay.clock.now();
        let decision = decide(&peer.device, &session, &asked, &snapshot, now);
        let result = Record::decision(&peer.device, &session, &asked, &decision, now);
        let permit = match decision.outcome {
            Ok(permit) => record(relay, result).await.map(|()| permit)?,
            Err(denial) => return Err(refused(peer, result, denial.problem()).await),
        };
        let live = relay.streams.open(permit, peer.device.clone(), session.clone(), asked, now, cut.clone());
        // A revocation first replaces the snapshot, then cuts what is filed. Filed before the replacement, it is
        // cut; filed after, the newer snapshot is seen here and decides.
        let same_snapshot = relay.snapshot.load().generation == snapshot.generation;
        // The same holds for a posture report, which came before its round.
        let posture = relay.postures.get(session.session());
        if same_snapshot && same(posture.as_ref(), live.stream().request.posture.as_ref()) {
            live.stream().recorded(&decision.policies);
            // A newer token of the session may know better than the one that asked.
            if !Arc::ptr_eq(&relay.streams.newest(live.stream()).session, &session) {
                reverify::soon(relay, session.session());
            }
            return Ok(Admitted { live, token });
        }
        asked = live.stream().request.clone();
        (asked.id, asked.posture) = (relay.clock.decision_id(), posture);
    }
}

/// Is it the very same report?
fn same(one: Option<&Arc<PostureReport>>, other: Option<&Arc<PostureReport>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// Refuses a request that cannot even be decided; a refusal like any other, with a decision and a record.
pub(crate) async fn refuse(peer: &Peer, request: &Request<Incoming>, problem: Problem) -> Problem {
    let (id, now) = (peer.relay.clock.decision_id(), peer.relay.clock.now());
    let refusal = Record::event(Event::Decision, now).of_device(peer.device.id()).from(peer.source.ip());
    let mut refusal = refusal.refused(problem.code);
    if let Ok(session) = session(peer, request.headers()) {
        refusal = refusal.of_session(&session);
    }
    refusal.decision = Some(id);
    refusal.method = Some(request.method().as_str().into());
    refusal.path = Some(request.uri().path().into());
    refusal.host = Some(service::host(request).into());
    refused(peer, refusal, problem).await
}

/// Records a request that was refused before it could be read.
pub(crate) async fn record_malformed(peer: &Peer, code: Code) {
    let refusal = Record::event(Event::Decision, peer.relay.clock.now()).of_device(peer.device.id());
    let mut refusal = refusal.from(peer.source.ip()).refused(code);
    refusal.decision = Some(peer.relay.clock.decision_id());
    // Its answer is out already.
    let _unsaid = refused(peer, refusal, Problem::new(code)).await;
}

/// The session of a request: its bearer token's signature and shape are good. Whether it may do anything now is
/// for the decision to say.
pub fn session(peer: &Peer, headers: &HeaderMap) -> Result<Arc<VerifiedSession>, Code> {
    bearer(peer, headers).map(|(_, session)| session)
}

/// Notes a session token that this relay has just issued: streams of its session may live on until it ends,
/// although none of them makes a request that would show it.
pub fn issued(relay: &Relay, device: &VerifiedDevice, token: &str) {
    // What was signed a moment ago verifies; if not, its first use will tell.
    if let Ok((_, session)) = verify(relay, token, || Ok(())) {
        relay.streams.note(Credentials { session, device: Arc::new(device.clone()) });
    }
}

fn asked(peer: &Peer, request: &Request<Incoming>, app: AppName) -> access::Request {
    let action = match request.uri().port_u16() {
        Some(port) if request.method() == http::Method::CONNECT => Action::Connect { port },
        _ => Action::Request { method: request.method().as_str().into(), path: request.uri().path().into() },
    };
    access::Request {
        id: peer.relay.clock.decision_id(),
        app,
        action,
        host: service::host(request).into(),
        source: peer.source.ip(),
        within_rate: true,
        posture: None,
    }
}

/// Refuses before a session is known.
async fn turn_away(peer: &Peer, asked: &access::Request, code: Code) -> Problem {
    let refusal = Record::event(Event::Decision, peer.relay.clock.now()).of_device(peer.device.id());
    refused(peer, refusal.asking(asked).refused(code), Problem::new(code)).await
}

/// Records a refusal and returns what the device is told. Beyond the device's share it is only counted. A decision is
/// named only if it can be found in the log.
async fn refused(peer: &Peer, refusal: Record, problem: Problem) -> Problem {
    if !peer.records_refusal() {
        return problem;
    }
    let decision = refusal.decision.clone();
    match (record(&peer.relay, refusal).await, decision) {
        (Ok(()), Some(decision)) => problem.decision(decision),
        (Ok(()), None) => problem,
        (Err(unavailable), _) => unavailable,
    }
}

/// Writes `record`; what cannot be written does not happen.
async fn record(relay: &Relay, record: Record) -> Result<(), Problem> {
    relay.audit.record(record).await.map_err(Problem::from)
}

fn bearer(peer: &Peer, headers: &HeaderMap) -> Result<(TokenHash, Arc<VerifiedSession>), Code> {
    let mut values = headers.get_all(PROXY_AUTHORIZATION).iter();
    let value = values.next().ok_or(Code::TokenMissing)?.to_str().map_err(|_| Code::TokenInvalid)?;
    let (scheme, token) = value.split_once(' ').ok_or(Code::TokenInvalid)?;
    if values.next().is_some() || !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Code::TokenInvalid);
    }
    verify(&peer.relay, token, || {
        let within = peer.relay.limiters.tokens.check_key(peer.device.id());
        within.map_err(|_| Code::RateLimited)
    })
}

/// Verifies a token, or finds that it was verified before. What is kept is the signature's verdict and never a
/// decision: times, binding and revocation are looked at each time. `check` comes before the signature is verified.
fn verify(
    relay: &Relay,
    token: &str,
    check: impl FnOnce() -> Result<(), Code>,
) -> Result<(TokenHash, Arc<VerifiedSession>), Code> {
    let hash: TokenHash = digest(&SHA256, token.as_bytes()).as_ref().try_into().map_err(|_| Code::Internal)?;
    if let Some(session) = relay.sessions.get(&hash) {
        return Ok((hash, session));
    }
    check()?;
    let session = Arc::new(relay.verifier.verify(token)?);
    relay.sessions.insert(hash, session.clone());
    Ok((hash, session))
}
