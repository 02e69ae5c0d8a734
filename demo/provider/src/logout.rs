//! RP-initiated logout: the end of the browser's session here.

use crate::client_auth::find;
use crate::oauth::{Params, see_other};
use crate::page;
use crate::server::{SESSION, Shared, cookie, now, set_cookie};
use axum::extract::{RawForm, State};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use url::Url;

/// `GET` or `POST /end_session`. Without a hint that names this very user the person is asked first:
/// else any page could sign people out.
pub(crate) async fn end_session(
    State(shared): State<Arc<Shared>>,
    method: Method,
    headers: HeaderMap,
    RawForm(raw): RawForm,
) -> Response {
    let now = now();
    let Ok(params) = Params::parse(&raw) else { return page::over() };
    let hint = params.get("id_token_hint").and_then(|token| shared.key.hint(token));
    let claim = |name: &str| hint.as_ref().and_then(|hint| hint.get(name)?.as_str().map(str::to_owned));
    let session = cookie(&headers, SESSION);
    let signed_in = session.as_deref().and_then(|session| shared.sessions.lock().get(session, now).cloned());

    let agreed = method == Method::POST && params.get("confirm") == Some("yes");
    let named = signed_in.as_ref().is_none_or(|user| claim("sub").as_deref() == Some(user.username.as_str()));
    if !agreed && !named {
        return page::sign_out();
    }
    if let Some(session) = session {
        shared.sessions.lock().take(&session, now);
    }
    let back = params.get("post_logout_redirect_uri").and_then(|uri| uri.parse::<Url>().ok()).filter(|uri| {
        // Only the client that the signed hint names vouches for where to go.
        claim("aud").and_then(|id| find(&shared.config, &id)).is_some_and(|client| client.may_return_to(uri))
    });
    let answer = match back {
        Some(mut target) => {
            if let Some(state) = params.get("state") {
                target.query_pairs_mut().append_pair("state", state);
            }
            see_other(&target)
        }
        None => page::message("Signed out", "You are signed out of the demo provider. You can close this page."),
    };
    (set_cookie(SESSION, ""), answer).into_response()
}
