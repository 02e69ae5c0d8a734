//! A provider of its own for each test, and a browser with cookies to visit it.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use postern_demo_provider::{Config, Provider};
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, Response, StatusCode, redirect};
use serde_json::Value;
use std::time::Duration;
use url::Url;

pub(crate) const REDIRECT: &str = "http://127.0.0.1:49152/callback";
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(crate) const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A provider and a browser with its cookies.
pub(crate) struct Site {
    pub(crate) issuer: String,
    pub(crate) http: Client,
    pub(crate) cookies: String,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let mut config = Config::demo_on_any_port();
        config.lifetimes.poll = Duration::ZERO;
        let provider = Provider::bind(config).await.unwrap();
        let issuer = provider.issuer().to_owned();
        tokio::spawn(provider.serve(std::future::pending()));
        Self {
            issuer,
            http: Client::builder().redirect(redirect::Policy::none()).build().unwrap(),
            cookies: String::new(),
        }
    }

    pub(crate) fn authorize_url(&self, change: &[(&str, &str)]) -> Url {
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, VERIFIER.as_bytes()));
        let mut params = vec![
            ("client_id", "postern"),
            ("response_type", "code"),
            ("redirect_uri", REDIRECT),
            ("scope", "openid profile email offline_access"),
            ("state", "s t&te"),
            ("nonce", "n-1"),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ];
        params.retain(|(name, _)| !change.iter().any(|(other, _)| other == name));
        params.extend_from_slice(change);
        params.retain(|(_, value)| !value.is_empty());
        Url::parse_with_params(&format!("{}/authorize", self.issuer), params).unwrap()
    }

    pub(crate) async fn get(&mut self, url: impl reqwest::IntoUrl) -> Response {
        let answer = self.http.get(url).header(COOKIE, &self.cookies).send().await.unwrap();
        self.remember(answer)
    }

    pub(crate) async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Response {
        let request = self.http.post(format!("{}{path}", self.issuer)).header(COOKIE, &self.cookies).form(form);
        let answer = request.send().await.unwrap();
        self.remember(answer)
    }

    pub(crate) fn remember(&mut self, answer: Response) -> Response {
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            self.cookies = if self.cookies.is_empty() { pair.into() } else { format!("{}; {pair}", self.cookies) };
        }
        answer
    }

    /// Signs in on the page and returns what came back at the redirect.
    pub(crate) async fn sign_in(&mut self, change: &[(&str, &str)]) -> Url {
        let page = self.get(self.authorize_url(change)).await;
        assert_eq!(page.status(), StatusCode::OK);
        let ticket = ticket(&page.text().await.unwrap());
        let form = [("ticket", ticket.as_str()), ("username", "ada"), ("password", "lovelace"), ("action", "sign-in")];
        location(&self.post("/login", &form).await)
    }

    pub(crate) async fn code(&mut self) -> String {
        param(&self.sign_in(&[]).await, "code").unwrap()
    }

    pub(crate) async fn token(&mut self, form: &[(&str, &str)]) -> Result<Value, String> {
        let answer = self.post("/token", form).await;
        let (status, body) = (answer.status(), answer.json::<Value>().await.unwrap());
        if status.is_success() { Ok(body) } else { Err(body["error"].as_str().unwrap().into()) }
    }

    pub(crate) async fn redeem(&mut self, code: &str, change: &[(&str, &str)]) -> Result<Value, String> {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("client_id", "postern"),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        form.retain(|(name, _)| !change.iter().any(|(other, _)| other == name));
        form.extend_from_slice(change);
        form.retain(|(_, value)| !value.is_empty());
        self.token(&form).await
    }

    pub(crate) async fn refresh(&mut self, token: &str) -> Result<Value, String> {
        self.token(&[("grant_type", "refresh_token"), ("client_id", "postern"), ("refresh_token", token)]).await
    }

    /// The claims of a token whose signature, type, issuer and audience hold.
    pub(crate) async fn verify(&self, token: &str, typ: &str, audience: &str) -> Value {
        let keys: JwkSet = self.http.get(format!("{}/jwks", self.issuer)).send().await.unwrap().json().await.unwrap();
        let header = jsonwebtoken::decode_header(token).unwrap();
        assert_eq!(header.typ.as_deref(), Some(typ));
        let key = DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
        let mut rules = Validation::new(Algorithm::RS256);
        rules.set_audience(&[audience]);
        rules.set_issuer(&[&self.issuer]);
        jsonwebtoken::decode(token, &key, &rules).unwrap().claims
    }
}

pub(crate) fn ticket(page: &str) -> String {
    page.split("name=\"ticket\" value=\"").nth(1).unwrap().split('"').next().unwrap().into()
}

pub(crate) fn location(answer: &Response) -> Url {
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    answer.headers()[LOCATION].to_str().unwrap().parse().unwrap()
}

pub(crate) fn param(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap()
}
