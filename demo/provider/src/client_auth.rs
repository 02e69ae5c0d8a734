//! Which client is talking: by secret (Basic or form) if it has one, by name alone if it can keep none.

use crate::config::{Client, ClientKind, Config};
use crate::keys::sha256;
use crate::oauth::{OauthError, Params};
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const REFUSED: OauthError = OauthError::new("invalid_client", "the client is unknown or its secret is wrong");

/// The client of a request to the token, revocation or device endpoint.
pub(crate) fn authenticate<'a>(
    config: &'a Config,
    headers: &HeaderMap,
    params: &Params,
) -> Result<&'a Client, OauthError> {
    let basic = headers.get(header::AUTHORIZATION).map(|value| basic(value.as_bytes()).ok_or(REFUSED)).transpose()?;
    let (id, secret) = match (&basic, params.get("client_secret")) {
        (Some(_), Some(_)) => return Err(OauthError::request("use one way of client authentication, not two")),
        (Some((id, secret)), None) => (id.as_str(), Some(secret.as_str())),
        (None, secret) => (params.need("client_id")?, secret),
    };
    if params.get("client_id").is_some_and(|other| other != id) {
        return Err(OauthError::request("client_id differs from the authorization header"));
    }
    let client = find(config, id).ok_or(REFUSED)?;
    match (&client.kind, secret) {
        (ClientKind::Native { .. }, None) => Ok(client),
        (ClientKind::Confidential { secret: right }, Some(given)) if sha256(right) == sha256(given) => Ok(client),
        _ => Err(REFUSED),
    }
}

/// The client of this name.
pub(crate) fn find<'a>(config: &'a Config, id: &str) -> Option<&'a Client> {
    config.clients.iter().find(|client| client.id == id)
}

/// Name and secret, each form-encoded before they were joined (RFC 6749 §2.3.1).
fn basic(header: &[u8]) -> Option<(String, String)> {
    let (scheme, rest) = std::str::from_utf8(header).ok()?.split_once(' ')?;
    let joined = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (id, secret) = joined.split_once(':')?;
    scheme.eq_ignore_ascii_case("basic").then(|| (form_decode(id), form_decode(secret)))
}

fn form_decode(text: &str) -> String {
    // A lone name without `=` parses as a name: that decodes exactly one value.
    let escaped = text.replace('&', "%26").replace('=', "%3D");
    url::form_urlencoded::parse(escaped.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_decodes_what_was_form_encoded() {
        let header = format!("basic {}", STANDARD.encode("a%3Ab:c%20d%2B=&"));
        assert_eq!(basic(header.as_bytes()), Some(("a:b".into(), "c d+=&".into())));
        assert_eq!(basic(b"Bearer abc"), None);
        assert_eq!(basic(b"Basic !"), None);
    }
}
