//! From the address a person types to all that the agent needs to know of the relay.

use crate::web::{self, Web, WebError};
use http::StatusCode;
use http::header::DATE;
use postern_protocol::discovery::{Discovery, PATH, RelayEndpoint, SignIn};
use postern_protocol::problem::printable;
use postern_protocol::{Code, MAX_CONTROL_BYTES, Problem, Timestamp};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Deserialize;
use std::time::SystemTime;
use url::Url;

/// The version of the discovery document that this agent understands.
const VERSION: u32 = 1;
const MAX_TEXT: usize = 512;
const MAX_SCOPES: usize = 32;
/// The longest time for which a relay may take a provider's token: a day is far beyond use.
const MAX_TOKEN_AGE: u64 = 24 * 3600;
const MIN_TOKEN_AGE: u64 = 10;

/// The relay's public address: `relay.example`, `relay.example:8443` or an https URL without a path.
pub fn parse_address(text: &str) -> Result<Url, Problem> {
    let wrong = |why: &str| {
        // What stands before an @ may be a password.
        let named = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
        let shown: String = printable(named).chars().take(100).collect();
        Problem::new(Code::RequestInvalid).detail(format!("{shown:?} is no relay's address: {why}")).advice(
            None,
            Some("Give a name such as relay.example, relay.example:8443 or https://relay.example.".into()),
        )
    };
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_TEXT || text.starts_with('-') || text.contains(char::is_whitespace) {
        return Err(wrong("it is empty, too long, has spaces or begins with a hyphen"));
    }
    let url = match text.split_once("://") {
        Some(("https", _)) => Url::parse(text),
        Some(("http", _)) => return Err(wrong("only https is used towards a relay")),
        Some(_) => return Err(wrong("it is not an https address")),
        None => Url::parse(&format!("https://{text}")),
    };
    let url = url.map_err(|error| wrong(&error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("it carries a user name"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it goes on after the name and port"));
    }
    web::check_address(&url, false).map_err(|why| wrong(&why))?;
    Ok(url)
}

/// Fetches and checks the relay's discovery document.
pub async fn fetch(address: &Url, ca_pem: Option<&str>) -> Result<Discovery, Problem> {
    ask(address, ca_pem).await.0
}

/// The same, and the time by the clock of whoever answered.
pub(crate) async fn ask(address: &Url, ca_pem: Option<&str>) -> (Result<Discovery, Problem>, Option<Timestamp>) {
    let asked = async {
        let web = public_client(ca_pem)?;
        let url = address.join(PATH).map_err(|error| invalid(error.to_string()))?;
        let answer = web.get(&url).await.map_err(|error| relay_problem(address, &error))?;
        Ok((url, answer))
    };
    let (url, answer) = match asked.await {
        Ok(answered) => answered,
        Err(problem) => return (Err(problem), None),
    };
    let date = answer.headers().get(DATE).and_then(|date| read_date(date.to_str().ok()?));
    if answer.status() != StatusCode::OK {
        return (Err(invalid(format!("{url} answers {}", answer.status().as_u16()))), date);
    }
    (parse(address, answer.body()), date)
}

fn read_date(text: &str) -> Option<Timestamp> {
    let since = httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Timestamp::from_seconds(since.as_secs()))
}

/// The client for a relay's public listener.
pub(crate) fn public_client(ca_pem: Option<&str>) -> Result<Web, Problem> {
    Web::new(ca_pem, false, MAX_CONTROL_BYTES)
        .map_err(|error| Problem::new(Code::RelayUntrusted).detail(error.to_string()))
}

/// What a failed request to a relay's public listener means.
pub(crate) fn relay_problem(address: &Url, error: &WebError) -> Problem {
    let code = match error {
        WebError::Address(_) | WebError::TooLarge(_) => Code::DiscoveryInvalid,
        WebError::Untrusted(_) => Code::RelayUntrusted,
        WebError::Unreachable(_) => Code::RelayUnreachable,
    };
    Problem::new(code).detail(format!("{address}: {}", printable(&error.to_string())))
}

fn parse(address: &Url, body: &[u8]) -> Result<Discovery, Problem> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let malformed =
        |error: serde_json::Error| invalid(format!("the document is malformed: {}", printable(&error.to_string())));
    // The version first: all else may have changed with it.
    let Versioned { version } = serde_json::from_slice(body).map_err(malformed)?;
    if version != VERSION {
        let detail = format!("the relay speaks version {version}, this agent {VERSION}");
        return Err(Problem::new(Code::VersionUnsupported).detail(detail));
    }
    let document: Discovery = serde_json::from_slice(body).map_err(malformed)?;
    check(address, &document).map_err(invalid)?;
    Ok(document)
}

