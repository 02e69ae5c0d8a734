//! `POST /backchannel-logout`: the provider tells that somebody signed out there (OpenID Connect Back-Channel Logout
//! 1.0 §2.5 to §2.8).

use crate::body::{self, Body};
use crate::enroll::recorded;
use crate::outside::{Word, take};
use crate::refusal;
use crate::state::{Relay, network};
use crate::store::{Outcome, Told};
use axum::extract::Request;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use postern_protocol::{Code, MAX_CONTROL_BYTES, Problem};
use postern_relay_core::audit::{Event, Record};
use postern_relay_core::logout::Logout;
use postern_relay_core::outside::Effect;
use std::net::IpAddr;
use std::sync::Arc;

/// Answers one logout token. Whatever it is, it is in the audit log before the answer goes out, or counted there.
pub async fn handle(relay: &Arc<Relay>, source: IpAddr, request: Request) -> Response<Body> {
    match logged_out(relay, source, request).await {
        Ok(()) => {
            let mut response = Response::new(body::empty());
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(problem) => refused(&problem),
    }
}

async fn logged_out(relay: &Arc<Relay>, source: IpAddr, request: Request) -> Result<(), Problem> {
    let mut record = Record::event(Event::BackChannelLogout, relay.clock.now()).from(source);
    let result = match verified(relay, source, request).await {
        Ok(logout) => {
            record.principal.clone_from(&logout.principal);
            act(relay, logout, record.clone()).await
        }
        Err(problem) => Err(problem),
    };
    match result {
        Ok(()) => Ok(()),
        Err(problem) => recorded(relay, record, Err(problem), None).await,
    }
}

async fn verified(relay: &Relay, source: IpAddr, request: Request) -> Result<Logout, Problem> {
    if relay.limiters.told.check_key(&network(source)).is_err() {
        return Err(Problem::new(Code::RateLimited).detail("too many logout tokens from this address"));
    }
    if !is_of_type(request.headers(), "application/x-www-form-urlencoded") {
        return Err(Problem::new(Code::RequestInvalid).detail("the body is not a form"));
    }
    let form = body::collect(request.into_body(), MAX_CONTROL_BYTES).await?;
    let token = logout_token(&form)?;
    relay.provider.verify_logout(&token, relay.clock.now()).await
}

async fn act(relay: &Arc<Relay>, logout: Logout, record: Record) -> Result<(), Problem> {
    let told = Told {
        kind: "logout",
        issuer: relay.config.provider.issuer_text.clone(),
        jti: logout.jti.clone(),
        until: logout.until,
    };
    let effect = Effect::End((&logout).into());
    let word = Word { told, effect, record, by: "back-channel logout".to_owned() };
    match take(relay, word).await? {
        Outcome::Replayed => Err(Problem::new(Code::LogoutTokenInvalid).detail("the logout token was used before")),
        _ => Ok(()),
    }
}

/// Is the body said to be of this media type, with whatever parameters?
pub(crate) fn is_of_type(headers: &HeaderMap, wanted: &str) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (first, second) = (types.next().and_then(|value| value.to_str().ok()), types.next());
    let essence = first.and_then(|value| value.split(';').next()).unwrap_or_default();
    second.is_none() && essence.trim().eq_ignore_ascii_case(wanted)
}

/// The form's one field that matters. A field that comes twice is refused (RFC 6749 §3.2); others are ignored.
fn logout_token(form: &[u8]) -> Result<String, Problem> {
    let invalid = |why: &str| Problem::new(Code::RequestInvalid).detail(why);
    let mut fields = std::collections::HashMap::new();
    for (name, value) in form_urlencoded::parse(form) {
        if fields.insert(name, value).is_some() {
            return Err(invalid("a field of the form comes twice"));
        }
    }
    let token = fields.remove("logout_token").ok_or_else(|| invalid("the form lacks logout_token"))?;
    Ok(token.into_owned())
}

/// §2.8: 400 for every token that was refused and every logout that failed. A caller that is merely too fast, or comes
/// to a relay that cannot answer, is told so by the status that every such caller gets.
fn refused(problem: &Problem) -> Response<Body> {
    let error = match problem.code {
        Code::RateLimited => return refusal::response(problem),
        Code::LogoutTokenInvalid | Code::RequestInvalid | Code::BodyTooLarge => "invalid_request",
        _ => "server_error",
    };
    let why = problem.detail.as_deref().unwrap_or_else(|| problem.code.summary());
    body::json(StatusCode::BAD_REQUEST, &serde_json::json!({ "error": error, "error_description": why }))
}

#[cfg(test)]
mod tests;
