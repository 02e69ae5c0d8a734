//! The token endpoint, the revocation endpoint and what the tokens say.

use crate::client_auth::authenticate;
use crate::config::{Client, ClientKind, User};
use crate::grants::{Grant, SignIn};
use crate::keys;
use crate::oauth::{OauthError, Params};
use crate::server::{Shared, now};
use axum::Json;
use axum::extract::{RawForm, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How a person proved who they are here: a password shown on the page.
pub(crate) const ACR: &str = "urn:postern:demo:password";

const NO_RANDOM: OauthError = OauthError::new("server_error", "no randomness or no signature to be had");

/// `POST /token`.
pub(crate) async fn token(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    RawForm(body): RawForm,
) -> Result<Response, OauthError> {
    let params = Params::parse(&body)?;
    let client = authenticate(&shared.config, &headers, &params)?;
    let native = matches!(client.kind, ClientKind::Native { .. });
    let answer = match params.need("grant_type")? {
        "authorization_code" if native => code(&shared, client, &params),
        "refresh_token" if native => refresh(&shared, client, &params),
        "urn:ietf:params:oauth:grant-type:device_code" if native => device(&shared, client, &params),
        "client_credentials" if !native => credentials(&shared, client, &params),
        "authorization_code"
        | "refresh_token"
        | "urn:ietf:params:oauth:grant-type:device_code"
        | "client_credentials" => Err(OauthError::new("unauthorized_client", "this client may not use this grant")),
        _ => Err(OauthError::new("unsupported_grant_type", "the grant_type is not known here")),
    };
    answer.map(|answer| Json(answer).into_response())
}

/// `POST /revoke` (RFC 7009): ends a refresh token's family. An unknown token is no error.
pub(crate) async fn revoke(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    RawForm(body): RawForm,
) -> Result<(), OauthError> {
    let params = Params::parse(&body)?;
    let client = authenticate(&shared.config, &headers, &params)?;
    let token = params.need("token")?;
    // Access tokens are signed statements that live for minutes; nobody asks here whether they still hold.
    if token.matches('.').count() == 2 {
        return Err(OauthError::new("unsupported_token_type", "an access token cannot be revoked; it ends soon"));
    }
    shared.grants.lock().revoke(token, &client.id, now());
    Ok(())
}

/// A resource that access tokens may be meant for.
pub(crate) fn resource(shared: &Shared, params: &Params) -> Result<Option<String>, OauthError> {
    match params.get("resource") {
        Some(wanted) if !shared.config.resources.iter().any(|known| known == wanted) => {
            Err(OauthError::new("invalid_target", "the resource is not known here"))
        }
        wanted => Ok(wanted.map(str::to_owned)),
    }
}

fn code(shared: &Shared, client: &Client, params: &Params) -> Result<Value, OauthError> {
    let (family, secret) = keys::secret().zip(keys::secret()).ok_or(NO_RANDOM)?;
    let (code, redirect, verifier) =
        (params.need("code")?, params.need("redirect_uri")?, params.need("code_verifier")?);
    let now = now();
    let (grant, nonce) = shared.grants.lock().redeem(code, &client.id, redirect, verifier, Some(&family), now)?;
    let refresh = begin_family(shared, &grant, &family, &secret, now)?;
    answer(shared, &grant, nonce.as_deref(), refresh, now)
}

fn refresh(shared: &Shared, client: &Client, params: &Params) -> Result<Value, OauthError> {
    let (token, next) = (params.need("refresh_token")?, keys::secret().ok_or(NO_RANDOM)?);
    let now = now();
    let grant = shared.grants.lock().rotate(token, &client.id, &next, now)?;
    let family = token.split_once('.').map_or(token, |(family, _)| family);
    // The nonce answered the first request; a refreshed ID token carries none (OpenID Connect Core §12.2).
    answer(shared, &grant, None, Some(format!("{family}.{next}")), now)
}

fn device(shared: &Shared, client: &Client, params: &Params) -> Result<Value, OauthError> {
    let (family, secret) = keys::secret().zip(keys::secret()).ok_or(NO_RANDOM)?;
    let now = now();
    let grant = shared.grants.lock().poll(params.need("device_code")?, &client.id, now)?;
    let refresh = begin_family(shared, &grant, &family, &secret, now)?;
    answer(shared, &grant, None, refresh, now)
}

fn credentials(shared: &Shared, client: &Client, params: &Params) -> Result<Value, OauthError> {
    let now = now();
    let resource = resource(shared, params)?;
    let mut claims = access_claims(shared, &client.id, resource.as_deref(), now)?;
    claims.insert("sub".into(), client.id.as_str().into());
    let token = shared.key.sign("at+jwt", &claims).ok_or(NO_RANDOM)?;
    Ok(json!({ "access_token": token, "token_type": "Bearer", "expires_in": shared.config.lifetimes.token.as_secs() }))
}

fn begin_family(
    shared: &Shared,
    grant: &Grant,
    family: &str,
    secret: &str,
    now: Duration,
) -> Result<Option<String>, OauthError> {
    if !grant.wish.has("offline_access") {
        return Ok(None);
    }
    let ends = grant.sign_in.at + shared.config.lifetimes.refresh;
    shared.grants.lock().begin_family(family, secret, grant.clone(), ends, now)?;
    Ok(Some(format!("{family}.{secret}")))
}

fn answer(
    shared: &Shared,
    grant: &Grant,
    nonce: Option<&str>,
    refresh: Option<String>,
    now: Duration,
) -> Result<Value, OauthError> {
    let user = shared.user(&grant.sign_in.username).ok_or(OauthError::grant("the user is no more"))?;
    let about = user_claims(grant, user);

    let mut access = access_claims(shared, &grant.wish.client, grant.wish.resource.as_deref(), now)?;
    access.extend(about.clone());
    access.insert("scope".into(), grant.wish.scope.as_str().into());
    let access = shared.key.sign("at+jwt", &access).ok_or(NO_RANDOM)?;

    let mut id = about;
    id.extend(base_claims(shared, now));
    id.insert("aud".into(), grant.wish.client.as_str().into());
    id.insert("at_hash".into(), keys::at_hash(&access).into());
    id.extend(nonce.map(|nonce| ("nonce".into(), nonce.into())));
    let id = shared.key.sign("JWT", &id).ok_or(NO_RANDOM)?;

    let mut answer = json!({
        "access_token": access,
        "token_type": "Bearer",
        "expires_in": shared.config.lifetimes.token.as_secs(),
        "scope": grant.wish.scope,
        "id_token": id,
    });
    if let (Some(refresh), Value::Object(fields)) = (refresh, &mut answer) {
        fields.insert("refresh_token".into(), refresh.into());
    }
    Ok(answer)
}

fn base_claims(shared: &Shared, now: Duration) -> Map<String, Value> {
    let ends = now + shared.config.lifetimes.token;
    [("iss", json!(shared.issuer)), ("iat", json!(now.as_secs())), ("exp", json!(ends.as_secs()))]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

/// The claims of every access token (RFC 9068 §2.2) but `sub`.
fn access_claims(
    shared: &Shared,
    client: &str,
    resource: Option<&str>,
    now: Duration,
) -> Result<Map<String, Value>, OauthError> {
    let audience = resource.or(shared.config.resources.first().map(String::as_str)).unwrap_or(&shared.issuer);
    let mut claims = base_claims(shared, now);
    claims.insert("aud".into(), audience.into());
    claims.insert("client_id".into(), client.into());
    claims.insert("jti".into(), keys::secret().ok_or(NO_RANDOM)?.into());
    Ok(claims)
}

/// Who the user is, as far as the scopes allow to say, and how that was proven.
fn user_claims(grant: &Grant, user: &User) -> Map<String, Value> {
    let SignIn { at, .. } = grant.sign_in;
    let mut claims = Map::new();
    claims.insert("sub".into(), user.username.as_str().into());
    claims.insert("auth_time".into(), at.as_secs().into());
    claims.insert("acr".into(), ACR.into());
    claims.insert("amr".into(), json!(["pwd"]));
    claims.insert("groups".into(), json!(user.groups));
    if grant.wish.has("profile") {
        claims.insert("name".into(), user.name.as_str().into());
        claims.insert("preferred_username".into(), user.username.as_str().into());
    }
    if grant.wish.has("email") {
        claims.insert("email".into(), user.email.as_str().into());
        claims.insert("email_verified".into(), true.into());
    }
    claims
}
