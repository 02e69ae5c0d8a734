//! The authorization endpoint and its pages, as browsers and attackers use them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod site;

use reqwest::StatusCode;
use reqwest::header::LOCATION;
use site::{Site, location, param, text, ticket};
use url::Url;

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
