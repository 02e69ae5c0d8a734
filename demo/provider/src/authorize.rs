//! The authorization endpoint and the sign-in page.

use crate::client_auth::find;
use crate::config::ClientKind;
use crate::grants::{Code, Grant, SignIn, Wish};
use crate::keys;
use crate::oauth::{OauthError, Params, answer_at};
use crate::page;
use crate::server::{BROWSER, SESSION, Shared, cookie, now, set_cookie};
use crate::token::resource;
use axum::extract::{RawForm, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// An authorization request that passed every check and waits for the user.
#[derive(Clone)]
pub(crate) struct Request {
    wish: Wish,
    redirect: Url,
    state: Option<String>,
    challenge: String,
    nonce: Option<String>,
    prompt: Option<Prompt>,
    max_age: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Prompt {
    None,
    Login,
}

/// A request shown to one browser; another cannot answer it.
pub(crate) struct Ticket {
    request: Request,
    browser: String,
}

/// `GET` or `POST /authorize`.
pub(crate) async fn authorize(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    RawForm(raw): RawForm,
) -> Response {
    let (params, redirect) = match Params::parse(&raw).and_then(|params| {
        let redirect = redirect_of(&shared, &params)?;
        Ok((params, redirect))
    }) {
        Ok(known) => known,
        // Nobody vouched for the redirect yet: the error stays here (RFC 9700 §4.11).
        Err(error) => return page::refusal(&error),
    };
    match read(&shared, &params, redirect.clone()) {
        Ok(request) => proceed(&shared, &headers, request),
        Err(error) => error.redirect(&redirect, params.get("state"), &shared.issuer),
    }
}

/// `POST /login`: the form of the sign-in page.
pub(crate) async fn login(State(shared): State<Arc<Shared>>, headers: HeaderMap, RawForm(raw): RawForm) -> Response {
    let now = now();
    let Ok(params) = Params::parse(&raw) else { return page::over() };
    let text = params.get("ticket").unwrap_or_default();
    let browser = cookie(&headers, BROWSER);
    let request = match shared.tickets.lock().get(text, now) {
        // The cookie proves that the page was shown to this browser: nobody signs a victim in as himself.
        Some(ticket) if browser.as_ref() == Some(&ticket.browser) => ticket.request.clone(),
        _ => return page::over(),
    };
    if params.get("action") == Some("cancel") {
        shared.tickets.lock().take(text, now);
        let error = OauthError::new("access_denied", "the user cancelled the sign-in");
        return error.redirect(&request.redirect, request.state.as_deref(), &shared.issuer);
    }
    let (username, password) = (params.get("username").unwrap_or_default(), params.get("password").unwrap_or_default());
    let Some(sign_in) = shared.check_password(username, password, now) else {
        return page::sign_in(&shared.config.users, text, Some("That is not a name and its password. Try again."));
    };
    if shared.tickets.lock().take(text, now).is_none() {
        return page::over();
    }
    let Some(session) = keys::secret() else { return page::over() };
    let ends = now + shared.config.lifetimes.browser;
    if shared.sessions.lock().insert(&session, sign_in.clone(), ends, now).is_err() {
        return page::refusal(&OauthError::busy());
    }
    (set_cookie(SESSION, &session), finish(&shared, request, sign_in, now)).into_response()
}

/// The redirect, once the client is known and the address is one of its own.
fn redirect_of(shared: &Shared, params: &Params) -> Result<Url, OauthError> {
    let client = find(&shared.config, params.need("client_id")?)
        .ok_or(OauthError::new("invalid_client", "no such client is registered"))?;
    let redirect = params.need("redirect_uri")?.parse().map_err(|_| OauthError::request("redirect_uri is no URL"))?;
    if client.may_redirect_to(&redirect) {
        Ok(redirect)
    } else {
        Err(OauthError::request("redirect_uri is not registered for this client"))
    }
}

fn read(shared: &Shared, params: &Params, redirect: Url) -> Result<Request, OauthError> {
    let client = find(&shared.config, params.need("client_id")?)
        .filter(|client| matches!(client.kind, ClientKind::Native { .. }))
        .ok_or(OauthError::new("unauthorized_client", "this client may not sign users in"))?;
    if params.get("request").is_some() {
        return Err(OauthError::new("request_not_supported", "send the parameters themselves"));
    }
    if params.get("request_uri").is_some() {
        return Err(OauthError::new("request_uri_not_supported", "send the parameters themselves"));
    }
    if params.need("response_type")? != "code" {
        return Err(OauthError::new("unsupported_response_type", "only the response_type code is known here"));
    }
    if params.get("response_mode").is_some_and(|mode| mode != "query") {
        return Err(OauthError::request("only the response_mode query is known here"));
    }
    let challenge = params.need("code_challenge")?;
    if params.get("code_challenge_method") != Some("S256") || challenge.len() != 43 {
        return Err(OauthError::request("PKCE with code_challenge_method S256 is required"));
    }
    let prompt = match params.get("prompt") {
        None | Some("consent" | "select_account") => None,
        Some("none") => Some(Prompt::None),
        Some("login") => Some(Prompt::Login),
        Some(_) => return Err(OauthError::request("the prompt is not known here")),
    };
    let max_age = params.get("max_age").map(|age| age.parse().map(Duration::from_secs)).transpose();
    Ok(Request {
        wish: wish(shared, &client.id, params)?,
        redirect,
        state: params.get("state").map(str::to_owned),
        challenge: challenge.to_owned(),
        nonce: params.get("nonce").map(str::to_owned),
        prompt,
        max_age: max_age.map_err(|_| OauthError::request("max_age is no number of seconds"))?,
    })
}

/// The scopes known here among those asked for, and the resource.
pub(crate) fn wish(shared: &Shared, client: &str, params: &Params) -> Result<Wish, OauthError> {
    let asked = params.get("scope").unwrap_or_default();
    let known: Vec<_> = asked.split(' ').filter(|scope| crate::discovery::SCOPES.contains(scope)).collect();
    if !known.contains(&"openid") {
        return Err(OauthError::new("invalid_scope", "the scope openid is required"));
    }
    Ok(Wish { client: client.into(), scope: known.join(" "), resource: resource(shared, params)? })
}

/// Answers at once if the browser is signed in already; else shows the page.
fn proceed(shared: &Shared, headers: &HeaderMap, request: Request) -> Response {
    let now = now();
    let session = cookie(headers, SESSION).and_then(|session| shared.sessions.lock().get(&session, now).cloned());
    let fresh = |sign_in: &SignIn| request.max_age.is_none_or(|age| now.saturating_sub(sign_in.at) <= age);
    match (session.filter(fresh), request.prompt) {
        (Some(sign_in), None | Some(Prompt::None)) => finish(shared, request, sign_in, now),
        (None, Some(Prompt::None)) => {
            let error = OauthError::new("login_required", "nobody is signed in here");
            error.redirect(&request.redirect, request.state.as_deref(), &shared.issuer)
        }
        _ => ask(shared, headers, request, now),
    }
}

fn ask(shared: &Shared, headers: &HeaderMap, request: Request, now: Duration) -> Response {
    let Some((ticket, new_browser)) = keys::secret().zip(keys::secret()) else { return page::over() };
    let browser = cookie(headers, BROWSER).unwrap_or(new_browser);
    let ends = now + shared.config.lifetimes.pending;
    let shown = Ticket { request, browser: browser.clone() };
    if shared.tickets.lock().insert(&ticket, shown, ends, now).is_err() {
        return page::refusal(&OauthError::busy());
    }
    (set_cookie(BROWSER, &browser), page::sign_in(&shared.config.users, &ticket, None)).into_response()
}

/// Sends the browser back with a code.
fn finish(shared: &Shared, request: Request, sign_in: SignIn, now: Duration) -> Response {
    let Request { wish, redirect, state, challenge, nonce, .. } = request;
    let stored = keys::secret().ok_or(OauthError::new("server_error", "no randomness to be had")).and_then(|text| {
        let code = Code::new(Grant { wish, sign_in }, redirect.clone(), challenge, nonce);
        shared.grants.lock().add_code(&text, code, now + shared.config.lifetimes.code, now)?;
        Ok(text)
    });
    match stored {
        Ok(code) => answer_at(&redirect, &[("code", &code)], state.as_deref(), &shared.issuer),
        Err(error) => error.redirect(&redirect, state.as_deref(), &shared.issuer),
    }
}
