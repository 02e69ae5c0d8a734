//! The device authorization grant (RFC 8628): where no browser is, a code is typed into one elsewhere.

use crate::authorize::wish;
use crate::client_auth::authenticate;
use crate::config::ClientKind;
use crate::keys;
use crate::oauth::{OauthError, Params};
use crate::page;
use crate::server::{Shared, now};
use axum::Json;
use axum::extract::{RawForm, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;

/// `POST /device_authorization`.
pub(crate) async fn begin(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    RawForm(body): RawForm,
) -> Result<Json<Value>, OauthError> {
    let params = Params::parse(&body)?;
    let client = authenticate(&shared.config, &headers, &params)?;
    if !matches!(client.kind, ClientKind::Native { .. }) {
        return Err(OauthError::new("unauthorized_client", "this client may not use this grant"));
    }
    let wish = wish(&shared, &client.id, &params)?;
    let (device_code, user_code) =
        keys::secret().zip(keys::user_code()).ok_or(OauthError::new("server_error", "no randomness to be had"))?;
    let (now, lifetimes) = (now(), &shared.config.lifetimes);
    let ends = now + lifetimes.pending;
    shared.grants.lock().add_device(&device_code, &user_code, wish, lifetimes.poll, ends, now)?;
    let page = format!("{}/device", shared.issuer);
    Ok(Json(json!({
        "device_code": device_code,
        "user_code": user_code,
        "verification_uri": page,
        "verification_uri_complete": format!("{page}?user_code={user_code}"),
        "expires_in": lifetimes.pending.as_secs(),
        "interval": lifetimes.poll.as_secs(),
    })))
}

/// `GET /device`: the page where the code is typed.
pub(crate) async fn show(State(shared): State<Arc<Shared>>, RawForm(raw): RawForm) -> Response {
    let params = Params::parse(&raw).ok();
    let code = params.as_ref().and_then(|params| params.get("user_code")).unwrap_or_default();
    page::device(&shared.config.users, code, None)
}

/// `POST /device`: code, name, password, and yes or no. The password is asked for each time: a page
/// elsewhere cannot approve a device with the user's cookie alone.
pub(crate) async fn answer(State(shared): State<Arc<Shared>>, RawForm(raw): RawForm) -> Response {
    let now = now();
    let Ok(params) = Params::parse(&raw) else { return page::over() };
    let typed = params.get("user_code").unwrap_or_default();
    let again = |why| page::device(&shared.config.users, typed, Some(why));
    let code = normal_form(typed);
    if !shared.may_guess(now) || !shared.grants.lock().knows_user_code(&code, now) {
        shared.guessed_wrong(now);
        return again("No device waits for this code, or there were too many wrong ones. Compare it and try again.");
    }
    let (username, password) = (params.get("username").unwrap_or_default(), params.get("password").unwrap_or_default());
    let Some(sign_in) = shared.check_password(username, password, now) else {
        return again("That is not a name and its password. Try again.");
    };
    let yes = params.get("action") != Some("deny");
    if !shared.grants.lock().answer_device(&code, if yes { Ok(sign_in) } else { Err(()) }, now) {
        return again("No device waits for this code any more.");
    }
    if yes {
        page::message("Device signed in", "You can close this page and return to the device.")
    } else {
        page::message("Device refused", "The device was not signed in. You can close this page.")
    }
}

/// As people type it: any case, with or without the hyphen.
fn normal_form(typed: &str) -> String {
    let letters: String = typed.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_ascii_uppercase();
    match letters.split_at_checked(4) {
        Some((left, right)) => format!("{left}-{right}"),
        None => letters,
    }
}

#[cfg(test)]
mod tests {
    use super::normal_form;

    #[test]
    fn codes_are_read_as_people_type_them() {
        for typed in ["BCDF-GHJK", "bcdfghjk", " bcdf ghjk "] {
            assert_eq!(normal_form(typed), "BCDF-GHJK");
        }
        assert_eq!(normal_form("b"), "B");
    }
}
