//! Token requests: the client of the `oauth2` crate over the agent's own HTTP, and what failures of it mean.

use super::metadata::{Metadata, web_problem};
use super::{Proof, ProofKind, Provider, SignedIn, failed, id_token, unacceptable};
use crate::web::{Web, WebError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, StatusCode};
use oauth2::basic::{
    BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse,
    BasicTokenType,
};
use oauth2::{
    AsyncHttpClient, AuthType, AuthUrl, ClientId, DeviceAuthorizationUrl, EndpointMaybeSet, EndpointNotSet,
    EndpointSet, ErrorResponse, ExtraTokenFields, HttpRequest, HttpResponse, RefreshToken, RequestTokenError,
    StandardRevocableToken, StandardTokenResponse, TokenResponse as _, TokenUrl,
};
use parking_lot::Mutex;
use postern_protocol::problem::printable;
use postern_protocol::{Code, Problem};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// The ID token as the provider wrote it. It is checked on its own, so that a strange claim does not cost the refresh
/// token that came with it.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct WithIdToken {
    id_token: Option<SecretText>,
}

impl ExtraTokenFields for WithIdToken {}

impl std::fmt::Debug for WithIdToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WithIdToken(..)")
    }
}

/// `oauth2` wants its fields serializable; a secret that is only ever read back is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct SecretText(String);

pub(super) type Answer = StandardTokenResponse<WithIdToken, BasicTokenType>;

pub(super) type Client = oauth2::Client<
    BasicErrorResponse,
    Answer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointMaybeSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// A refresh that brought no proof.
#[derive(Debug)]
pub struct RefreshFailure {
    /// Why.
    pub problem: Problem,
    /// The refresh token that replaces the one used: where there is one, that is the one to go on with.
    pub rotated: Option<SecretString>,
}

/// A client with this id and no secret.
pub(super) fn client(metadata: &Metadata, client_id: &str) -> Client {
    let device = metadata.device_authorization_endpoint.clone().map(DeviceAuthorizationUrl::from_url);
    oauth2::Client::new(ClientId::new(client_id.to_owned()))
        .set_auth_uri(AuthUrl::from_url(metadata.authorization_endpoint.clone()))
        .set_token_uri(TokenUrl::from_url(metadata.token_endpoint.clone()))
        .set_device_authorization_url_option(device)
        .set_auth_type(if metadata.takes_basic { AuthType::BasicAuth } else { AuthType::RequestBody })
}

/// The agent's HTTP as the crates want it. Remembers the last status: error answers without a body have nothing else.
pub(super) struct Transport {
    web: Web,
    last: Mutex<Option<StatusCode>>,
}

impl Transport {
    pub(super) fn new(web: &Web) -> Self {
        Self { web: web.clone(), last: Mutex::new(None) }
    }
}

impl<'c> AsyncHttpClient<'c> for Transport {
    type Error = WebError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, WebError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            *self.last.lock() = None;
            let mut answer = self.web.send(request).await?;
            *self.last.lock() = Some(answer.status());
            // Some providers say 201 or leave the type out; a body that parses is what counts.
            if answer.status().is_success() {
                *answer.status_mut() = StatusCode::OK;
            }
            *answer.headers_mut() =
                HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
            Ok(answer)
        })
    }
}

/// What a refused or broken token request means. `refused` is the code where the provider said no.
///
/// Only the provider's own no counts as one: a page of a proxy or of maintenance must not end anybody's session.
pub(super) fn problem_of<E: ErrorResponse + Display>(
    error: &RequestTokenError<WebError, E>,
    transport: &Transport,
    refused: Code,
) -> Problem {
    let status = transport.last.lock().map_or(0, |status| status.as_u16());
    let elsewhere = || Problem::new(Code::ProviderUnreachable).detail(format!("its token endpoint answers {status}"));
    match error {
        RequestTokenError::Request(error) => web_problem(error),
        _ if status >= 500 || status == 429 => elsewhere(),
        RequestTokenError::ServerResponse(answer) => {
            let text: String = printable(&answer.to_string()).chars().take(300).collect();
            Problem::new(refused).detail(format!("the provider says: {text}"))
        }
        // Never the body: it may hold a token.
        RequestTokenError::Parse(..) if status == 200 => unacceptable("its token answer is malformed"),
        // Some providers refuse without a body.
        _ if status == 400 || status == 401 => Problem::new(refused).detail("the provider refuses without saying why"),
        _ => elsewhere(),
    }
}

