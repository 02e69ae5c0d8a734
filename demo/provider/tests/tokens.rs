//! The token endpoint, as agents and thieves use it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod site;

use reqwest::StatusCode;
use serde_json::Value;
use site::{DEVICE_GRANT, REDIRECT, Site, param, text};

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