/// Every value that will be shown, opened, dialled or sent on. A relay is trusted with its apps, not with this machine.
fn check(address: &Url, document: &Discovery) -> Result<(), String> {
    web::check_address(&document.issuer, false).map_err(|why| format!("issuer: {why}"))?;
    plain_text("organisation", &document.organisation)?;
    check_endpoint(&document.relay)?;
    check_sign_in(address, &document.sign_in)
}

fn check_endpoint(relay: &RelayEndpoint) -> Result<(), String> {
    let not_an_endpoint = || "relay.quic is not HOST:PORT".to_owned();
    let (host, port) = relay.quic.rsplit_once(':').ok_or_else(not_an_endpoint)?;
    let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if ServerName::try_from(name).is_err() || !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err(not_an_endpoint());
    }
    let url = Url::parse(&format!("https://{host}:{port}/")).map_err(|_| not_an_endpoint())?;
    web::check_address(&url, false).map_err(|why| format!("relay.quic: {why}"))?;
    ServerName::try_from(relay.server_name.as_str()).map_err(|_| "relay.server_name is not a host name")?;
    if CertificateDer::pem_slice_iter(relay.ca_pem.as_bytes()).filter_map(Result::ok).next().is_none() {
        return Err("relay.ca_pem holds no certificate".into());
    }
    Ok(())
}

fn check_sign_in(address: &Url, sign_in: &SignIn) -> Result<(), String> {
    // Only a relay on this machine may send the agent to a provider on this machine.
    web::check_address(&sign_in.issuer, web::is_loopback(address)).map_err(|why| format!("sign_in.issuer: {why}"))?;
    if sign_in.issuer.query().is_some() || sign_in.issuer.fragment().is_some() {
        return Err("sign_in.issuer has a query or fragment".into());
    }
    plain_text("sign_in.client_id", &sign_in.client_id)?;
    if let Some(resource) = &sign_in.resource {
        plain_text("sign_in.resource", resource)?;
    }
    let token = |scope: &str| !scope.is_empty() && scope.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    if sign_in.scopes.len() > MAX_SCOPES || !sign_in.scopes.iter().all(|scope| scope.len() <= MAX_TEXT && token(scope))
    {
        return Err("sign_in.scopes are too many or not scopes (RFC 6749 §3.3)".into());
    }
    if !sign_in.scopes.iter().any(|scope| scope == "openid") {
        return Err("sign_in.scopes lack openid".into());
    }
    if sign_in.redirect_port == Some(0) {
        return Err("sign_in.redirect_port is 0".into());
    }
    if !(MIN_TOKEN_AGE..=MAX_TOKEN_AGE).contains(&sign_in.token_max_age) {
        return Err(format!("sign_in.token_max_age is not {MIN_TOKEN_AGE} to {MAX_TOKEN_AGE} seconds"));
    }
    Ok(())
}

fn plain_text(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > MAX_TEXT {
        return Err(format!("{what} is empty or longer than {MAX_TEXT} bytes"));
    }
    if printable(text) != text {
        return Err(format!("{what} holds control characters"));
    }
    Ok(())
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::DiscoveryInvalid).detail(detail)
}

#[cfg(test)]
mod tests;
