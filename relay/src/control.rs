//! The relay's own requests over mTLS: session, posture, renewal of the certificate, apps, events.

use crate::body::{self, BoxError};
use crate::enroll::{self, recorded};
use crate::reverify;
use crate::service::Peer;
use crate::state::Relay;
use crate::{gate, lapse, refusal, revoke, session};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use postern_protocol::control::{
    APPS, AppList, ENROLL, EVENTS, EnrollRequest, POSTURE, REASON, RelayEvent, SESSION, SignOutReason,
};
use postern_protocol::{Code, MAX_CONTROL_BYTES, Problem};
use postern_relay_core::access::{PostureReport, check_identity, visible};
use postern_relay_core::audit::{Event, Record};
use postern_relay_core::certificate::VerifiedDevice;
use postern_relay_core::revocation::Target;
use postern_relay_core::token::VerifiedSession;
use std::sync::Arc;

/// Answers one request that named the relay itself.
pub async fn handle(peer: Arc<Peer>, request: Request<Incoming>) -> Response<body::Body> {
    let caller = Caller(peer);
    let answer = match (request.method(), request.uri().path()) {
        (&Method::POST, SESSION) => caller.exchange(request).await,
        (&Method::DELETE, SESSION) => caller.sign_out(&request).await,
        (&Method::POST, POSTURE) => caller.posture(request).await,
        (&Method::POST, ENROLL) => caller.renew(request).await,
        (&Method::GET, APPS) => caller.apps(&request).await,
        (&Method::GET, EVENTS) => caller.events(&request).await,
        (_, SESSION | POSTURE | ENROLL | APPS | EVENTS) => caller.refuse(Code::MethodNotAllowed).await,
        _ => caller.refuse(Code::NotFound).await,
    };
    answer.unwrap_or_else(|problem| refusal::response(&problem))
}

/// Who asks.
struct Caller(Arc<Peer>);

type Answer = Result<Response<body::Body>, Problem>;

impl Caller {
    async fn exchange(&self, request: Request<Incoming>) -> Answer {
        let form = self.read(Event::SessionRenewal, request).await?;
        let response = session::exchange(&self.0, &form).await?;
        Ok(body::json(StatusCode::OK, &response))
    }

    async fn renew(&self, request: Request<Incoming>) -> Answer {
        let session = self.session(Event::CertificateRenewal, &request).await?;
        let bytes = self.read(Event::CertificateRenewal, request).await?;
        let parsed = serde_json::from_slice::<EnrollRequest>(&bytes)
            .map_err(|_| Problem::new(Code::RequestInvalid).detail("the body is not an enrolment in JSON"));
        let parsed = match parsed {
            Ok(parsed) => parsed,
            Err(problem) => return self.refused(Event::CertificateRenewal, problem).await,
        };
        let response = enroll::renew(&self.0, &session, parsed).await?;
        Ok(body::json(StatusCode::OK, &response))
    }

    async fn sign_out(&self, request: &Request<Incoming>) -> Answer {
        let session = self.session(Event::SignOut, request).await?;
        let Some(reason) = sign_out_reason(request.uri().query().unwrap_or_default()) else {
            let problem =
                Problem::new(Code::RequestInvalid).detail("the reason of a sign-out is not one of those known");
            return self.refused(Event::SignOut, problem).await;
        };
        let by = match reason {
            SignOutReason::SignedOut => "the agent, signed_out",
            SignOutReason::RefreshRefused => {
                if let Some(lapsed) = lapse::lapse(&self.0.relay, &session).await {
                    return Ok(body::json(StatusCode::OK, &lapsed));
                }
                lapse::BY
            }
        };
        revoke::revoke(&self.0.relay, Target::Session(session.session().clone()), Event::SignOut, by).await?;
        Ok(no_content())
    }

    /// Replaces the session's posture. What is the same as before is no news for the log.
    async fn posture(&self, request: Request<Incoming>) -> Answer {
        let session = self.session(Event::Posture, &request).await?;
        let bytes = self.read(Event::Posture, request).await?;
        let posture =
            match std::str::from_utf8(&bytes).map_err(|_| Code::RequestInvalid.into()).and_then(session::posture) {
                Ok(posture) => posture,
                Err(problem) => return self.refused(Event::Posture, problem).await,
            };
        let Peer { relay, device, source, .. } = &*self.0;
        let now = relay.clock.now();
        let last = relay.postures.get(session.session());
        let differs = last.as_ref().is_none_or(|last| last.posture != posture);
        // Streams may be held because the last report had become too old.
        let late = last.is_none_or(|last| now.since(last.at) >= relay.config.posture_max_age);
        if differs {
            let told = serde_json::to_string(&posture).unwrap_or_default();
            let record = Record::event(Event::Posture, now).of_device(device.id()).of_session(&session);
            recorded(relay, record.from(source.ip()).detail(told), Ok(()), Some(&self.0)).await?;
        }
        relay.postures.insert(session.session().clone(), Arc::new(PostureReport { posture, at: now }));
        if differs || late {
            reverify::soon(relay, session.session());
        }
        Ok(no_content())
    }