impl Provider {
    /// New tokens for a refresh token. Where the provider rotates, the old one is worthless from here on.
    ///
    /// `subject` is whom the session belongs to: tokens for anyone else are refused.
    pub async fn refresh(
        &self,
        refresh_token: &SecretString,
        subject: Option<&str>,
    ) -> Result<SignedIn, RefreshFailure> {
        let transport = Transport::new(&self.web);
        let token = RefreshToken::new(refresh_token.expose_secret().to_owned());
        let client = client(&self.metadata, &self.sign_in.client_id);
        let answer = client.exchange_refresh_token(&token).request_async(&transport).await.map_err(|error| {
            RefreshFailure { problem: problem_of(&error, &transport, refused_refresh(&error)), rotated: None }
        })?;
        let rotated = answer.refresh_token().map(|token| SecretString::from(token.secret().as_str()));
        let accepted = self.accept(&answer, None).await.and_then(|signed_in| match (&signed_in.principal, subject) {
            (Some(principal), Some(subject)) if principal.subject != subject => {
                Err(failed("the refreshed tokens are another user's"))
            }
            _ => Ok(signed_in),
        });
        match accepted {
            // A provider that does not rotate sends none: the old one stays good.
            Ok(signed_in) => {
                Ok(SignedIn { refresh_token: rotated.or_else(|| Some(refresh_token.clone())), ..signed_in })
            }
            Err(problem) => Err(RefreshFailure { problem, rotated }),
        }
    }

    /// What the relay will take out of an answer of the token endpoint. With `nonce` there must be an ID token bound to it.
    pub(super) async fn accept(&self, answer: &Answer, nonce: Option<&str>) -> Result<SignedIn, Problem> {
        let secret = |text: &str| SecretString::from(text);
        let refresh_token = answer.refresh_token().map(|token| secret(token.secret()));
        if let Some(SecretText(token)) = &answer.extra_fields().id_token {
            let verified = id_token::verify(self, token, nonce).await?;
            let proof = Proof { token: secret(token), kind: ProofKind::IdToken, fresh_for: verified.fresh_for };
            let id_token::Verified { principal, auth_time, acr, .. } = verified;
            return Ok(SignedIn { proof, refresh_token, principal: Some(principal), auth_time, acr });
        }
        if nonce.is_some() {
            return Err(failed("the provider sent no ID token"));
        }
        let proof = self.access_proof(answer)?;
        Ok(SignedIn { proof, refresh_token, principal: None, auth_time: None, acr: None })
    }

    /// The access token as proof, where it is one that the relay can take: a JWT, for its resource if it names one.
    pub(super) fn access_proof(&self, answer: &Answer) -> Result<Proof, Problem> {
        let token = answer.access_token().secret();
        let claims = peek(token)
            .ok_or_else(|| failed("the provider sent neither an ID token nor an access token in JWT form"))?;
        let fresh = claims.lifetime().or(answer.expires_in()).unwrap_or(Duration::from_secs(60));
        let fresh_for = fresh.min(Duration::from_secs(self.sign_in.token_max_age));
        Ok(Proof { token: SecretString::from(token.as_str()), kind: ProofKind::AccessToken, fresh_for })
    }
}

/// What a refusal of a refresh means: the end only where it is about this sign-in. A client that somebody misconfigured
/// must not sign everybody out; the relay sees to it that nobody goes on for long without a fresh token.
fn refused_refresh(error: &RequestTokenError<WebError, BasicErrorResponse>) -> Code {
    const ENDS: [&str; 4] = ["access_denied", "interaction_required", "login_required", "consent_required"];
    match error {
        RequestTokenError::ServerResponse(answer) => match answer.error() {
            BasicErrorResponseType::InvalidGrant => Code::RefreshRefused,
            BasicErrorResponseType::Extension(name) if ENDS.contains(&name.as_str()) => Code::RefreshRefused,
            _ => Code::ProviderUnreachable,
        },
        _ => Code::RefreshRefused,
    }
}

/// What an access token says of its times. Only to plan by: the relay verifies it, the agent is not its audience.
#[derive(Deserialize)]
struct Times {
    iat: Option<u64>,
    exp: Option<u64>,
}

impl Times {
    fn lifetime(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.exp?.saturating_sub(self.iat?)))
    }
}

fn peek(token: &str) -> Option<Times> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}
