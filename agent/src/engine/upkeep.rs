//! The tasks that keep a session fresh: each asks the relay or the provider for one thing.

use super::held::{Held, Relay};
use super::setup::Setup;
use crate::discovery;
use crate::doctor;
use crate::enroll::{self, Enrolment};
use crate::link::{Body, Link, full, problem_in, read_body};
use crate::oidc::{Provider, RefreshFailure, SignedIn};
use crate::posture;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use postern_agent_core::Account;
use postern_protocol::control::{
    APPS, AppEntry, AppList, CONTROL_AUTHORITY, ENROLL, EnrollRequest, GRANT_TOKEN_EXCHANGE, POSTURE, Posture, REASON,
    SESSION, SessionLapsed, SessionResponse, SignOutReason,
};
use postern_protocol::discovery::Discovery;
use postern_protocol::problem::printable;
use postern_protocol::{Code, MAX_CONTROL_BYTES, Problem};
use secrecy::{ExposeSecret as _, SecretString};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// How long the relay may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
const MAX_APP_LIST: usize = 1024 * 1024;
const MAX_APPS: usize = 2000;
const MAX_TEXT: usize = 300;

/// Dials with the newest certificate. Where that fails the relay may have moved: its discovery document says so.
pub(super) async fn connect(held: Held, setup: Arc<Setup>) -> Result<(Arc<Link>, Option<Relay>), Problem> {
    let certificate = held.certificate.as_ref().ok_or_else(|| missing("a certificate"))?;
    let dial = |relay: &Relay| {
        let (discovery, identity) = (Arc::clone(&relay.discovery), certificate.identity(&held.device.key));
        async move { Link::dial(&discovery.relay, identity).await }
    };
    let problem = match dial(&held.relay).await {
        Ok(link) => return Ok((link, None)),
        Err(problem) => problem,
    };
    if !matches!(problem.code, Code::RelayUnreachable | Code::RelayUntrusted) {
        return Err(problem);
    }
    let fresh = match discovery::ask(&held.relay.address, held.relay.ca_pem.as_deref()).await {
        (Ok(fresh), _) => fresh,
        (Err(told), date) => {
            let (address, ca_pem) = (held.relay.address.clone(), held.relay.ca_pem.clone());
            let relay = doctor::Relay { address, ca_pem, endpoint: None };
            let probe = setup.config.captive_probe.clone();
            return Err(doctor::explain(problem, (relay, probe), &told, date).await);
        }
    };
    let known = &held.relay.discovery;
    // Another trust domain or provider is another relay, which this session is not with: that takes a new sign-in.
    let same = fresh.trust_domain == known.trust_domain
        && fresh.sign_in.issuer == known.sign_in.issuer
        && fresh.sign_in.client_id == known.sign_in.client_id;
    if !same || fresh.relay == known.relay {
        return Err(problem);
    }
    // Its endpoint is all that a relay may move: whoever answers at its public address could name a provider of theirs.
    let discovery = Arc::new(Discovery { relay: fresh.relay, ..Discovery::clone(known) });
    let moved = Relay { discovery, ..held.relay.clone() };
    Ok((dial(&moved).await?, Some(moved)))
}

/// New tokens of the provider: by refresh token, or for a service account by its own secret.
pub(super) async fn refresh(held: Held, setup: Arc<Setup>) -> Result<(Arc<Provider>, SignedIn), RefreshFailure> {
    let plain = |problem: Problem| RefreshFailure { problem, rotated: None };
    let sign_in = &held.relay.discovery.sign_in;
    let provider = match held.provider.as_ref().filter(|provider| provider.serves(sign_in)) {
        Some(provider) => Arc::clone(provider),
        None => Arc::new(Provider::discover(sign_in).await.map_err(plain)?),
    };
    let signed_in = match held.account {
        Account::Service => {
            let account = setup.config.service_account.as_ref().ok_or_else(|| plain(missing("a service account")))?;
            let secret = account.client_secret().map_err(plain)?;
            provider.sign_in_as_service(&account.client_id, &secret).await.map_err(plain)?
        }
        Account::Person => {
            // A refresh token goes to nobody but whom it is from.
            if held.principal.as_ref().is_some_and(|principal| !provider.is_issuer(&principal.issuer)) {
                return Err(plain(
                    Problem::new(Code::IdentityTokenInvalid).detail("the provider is not the session's"),
                ));
            }
            let token = held.refresh_token.as_ref().ok_or_else(|| plain(Problem::new(Code::RefreshRefused)))?;
            let subject = held.principal.as_ref().map(|principal| principal.subject.as_str());
            provider.refresh(token, subject).await?
        }
    };
    Ok((provider, signed_in))
}

/// Exchanges the provider's token for a session token that is bound to this link's certificate.
pub(super) async fn exchange(held: Held, link: Arc<Link>) -> Result<(SessionResponse, Posture), Problem> {
    let proof = held.proof.as_ref().ok_or_else(|| missing("a token of the provider"))?;
    let session = held.session.as_ref().ok_or_else(|| missing("a session"))?;
    let posture = posture::observe(held.device.storage).await;
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", GRANT_TOKEN_EXCHANGE)
        .append_pair("subject_token", proof.token.expose_secret())
        .append_pair("subject_token_type", proof.kind.token_type())
        .append_pair("session", session.as_str())
        .append_pair("posture", &serde_json::to_string(&posture).unwrap_or_default())
        .finish();
    let kind = "application/x-www-form-urlencoded";
    let answer = ask(&link, Method::POST, SESSION, None, Some((kind, form.into_bytes()))).await?;
    let granted: SessionResponse = json(answer, MAX_CONTROL_BYTES).await?;
    if granted.session != *session || !granted.token_type.eq_ignore_ascii_case("bearer") {
        return Err(malformed("the session token is another session's"));
    }
    Ok((granted, posture))
}