    async fn apps(&self, request: &Request<Incoming>) -> Answer {
        let session = self.session(Event::Decision, request).await?;
        let Peer { relay, device, source, .. } = &*self.0;
        let (snapshot, now) = (relay.snapshot.load_full(), relay.clock.now());
        let posture = relay.postures.get(session.session());
        match visible(device, &session, source.ip(), posture.as_ref(), &snapshot, now) {
            Ok(apps) => Ok(body::json(StatusCode::OK, &AppList { apps })),
            Err(denial) => self.refuse(denial.code).await,
        }
    }

    /// An answer that stays open. It ends when the session may no longer hear anything.
    async fn events(&self, request: &Request<Incoming>) -> Answer {
        let session = self.session(Event::Decision, request).await?;
        let subscription = match self.0.relay.events.subscribe(session.session()) {
            Ok(subscription) => subscription,
            Err(code) => return self.refuse(code).await,
        };
        let listener = (self.0.relay.clone(), self.0.device.clone(), session, subscription, false);
        let lines =
            futures_util::stream::unfold(listener, |(relay, device, session, mut subscription, over)| async move {
                if over {
                    return None;
                }
                let event = subscription.next().await;
                let over = match event {
                    RelayEvent::Revoked { .. } => true,
                    // Why its streams end is for it to know; that it is revoked follows.
                    RelayEvent::Cut { .. } | RelayEvent::Held { .. } => false,
                    _ => !may_listen(&relay, &device, &session),
                };
                let mut line = serde_json::to_vec(&event).ok()?;
                line.push(b'\n');
                Some((Ok::<_, BoxError>(Frame::data(Bytes::from(line))), (relay, device, session, subscription, over)))
            });
        let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
        let headers = response.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/jsonl"));
        headers.insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
        Ok(response)
    }

    /// The caller's session, good now and on this very device.
    async fn session(&self, event: Event, request: &Request<Incoming>) -> Result<Arc<VerifiedSession>, Problem> {
        let Peer { relay, device, .. } = &*self.0;
        let checked = gate::session(&self.0, request.headers()).and_then(|session| {
            check_identity(device, &session, &relay.snapshot.load(), relay.clock.now())?;
            match relay.limiter.check_key(session.session()) {
                Ok(()) => Ok(session),
                Err(_) => Err(Code::RateLimited),
            }
        });
        match checked {
            Ok(session) => Ok(session),
            Err(code) => self.refused(event, Problem::new(code)).await,
        }
    }

    /// A control message's body. Reading it counts against the device, for it may cost a signature check.
    async fn read(&self, event: Event, request: Request<Incoming>) -> Result<Bytes, Problem> {
        let read = match self.0.relay.limiters.control.check_key(self.0.device.id()) {
            Ok(()) => body::collect(request.into_body(), MAX_CONTROL_BYTES).await,
            Err(_) => Err(Problem::new(Code::RateLimited)),
        };
        match read {
            Ok(bytes) => Ok(bytes),
            Err(problem) => self.refused(event, problem).await,
        }
    }

    async fn refuse(&self, code: Code) -> Answer {
        self.refused(Event::Decision, Problem::new(code)).await
    }

    /// Records the refusal and returns it.
    async fn refused<T>(&self, event: Event, problem: Problem) -> Result<T, Problem> {
        let Peer { relay, device, source, .. } = &*self.0;
        let record = Record::event(event, relay.clock.now()).of_device(device.id()).from(source.ip());
        recorded(relay, record, Err(problem), Some(&self.0)).await
    }
}

fn no_content() -> Response<body::Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Why an agent ends its session; `None` where it says something else. Agents of before said nothing.
fn sign_out_reason(query: &str) -> Option<SignOutReason> {
    let mut told = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == REASON);
    let reason = match told.next() {
        Some((_, text)) => SignOutReason::ALL.into_iter().find(|reason| reason.as_str() == text)?,
        None => SignOutReason::SignedOut,
    };
    told.next().is_none().then_some(reason)
}

/// May this session still hear events? That its token ended matters not: what it hears is about itself alone.
fn may_listen(relay: &Relay, device: &VerifiedDevice, session: &VerifiedSession) -> bool {
    let snapshot = relay.snapshot.load();
    let revoked = snapshot.revocations.cause(device.id(), session.principal(), session.session());
    revoked.is_none() && device.check_validity(relay.clock.now()).is_ok()
}

#[cfg(test)]
mod tests;
