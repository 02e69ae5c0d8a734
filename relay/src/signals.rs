//! `POST /ssf/events`: transmitters push security events (RFC 8935). Acknowledged is what is durable: effect and name
//! are in the store before the answer goes out.

use crate::backchannel::is_of_type;
use crate::body::{self, Body};
use crate::config::SignalsConfig;
use crate::enroll::recorded;
use crate::outside::{Word, take};
use crate::provider::KeySet;
use crate::refusal;
use crate::state::{Relay, network};
use crate::store::{Outcome, Told};
use axum::extract::Request;
use http::header::{AUTHORIZATION, CONTENT_LANGUAGE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use postern_protocol::{Code, MAX_CONTROL_BYTES, Problem};
use postern_relay_core::audit::{Event, Record};
use postern_relay_core::signals::{Signal, SignalFault, SignalRules, claimed_issuer, verify};
use secrecy::{ExposeSecret as _, SecretString};
use std::net::IpAddr;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// Who may tell of security events.
pub struct Transmitter {
    name: String,
    rules: SignalRules,
    authorization: Option<SecretString>,
    keys: KeySet,
}

impl Transmitter {
    /// As configured; events are about principals of `provider`.
    pub fn new(config: &SignalsConfig, provider: &str) -> Result<Self, Problem> {
        Ok(Self {
            name: config.name.clone(),
            rules: SignalRules {
                issuer: config.issuer.clone(),
                audience: config.audience.clone(),
                provider: provider.to_owned(),
            },
            authorization: config.authorization.clone(),
            keys: KeySet::at(config.jwks_uri.clone())?,
        })
    }

    fn is_authorized(&self, given: &str) -> bool {
        let same = |secret: &SecretString| secret.expose_secret().as_bytes().ct_eq(given.as_bytes()).into();
        self.authorization.as_ref().is_some_and(same)
    }
}

/// Why there is no acknowledgement.
enum Refusal {
    /// For the transmitter to correct.
    Fault(SignalFault),
    /// Not its fault, or only its haste: it tries again.
    Later(Problem),
}

impl From<SignalFault> for Refusal {
    fn from(fault: SignalFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        match problem.code {
            Code::BodyTooLarge | Code::RequestInvalid => {
                let why = problem.detail.unwrap_or_else(|| problem.code.summary().to_owned());
                Self::Fault(SignalFault::InvalidRequest(why))
            }
            _ => Self::Later(problem),
        }
    }
}

/// Answers one event. Whatever it is, it is in the audit log before the answer goes out, or counted there.
pub async fn handle(relay: &Arc<Relay>, source: IpAddr, request: Request) -> Response<Body> {
    let record = Record::event(Event::SecurityEvent, relay.clock.now()).from(source);
    let refusal = match told(relay, source, request, record.clone()).await {
        Ok(()) => {
            let mut response = Response::new(body::empty());
            *response.status_mut() = StatusCode::ACCEPTED;
            return response;
        }
        Err(refusal) => refusal,
    };
    let problem = match &refusal {
        Refusal::Fault(fault) => Problem::new(Code::EventInvalid).detail(format!("{}: {fault}", fault.code())),
        Refusal::Later(problem) => problem.clone(),
    };
    let problem = match recorded::<()>(relay, record, Err(problem.clone()), None).await {
        Err(problem) => problem,
        Ok(()) => problem,
    };
    match refusal {
        Refusal::Fault(fault) => {
            let said = serde_json::json!({ "err": fault.code(), "description": fault.to_string() });
            let mut response = body::json(StatusCode::BAD_REQUEST, &said);
            response.headers_mut().insert(CONTENT_LANGUAGE, HeaderValue::from_static("en"));
            response
        }
        Refusal::Later(_) => refusal::response(&problem),
    }
}

async fn told(relay: &Arc<Relay>, source: IpAddr, request: Request, mut record: Record) -> Result<(), Refusal> {
    let (transmitter, signal) = verified(relay, source, request).await?;
    record.principal.clone_from(&signal.subject.user);
    record.device.clone_from(&signal.subject.device);
    let by = format!("{} from {}", signal.kind.as_str(), transmitter.name);
    let told =
        Told { kind: "event", issuer: transmitter.rules.issuer.clone(), jti: signal.jti.clone(), until: signal.until };
    let word = Word { told, effect: signal.effect, record: record.clone().detail(by.clone()), by: by.clone() };
    // A transmitter that lost the answer tells again, and is told again that it is done.
    if take(relay, word).await? == Outcome::Replayed
        && relay.limiters.refusals.record_public(source, Code::EventInvalid)
    {
        relay.audit.record(record.detail(format!("{by}; no effect: told before"))).await.map_err(Problem::from)?;
    }
    Ok(())
}

async fn verified(relay: &Relay, source: IpAddr, request: Request) -> Result<(&Transmitter, Signal), Refusal> {
    if relay.limiters.told.check_key(&network(source)).is_err() {
        return Err(Refusal::Later(Problem::new(Code::RateLimited).detail("too many events from this address")));
    }
    let invalid = |why: &str| SignalFault::InvalidRequest(why.to_owned());
    if !is_of_type(request.headers(), "application/secevent+jwt") {
        return Err(invalid("the body is not said to be application/secevent+jwt").into());
    }
    let headers = request.headers().clone();
    let bytes = body::collect(request.into_body(), MAX_CONTROL_BYTES).await?;
    let token = std::str::from_utf8(&bytes).map_err(|_| invalid("the body is not a signed JWT"))?.trim();
    let issuer = claimed_issuer(token)?;
    let transmitter = relay.transmitters.iter().find(|transmitter| transmitter.rules.issuer == issuer);
    let transmitter = transmitter.ok_or(SignalFault::InvalidIssuer)?;
    check_authorization(&headers, transmitter, &relay.transmitters)?;
    let now = relay.clock.now();
    let unknown = |fault: &SignalFault| *fault == SignalFault::InvalidKey;
    let signal =
        transmitter.keys.verify_or_later(now, unknown, |jwks| verify(token, jwks, &transmitter.rules, now)).await?;
    Ok((transmitter, signal?))
}

/// The transmitter's bearer secret, where it has one.
fn check_authorization(headers: &HeaderMap, of: &Transmitter, all: &[Transmitter]) -> Result<(), SignalFault> {
    if of.authorization.is_none() {
        return Ok(());
    }
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (first, second) = (values.next().and_then(|value| value.to_str().ok()), values.next());
    let given = first.and_then(|value| value.split_once(' '));
    match given {
        Some((scheme, given)) if second.is_none() && scheme.eq_ignore_ascii_case("bearer") => {
            if of.is_authorized(given) {
                Ok(())
            } else if all.iter().any(|other| other.is_authorized(given)) {
                Err(SignalFault::AccessDenied)
            } else {
                Err(SignalFault::AuthenticationFailed("the authorization is not the transmitter's".to_owned()))
            }
        }
        _ => Err(SignalFault::AuthenticationFailed("the authorization is missing or malformed".to_owned())),
    }
}

#[cfg(test)]
mod tests;
