//! The provider's metadata, and what the agent demands of it before anything is opened or sent.

use super::unacceptable;
use crate::web::{self, Web, WebError};
use http::StatusCode;
use openidconnect::core::{
    CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType,
    CoreSubjectIdentifierType,
};
use openidconnect::{AdditionalProviderMetadata, IssuerUrl, JsonWebKeySet, ProviderMetadata};
use postern_protocol::problem::printable;
use postern_protocol::{Code, Problem};
use serde::{Deserialize, Serialize};
use url::Url;

/// What this agent reads beyond the core of OpenID Connect Discovery.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Extensions {
    /// RFC 8414.
    #[serde(default)]
    code_challenge_methods_supported: Vec<String>,
    /// RFC 9207.
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    /// RFC 8628.
    device_authorization_endpoint: Option<String>,
    /// RFC 7009, by RFC 8414.
    revocation_endpoint: Option<String>,
    /// OpenID Connect Prompt Create 1.0.
    #[serde(default)]
    prompt_values_supported: Vec<String>,
}

impl AdditionalProviderMetadata for Extensions {}

type Document = ProviderMetadata<
    Extensions,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// The part of the metadata that the agent uses, every address checked.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    /// As the provider writes it: the `iss` of its tokens, to the letter.
    pub(super) issuer: IssuerUrl,
    pub(super) authorization_endpoint: Url,
    pub(super) token_endpoint: Url,
    pub(super) device_authorization_endpoint: Option<Url>,
    pub(super) revocation_endpoint: Option<Url>,
    jwks_uri: Url,
    /// Does it name itself in its answers to the redirect?
    pub(super) names_itself: bool,
    /// Does it know the prompt that `offline_access` asks for?
    pub(super) knows_consent: bool,
    /// Does it take a client's secret in the `Authorization` header?
    pub(super) takes_basic: bool,
    /// Does it do PKCE with S256?
    pub(super) has_s256: bool,
    /// May its pages be on this machine?
    pub(super) plain_loopback: bool,
}

/// Fetches and checks the metadata of `issuer`.
pub(super) async fn fetch(web: &Web, issuer: &Url, plain_loopback: bool) -> Result<Metadata, Problem> {
    let base = issuer.as_str().trim_end_matches('/');
    let url = format!("{base}/.well-known/openid-configuration");
    let url = Url::parse(&url).map_err(|error| unacceptable(format!("issuer: {error}")))?;
    let body = get(web, &url).await?;
    let document: Document = serde_json::from_slice(&body)
        .map_err(|error| unacceptable(format!("its metadata is malformed: {}", printable(&error.to_string()))))?;
    check(&document, issuer, plain_loopback).map_err(unacceptable)
}

/// Fetches the provider's keys: from the address in its metadata, never from one in a token.
pub(super) async fn fetch_keys(web: &Web, metadata: &Metadata) -> Result<JsonWebKeySet<CoreJsonWebKey>, Problem> {
    let body = get(web, &metadata.jwks_uri).await?;
    serde_json::from_slice(&body).map_err(|_| unacceptable("its set of keys is malformed"))
}

/// What a request to the provider that had no answer means.
pub(super) fn web_problem(error: &WebError) -> Problem {
    let code = match error {
        WebError::Address(_) | WebError::TooLarge(_) => Code::ProviderInvalid,
        WebError::Untrusted(_) | WebError::Unreachable(_) => Code::ProviderUnreachable,
    };
    Problem::new(code).detail(printable(&error.to_string()))
}

async fn get(web: &Web, url: &Url) -> Result<Vec<u8>, Problem> {
    let answer = web.get(url).await.map_err(|error| web_problem(&error))?;
    match answer.status() {
        StatusCode::OK => Ok(answer.into_body()),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Err(Problem::new(Code::ProviderUnreachable).detail(format!("{url} answers {}", status.as_u16())))
        }
        status => Err(unacceptable(format!("{url} answers {}", status.as_u16()))),
    }
}

fn check(document: &Document, issuer: &Url, plain_loopback: bool) -> Result<Metadata, String> {
    // The relay's document writes a bare host with a slash, the provider may not: that alone makes no other issuer.
    let same = document.issuer().as_str().trim_end_matches('/') == issuer.as_str().trim_end_matches('/');
    if !same {
        let named = printable(document.issuer().as_str());
        return Err(format!("its metadata names another issuer, {named:?}"));
    }
    let endpoint = |what: &str, text: &str| endpoint(what, text, plain_loopback);
    let optional = |what: &str, text: &Option<String>| text.as_deref().map(|text| endpoint(what, text)).transpose();
    let extensions = document.additional_metadata();
    let token_endpoint = document.token_endpoint().ok_or("its metadata lacks token_endpoint")?;
    let methods = document.token_endpoint_auth_methods_supported();
    Ok(Metadata {
        issuer: document.issuer().clone(),
        authorization_endpoint: endpoint("authorization_endpoint", document.authorization_endpoint().as_str())?,
        token_endpoint: endpoint("token_endpoint", token_endpoint.as_str())?,
        device_authorization_endpoint: optional(
            "device_authorization_endpoint",
            &extensions.device_authorization_endpoint,
        )?,
        revocation_endpoint: optional("revocation_endpoint", &extensions.revocation_endpoint)?,
        jwks_uri: endpoint("jwks_uri", document.jwks_uri().as_str())?,
        names_itself: extensions.authorization_response_iss_parameter_supported,
        knows_consent: extensions.prompt_values_supported.iter().any(|prompt| prompt == "consent"),
        takes_basic: methods.is_none_or(|methods| methods.contains(&CoreClientAuthMethod::ClientSecretBasic)),
        has_s256: extensions.code_challenge_methods_supported.iter().any(|method| method == "S256"),
        plain_loopback,
    })
}

/// An address to send secrets to or to open in a browser: of the web, as the provider wrote it and not as a lenient
/// parser would mend it.
pub(super) fn endpoint(what: &str, text: &str, plain_loopback: bool) -> Result<Url, String> {
    let strange = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '<' | '>' | '`' | '\\');
    if text.starts_with('-') || text.contains(strange) || text.len() > 2048 {
        return Err(format!("{what} is not a plain address"));
    }
    let url = Url::parse(text).map_err(|error| format!("{what}: {error}"))?;
    web::check_address(&url, plain_loopback).map_err(|why| format!("{what}: {why}"))?;
    if url.fragment().is_some() { Err(format!("{what} has a fragment")) } else { Ok(url) }
}
