//! The provider over HTTP, as browsers, agents and attackers use it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use postern_demo_provider::{Config, Provider, StartError};
use reqwest::header::{COOKIE, HOST, LOCATION, SET_COOKIE};
use reqwest::{Client, Response, StatusCode, redirect};
use serde_json::Value;
use std::time::Duration;
use url::Url;

const REDIRECT: &str = "http://127.0.0.1:49152/callback";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A provider and a browser with its cookies.
struct Site {
    issuer: String,
    http: Client,
    cookies: String,
}

impl Site {
    async fn start() -> Self {
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

    fn authorize_url(&self, change: &[(&str, &str)]) -> Url {
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

    async fn get(&mut self, url: impl reqwest::IntoUrl) -> Response {
        let answer = self.http.get(url).header(COOKIE, &self.cookies).send().await.unwrap();
        self.remember(answer)
    }

    async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Response {
        let request = self.http.post(format!("{}{path}", self.issuer)).header(COOKIE, &self.cookies).form(form);
        let answer = request.send().await.unwrap();
        self.remember(answer)
    }

    fn remember(&mut self, answer: Response) -> Response {
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            self.cookies = if self.cookies.is_empty() { pair.into() } else { format!("{}; {pair}", self.cookies) };
        }
        answer
    }

    /// Signs in on the page and returns what came back at the redirect.
    async fn sign_in(&mut self, change: &[(&str, &str)]) -> Url {
        let page = self.get(self.authorize_url(change)).await;
        assert_eq!(page.status(), StatusCode::OK);
        let ticket = ticket(&page.text().await.unwrap());
        let form = [("ticket", ticket.as_str()), ("username", "ada"), ("password", "lovelace"), ("action", "sign-in")];
        location(&self.post("/login", &form).await)
    }

    async fn code(&mut self) -> String {
        param(&self.sign_in(&[]).await, "code").unwrap()
    }

    async fn token(&mut self, form: &[(&str, &str)]) -> Result<Value, String> {
        let answer = self.post("/token", form).await;
        let (status, body) = (answer.status(), answer.json::<Value>().await.unwrap());
        if status.is_success() { Ok(body) } else { Err(body["error"].as_str().unwrap().into()) }
    }

    async fn redeem(&mut self, code: &str, change: &[(&str, &str)]) -> Result<Value, String> {
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

    async fn refresh(&mut self, token: &str) -> Result<Value, String> {
        self.token(&[("grant_type", "refresh_token"), ("client_id", "postern"), ("refresh_token", token)]).await
    }

    /// The claims of a token whose signature, type, issuer and audience hold.
    async fn verify(&self, token: &str, typ: &str, audience: &str) -> Value {
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

fn ticket(page: &str) -> String {
    page.split("name=\"ticket\" value=\"").nth(1).unwrap().split('"').next().unwrap().into()
}

fn location(answer: &Response) -> Url {
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    answer.headers()[LOCATION].to_str().unwrap().parse().unwrap()
}

fn param(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap()
}

#[tokio::test]
async fn signs_in_by_code_and_pkce() {
    let mut site = Site::start().await;
    let back = site.sign_in(&[]).await;
    assert!(back.as_str().starts_with(REDIRECT));
    assert_eq!(param(&back, "state").as_deref(), Some("s t&te"));
    assert_eq!(param(&back, "iss").as_deref(), Some(site.issuer.as_str()), "RFC 9207");

    let tokens = site.redeem(&param(&back, "code").unwrap(), &[]).await.unwrap();
    let id = site.verify(text(&tokens, "id_token"), "JWT", "postern").await;
    assert_eq!((text(&id, "sub"), text(&id, "nonce"), text(&id, "name")), ("ada", "n-1", "Ada Lovelace"));
    assert_eq!(id["groups"], serde_json::json!(["engineering"]));
    assert_eq!(id["amr"], serde_json::json!(["pwd"]));
    assert!(id["auth_time"].is_u64() && id["acr"].is_string() && id["email_verified"] == true);

    let access = site.verify(text(&tokens, "access_token"), "at+jwt", "urn:postern:demo").await;
    assert_eq!((text(&access, "sub"), text(&access, "client_id")), ("ada", "postern"));
}

#[tokio::test]
async fn metadata_names_endpoints_that_exist_and_requires_s256() {
    let site = Site::start().await;
    let url = format!("{}/.well-known/openid-configuration", site.issuer);
    let metadata: Value = site.http.get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(metadata["issuer"], site.issuer.as_str());
    assert_eq!(metadata["code_challenge_methods_supported"], serde_json::json!(["S256"]));
    assert_eq!(metadata["authorization_response_iss_parameter_supported"], true);
    for (name, value) in metadata.as_object().unwrap() {
        if name.ends_with("_endpoint") || name == "jwks_uri" {
            let status = site.http.get(value.as_str().unwrap()).send().await.unwrap().status();
            assert_ne!(status, StatusCode::NOT_FOUND, "{name}");
        }
    }
}

#[tokio::test]
async fn a_code_without_its_verifier_is_worth_nothing() {
    let mut site = Site::start().await;
    for (field, wrong) in [
        ("code_verifier", "x".repeat(43)),
        ("code_verifier", String::new()),
        ("redirect_uri", "http://127.0.0.1:1/callback".into()),
        ("client_id", "ci-runner".into()),
        ("client_id", "nobody".into()),
    ] {
        let code = site.code().await;
        assert!(site.redeem(&code, &[(field, &wrong)]).await.is_err(), "{field} {wrong}");
        site.cookies.clear();
    }
}

#[tokio::test]
async fn a_wrong_verifier_spends_the_code() {
    let mut site = Site::start().await;
    let code = site.code().await;
    assert_eq!(site.redeem(&code, &[("code_verifier", &"x".repeat(43))]).await.unwrap_err(), "invalid_grant");
    assert_eq!(site.redeem(&code, &[]).await.unwrap_err(), "invalid_grant");
}

#[tokio::test]
async fn a_replayed_code_ends_what_it_began() {
    let mut site = Site::start().await;
    let code = site.code().await;
    let tokens = site.redeem(&code, &[]).await.unwrap();
    assert_eq!(site.redeem(&code, &[]).await.unwrap_err(), "invalid_grant");
    assert_eq!(site.refresh(text(&tokens, "refresh_token")).await.unwrap_err(), "invalid_grant");
}

#[tokio::test]
async fn without_pkce_s256_no_page_is_shown() {
    let mut site = Site::start().await;
    for (change, error) in [
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge", "short"), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge_method", ""), "invalid_request"),
        (("response_type", "token"), "unsupported_response_type"),
        (("response_mode", "fragment"), "invalid_request"),
        (("scope", "profile"), "invalid_scope"),
        (("resource", "urn:other"), "invalid_target"),
        (("request", "e30.e30."), "request_not_supported"),
        (("prompt", "none"), "login_required"),
        (("max_age", "soon"), "invalid_request"),
    ] {
        let back = location(&site.get(site.authorize_url(&[change])).await);
        assert_eq!(param(&back, "error").as_deref(), Some(error), "{change:?}");
        assert_eq!(param(&back, "iss").as_deref(), Some(site.issuer.as_str()));
        assert_eq!(param(&back, "state").as_deref(), Some("s t&te"));
        assert!(param(&back, "code").is_none());
    }
}

#[tokio::test]
async fn an_unknown_redirect_is_not_followed() {
    let mut site = Site::start().await;
    for change in [
        ("redirect_uri", "https://evil.example/callback"),
        ("redirect_uri", "http://localhost:1/callback"),
        ("redirect_uri", "http://127.0.0.1:1/other"),
        ("redirect_uri", "javascript:alert(1)"),
        ("redirect_uri", ""),
        ("client_id", "nobody"),
        ("client_id", "<script>"),
        ("client_id", "ci-runner"),
    ] {
        let answer = site.get(site.authorize_url(&[change])).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{change:?}");
        assert!(answer.headers().get(LOCATION).is_none());
        assert!(!answer.text().await.unwrap().contains("<script"));
    }
    let twice = format!("{}&redirect_uri=http://127.0.0.1:1/", site.authorize_url(&[]));
    assert_eq!(site.get(twice).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_page_shows_the_demo_users_and_refuses_wrong_passwords() {
    let mut site = Site::start().await;
    let page = site.get(site.authorize_url(&[])).await.text().await.unwrap();
    assert!(page.contains("lovelace") && page.contains("grace") && !page.contains("<script"));
    let ticket = ticket(&page);
    for (name, password) in [("ada", "hopper"), ("nobody", "lovelace"), ("<b>", "\"'>"), ("", "")] {
        let answer = site.post("/login", &[("ticket", &ticket), ("username", name), ("password", password)]).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.text().await.unwrap().contains("role=\"alert\""));
    }
    let answer = site.post("/login", &[("ticket", &ticket), ("action", "cancel")]).await;
    assert_eq!(param(&location(&answer), "error").as_deref(), Some("access_denied"));
    let form = [("ticket", ticket.as_str()), ("username", "ada"), ("password", "lovelace")];
    assert_eq!(site.post("/login", &form).await.status(), StatusCode::BAD_REQUEST, "a ticket is good for one answer");
}

#[tokio::test]
async fn passwords_cannot_be_tried_without_end() {
    let mut site = Site::start().await;
    let ticket = ticket(&site.get(site.authorize_url(&[])).await.text().await.unwrap());
    for _ in 0..61 {
        site.post("/login", &[("ticket", ticket.as_str()), ("username", "ada"), ("password", "wrong")]).await;
    }
    let form = [("ticket", ticket.as_str()), ("username", "ada"), ("password", "lovelace")];
    assert_eq!(site.post("/login", &form).await.status(), StatusCode::OK, "the right one comes too late");
}

#[tokio::test]
async fn a_sign_in_page_belongs_to_one_browser() {
    let mut site = Site::start().await;
    let ticket = ticket(&site.get(site.authorize_url(&[])).await.text().await.unwrap());
    site.cookies = "postern_demo_browser=other".into();
    let form = [("ticket", ticket.as_str()), ("username", "ada"), ("password", "lovelace")];
    assert_eq!(site.post("/login", &form).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_signed_in_browser_is_not_asked_again_unless_the_client_insists() {
    let mut site = Site::start().await;
    site.code().await;
    for (change, asked) in [(("prompt", "none"), false), (("prompt", ""), false), (("prompt", "login"), true)] {
        let answer = site.get(site.authorize_url(&[change])).await;
        assert_eq!(answer.status() == StatusCode::OK, asked, "{change:?}");
    }
}

#[tokio::test]
async fn refresh_tokens_rotate_and_a_reuse_ends_the_family() {
    let mut site = Site::start().await;
    let code = site.code().await;
    let first = site.redeem(&code, &[]).await.unwrap();
    let second = site.refresh(text(&first, "refresh_token")).await.unwrap();
    let third = site.refresh(text(&second, "refresh_token")).await.unwrap();
    let id = site.verify(text(&third, "id_token"), "JWT", "postern").await;
    assert!(id.get("nonce").is_none() && id["auth_time"].is_u64());

    assert_eq!(site.refresh(text(&first, "refresh_token")).await.unwrap_err(), "invalid_grant");
    assert_eq!(site.refresh(text(&third, "refresh_token")).await.unwrap_err(), "invalid_grant", "the family ended");
    for junk in ["", ".", "a.b", "no-dot"] {
        assert!(site.refresh(junk).await.is_err());
    }
}

#[tokio::test]
async fn without_offline_access_there_is_no_refresh_token() {
    let mut site = Site::start().await;
    let back = site.sign_in(&[("scope", "openid")]).await;
    let tokens = site.redeem(&param(&back, "code").unwrap(), &[]).await.unwrap();
    assert!(tokens.get("refresh_token").is_none());
    let id = site.verify(text(&tokens, "id_token"), "JWT", "postern").await;
    assert!(id.get("email").is_none() && id.get("name").is_none());
}

#[tokio::test]
async fn revocation_ends_the_family_and_only_the_clients_own() {
    let mut site = Site::start().await;
    let code = site.code().await;
    let tokens = site.redeem(&code, &[]).await.unwrap();
    let token = text(&tokens, "refresh_token");
    let other = [("token", token), ("client_id", "ci-runner"), ("client_secret", "ci-runner-demo-secret")];
    assert_eq!(site.post("/revoke", &other).await.status(), StatusCode::OK);
    let tokens = site.refresh(token).await.unwrap();
    let token = text(&tokens, "refresh_token");
    for _ in 0..2 {
        let answer = site.post("/revoke", &[("token", token), ("client_id", "postern")]).await;
        assert_eq!(answer.status(), StatusCode::OK, "also when there is nothing left to revoke");
    }
    assert_eq!(site.refresh(token).await.unwrap_err(), "invalid_grant");
    let access = text(&tokens, "access_token");
    let answer = site.post("/revoke", &[("token", access), ("client_id", "postern")]).await;
    assert_eq!(answer.json::<Value>().await.unwrap()["error"], "unsupported_token_type");
}

#[tokio::test]
async fn a_device_signs_in_by_code() {
    let mut site = Site::start().await;
    for (action, outcome) in [("approve", Ok("ada")), ("deny", Err("access_denied"))] {
        let form = [("client_id", "postern"), ("scope", "openid offline_access")];
        let begun: Value = site.post("/device_authorization", &form).await.json().await.unwrap();
        let poll =
            [("grant_type", DEVICE_GRANT), ("client_id", "postern"), ("device_code", text(&begun, "device_code"))];
        assert_eq!(site.token(&poll).await.unwrap_err(), "authorization_pending");

        let page = site.get(text(&begun, "verification_uri_complete")).await.text().await.unwrap();
        assert!(page.contains(text(&begun, "user_code")));
        let typed = text(&begun, "user_code").to_lowercase();
        let wrong = [("user_code", typed.as_str()), ("username", "ada"), ("password", "wrong")];
        assert!(site.post("/device", &wrong).await.text().await.unwrap().contains("role=\"alert\""));
        assert_eq!(site.token(&poll).await.unwrap_err(), "authorization_pending");

        let right = [("user_code", typed.as_str()), ("username", "ada"), ("password", "lovelace"), ("action", action)];
        assert!(site.post("/device", &right).await.text().await.unwrap().contains("You can close this page"));
        match (site.token(&poll).await, outcome) {
            (Ok(tokens), Ok(name)) => {
                let id = site.verify(text(&tokens, "id_token"), "JWT", "postern").await;
                assert_eq!(text(&id, "sub"), name);
                site.refresh(text(&tokens, "refresh_token")).await.unwrap();
            }
            (Err(error), Err(expected)) => assert_eq!(error, expected),
            (got, _) => panic!("{got:?}"),
        }
        assert_eq!(site.token(&poll).await.unwrap_err(), "invalid_grant", "a device code is good for one answer");
    }
}

#[tokio::test]
async fn a_service_account_gets_an_access_token_for_its_secret() {
    let mut site = Site::start().await;
    let url = format!("{}/token", site.issuer);
    let grant = [("grant_type", "client_credentials")];
    let request = site.http.post(&url).basic_auth("ci-runner", Some("ci-runner-demo-secret")).form(&grant);
    let tokens: Value = request.send().await.unwrap().json().await.unwrap();
    let access = site.verify(text(&tokens, "access_token"), "at+jwt", "urn:postern:demo").await;
    assert_eq!((text(&access, "sub"), text(&access, "client_id")), ("ci-runner", "ci-runner"));
    assert!(tokens.get("id_token").is_none() && tokens.get("refresh_token").is_none());

    let wrong = site.http.post(&url).basic_auth("ci-runner", Some("guess")).form(&grant).send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    assert!(wrong.headers().contains_key("www-authenticate"));
    for (form, error) in [
        (vec![("grant_type", "client_credentials"), ("client_id", "ci-runner")], "invalid_client"),
        (vec![("grant_type", "client_credentials"), ("client_id", "postern")], "unauthorized_client"),
        (vec![("grant_type", "password"), ("client_id", "postern")], "unsupported_grant_type"),
        (vec![("client_id", "postern")], "invalid_request"),
        (
            vec![("grant_type", "client_credentials"), ("client_id", "postern"), ("client_secret", "x")],
            "invalid_client",
        ),
    ] {
        assert_eq!(site.token(&form).await.unwrap_err(), error, "{form:?}");
    }
}

#[tokio::test]
async fn logout_asks_unless_the_hint_names_the_user() {
    let mut site = Site::start().await;
    let code = site.code().await;
    let tokens = site.redeem(&code, &[]).await.unwrap();
    let end = format!("{}/end_session", site.issuer);
    let still_in = site.authorize_url(&[("prompt", "none")]);

    let asked = site.get(&end).await;
    assert!(asked.status() == StatusCode::OK && asked.text().await.unwrap().contains("Do you want to sign out"));
    assert!(param(&location(&site.get(still_in.clone()).await), "code").is_some());

    let id_token = text(&tokens, "id_token");
    let with = |back: &str| {
        let params = [("id_token_hint", id_token), ("post_logout_redirect_uri", back), ("state", "x")];
        Url::parse_with_params(&end, params).unwrap()
    };
    let away = site.get(with("https://evil.example/")).await;
    assert_eq!(away.status(), StatusCode::OK, "signed out, but not sent elsewhere");
    assert_eq!(param(&location(&site.get(still_in).await), "error").as_deref(), Some("login_required"));
    let back = location(&site.get(with("http://127.0.0.1:5000/signed-out")).await);
    assert_eq!(back.as_str(), "http://127.0.0.1:5000/signed-out?state=x");
}

#[tokio::test]
async fn other_names_huge_bodies_and_other_content_are_refused() {
    let site = Site::start().await;
    let token = format!("{}/token", site.issuer);
    let rebound = site.http.get(format!("{}/jwks", site.issuer)).header(HOST, "evil.example").send().await.unwrap();
    assert_eq!(rebound.status(), StatusCode::MISDIRECTED_REQUEST);
    let huge = site.http.post(&token).form(&[("grant_type", "x".repeat(20_000))]).send().await.unwrap();
    assert_eq!(huge.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let json = site.http.post(&token).json(&serde_json::json!({})).send().await.unwrap();
    assert_eq!(json.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let page = site.http.get(&site.issuer).send().await.unwrap();
    assert!(page.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
}

#[tokio::test]
async fn it_binds_loopback_only() {
    for address in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"] {
        let refused = Provider::bind(Config::demo(address.parse().unwrap(), vec![])).await;
        assert!(matches!(refused.err(), Some(StartError::NotLoopback(_))), "{address}");
    }
}

#[test]
fn the_program_refuses_other_addresses_too() {
    let program = env!("CARGO_BIN_EXE_postern-demo-provider");
    let run = std::process::Command::new(program).args(["--listen", "0.0.0.0:0"]).output().unwrap();
    assert_eq!(run.status.code(), Some(1));
    assert!(run.stdout.is_empty() && String::from_utf8_lossy(&run.stderr).contains("not a loopback address"));
}

#[test]
fn the_program_says_when_it_is_ready_and_stops_when_asked() {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_postern-demo-provider")).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(ready["event"], "ready");
    assert!(ready["issuer"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(child.wait().unwrap().success());
}
