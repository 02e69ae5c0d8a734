//! Parameters as OAuth sends them, and its errors.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::collections::BTreeMap;
use url::Url;

/// Query or form parameters. Each may come once (RFC 6749 §3.1); an empty one counts as absent.
pub(crate) struct Params(BTreeMap<String, String>);

impl Params {
    const MOST: usize = 32;
    const LONGEST: usize = 4096;

    pub(crate) fn parse(raw: &[u8]) -> Result<Self, OauthError> {
        let mut params = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(raw) {
            if params.len() >= Self::MOST || name.len().max(value.len()) > Self::LONGEST {
                return Err(OauthError::request("too many or too long parameters"));
            }
            if params.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(OauthError::request("a parameter is there twice"));
            }
        }
        params.retain(|_, value| !value.is_empty());
        Ok(Self(params))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn need(&self, name: &'static str) -> Result<&str, OauthError> {
        self.get(name).ok_or(OauthError { code: "invalid_request", description: name, missing: true })
    }
}

/// An error response of RFC 6749 §4.1.2.1 and §5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OauthError {
    pub(crate) code: &'static str,
    description: &'static str,
    missing: bool,
}

impl OauthError {
    pub(crate) const fn new(code: &'static str, description: &'static str) -> Self {
        Self { code, description, missing: false }
    }

    pub(crate) const fn request(description: &'static str) -> Self {
        Self::new("invalid_request", description)
    }

    pub(crate) const fn grant(description: &'static str) -> Self {
        Self::new("invalid_grant", description)
    }

    pub(crate) const fn busy() -> Self {
        Self::new("temporarily_unavailable", "too much is under way; try again later")
    }

    pub(crate) fn description(&self) -> String {
        if self.missing { format!("the parameter {} is missing", self.description) } else { self.description.into() }
    }

    /// The same for the client that waits at `redirect`, with `iss` (RFC 9207).
    pub(crate) fn redirect(&self, redirect: &Url, state: Option<&str>, issuer: &str) -> Response {
        let description = self.description();
        answer_at(redirect, &[("error", self.code), ("error_description", &description)], state, issuer)
    }
}

impl IntoResponse for OauthError {
    fn into_response(self) -> Response {
        let status = match self.code {
            "invalid_client" => StatusCode::UNAUTHORIZED,
            "temporarily_unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            "server_error" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        let body = Json(json!({ "error": self.code, "error_description": self.description() }));
        // RFC 6749 §5.2: a client that used the header must be told which scheme it was.
        if status == StatusCode::UNAUTHORIZED {
            (status, [(header::WWW_AUTHENTICATE, "Basic")], body).into_response()
        } else {
            (status, body).into_response()
        }
    }
}

/// Sends the browser back to the client with `answer`, `state` and `iss`.
pub(crate) fn answer_at(redirect: &Url, answer: &[(&str, &str)], state: Option<&str>, issuer: &str) -> Response {
    let mut target = redirect.clone();
    target.query_pairs_mut().extend_pairs(answer).extend_pairs(state.map(|s| ("state", s))).append_pair("iss", issuer);
    see_other(&target)
}

/// 303, so that a form's POST becomes a GET and its body (a password) travels no further.
pub(crate) fn see_other(target: &Url) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, target.as_str())]).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_comes_once() {
        assert_eq!(Params::parse(b"a=1&a=1").err().unwrap().code, "invalid_request");
        assert_eq!(Params::parse(b"a=&b=%20").unwrap().get("a"), None);
        assert_eq!(Params::parse(b"b=%20").unwrap().need("a").unwrap_err().description(), "the parameter a is missing");
    }

    #[test]
    fn parameters_are_limited_in_number_and_length() {
        let many: String = (0..=Params::MOST).map(|n| format!("p{n}=1&")).collect();
        assert!(Params::parse(many.as_bytes()).is_err());
        assert!(Params::parse(format!("a={}", "x".repeat(Params::LONGEST + 1)).as_bytes()).is_err());
    }
}