/// Tells the relay the posture as it is now.
pub(super) async fn report_posture(held: Held, link: Arc<Link>, token: SecretString) -> Result<Posture, Problem> {
    let posture = posture::observe(held.device.storage).await;
    let body = serde_json::to_vec(&posture).map_err(|error| malformed(&error.to_string()))?;
    ask(&link, Method::POST, POSTURE, Some(&token), Some(("application/json", body))).await?;
    Ok(posture)
}

/// A new certificate for the same key, on the word of the live session.
pub(super) async fn renew_certificate(
    held: Held,
    link: Arc<Link>,
    token: SecretString,
    device_name: Option<String>,
) -> Result<Enrolment, Problem> {
    let request = EnrollRequest {
        csr: held.device.key.certificate_request()?,
        token: None,
        token_type: None,
        salt: None,
        device_name: enroll::device_name(device_name.as_deref()),
    };
    let body = serde_json::to_vec(&request).map_err(|error| malformed(&error.to_string()))?;
    let answer = ask(&link, Method::POST, ENROLL, Some(&token), Some(("application/json", body))).await?;
    let body = whole(answer, MAX_CONTROL_BYTES).await?;
    enroll::read_response(&body, &held.relay.discovery.trust_domain, &held.device.key)
}

/// The apps of the principal, fit to show.
pub(super) async fn fetch_apps(link: Arc<Link>, token: SecretString) -> Result<Vec<AppEntry>, Problem> {
    let answer = ask(&link, Method::GET, APPS, Some(&token), None).await?;
    let list: AppList = json(answer, MAX_APP_LIST).await?;
    let short = |text: String| -> String { printable(&text).chars().take(MAX_TEXT).collect() };
    let mut names = HashSet::new();
    let apps = list.apps.into_iter().filter(|app| names.insert(app.name.clone())).take(MAX_APPS);
    Ok(apps
        .map(|app| AppEntry {
            description: short(app.description),
            reason: app.reason.map(short),
            fix: app.fix.map(short),
            ..app
        })
        .collect())
}

/// Ends the session at the relay, and says why.
pub(super) async fn end_session(link: &Link, token: &SecretString, reason: SignOutReason) -> Result<(), Problem> {
    let path = format!("{SESSION}?{REASON}={}", reason.as_str());
    ask(link, Method::DELETE, &path, Some(token), None).await.map(drop)
}

/// Tells the relay that the provider renews the sign-in no longer. For how long it holds live streams; nothing: the
/// session has ended.
pub(super) async fn lapse(link: Arc<Link>, token: SecretString) -> Result<Option<Duration>, Problem> {
    let path = format!("{SESSION}?{REASON}={}", SignOutReason::RefreshRefused.as_str());
    let answer = ask(&link, Method::DELETE, &path, Some(&token), None).await?;
    if answer.status() == StatusCode::NO_CONTENT {
        return Ok(None);
    }
    let lapsed: SessionLapsed = json(answer, MAX_CONTROL_BYTES).await?;
    Ok(Some(Duration::from_secs(lapsed.held_for)))
}

/// A control request; its answer's head in time, or why not.
pub(super) async fn ask(
    link: &Link,
    method: Method,
    path: &str,
    token: Option<&SecretString>,
    body: Option<(&'static str, Vec<u8>)>,
) -> Result<Response<Incoming>, Problem> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, CONTROL_AUTHORITY);
    if let Some(token) = token {
        request = request.header(PROXY_AUTHORIZATION, bearer(token)?);
    }
    let body: Body = match body {
        Some((kind, bytes)) => {
            request = request.header(CONTENT_TYPE, kind);
            full(bytes)
        }
        None => full(""),
    };
    let request = request.body(body).map_err(|error| malformed(&error.to_string()))?;
    let answer = tokio::time::timeout(ANSWER_LIMIT, link.control(request)).await;
    let late = |_| Problem::new(Code::RelayUnreachable).detail(format!("no answer to {path} in time"));
    let answer = problem_in(answer.map_err(late)??).await?;
    if answer.status().is_success() {
        Ok(answer)
    } else {
        Err(malformed(&format!("the relay answers {path} with {}", answer.status().as_u16())))
    }
}

async fn json<T: serde::de::DeserializeOwned>(answer: Response<Incoming>, max: usize) -> Result<T, Problem> {
    // Not the text of the error: it could quote a token.
    serde_json::from_slice(&whole(answer, max).await?).map_err(|_| malformed("the relay's answer is malformed"))
}

async fn whole(answer: Response<Incoming>, max: usize) -> Result<Bytes, Problem> {
    let body = tokio::time::timeout(ANSWER_LIMIT, read_body(answer.into_body(), max)).await;
    body.map_err(|_| Problem::new(Code::RelayUnreachable).detail("the answer broke off"))?
}

fn bearer(token: &SecretString) -> Result<HeaderValue, Problem> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
        .map_err(|_| malformed("the session token cannot be a header's value"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn missing(what: &str) -> Problem {
    Problem::new(Code::Internal).detail(format!("{what} is missing"))
}

fn malformed(why: &str) -> Problem {
    Problem::new(Code::UpstreamInvalid).detail(why)
}
