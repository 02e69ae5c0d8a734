//! A policy asks for a stronger sign-in: what the provider's classes (`acr`) are worth from end to end.

use crate::desk::{Desk, parameter};
use http::Request;
use postern_tests::client::http;
use postern_tests::device::exchange;
use postern_tests::{Browser, Device, Provider, eventually};
use serde_json::{Value, json};

/// The vault wants a hardware key; everything else any sign-in.
const POLICY: &str = r#"@id("all")
permit(principal, action, resource);

@id("strong")
@reason("The vault wants a sign-in with a hardware key.")
@acr_values("phrh phr")
forbid(principal, action, resource in AppGroup::"vault") unless { context has acr && ["phr", "phrh"].contains(context.acr) };
"#;

/// Lifetimes short enough that the session is renewed, and the provider's token with it, while the test runs.
async fn desk() -> Desk {
    let classes = json!({ "classes": { "ada": ["phr"] } });
    let short = |settings: postern_tests::Settings| {
        settings.set("session", "token_lifetime", "\"6s\"").set("provider", "token_max_age", "\"12s\"")
    };
    Desk::new(true, classes, |settings| short(settings.policy(POLICY))).await
}

/// The request waits until the person has signed in with what the provider counts as stronger, although it knows them
/// already, and goes through; so does every later one, also after renewals.
#[tokio::test]
async fn a_waiting_request_goes_through_after_a_stronger_sign_in() {
    let desk = desk().await;
    let mut browser = Browser::of("ada");
    desk.sign_in(&mut browser).await;
    let session = desk.session().await;
    let asked = desk.ask("vault");
    let url = desk.opened(1).await;
    assert_eq!(parameter(&url, "acr_values").as_deref(), Some("phrh phr"), "{url}");
    assert_eq!(parameter(&url, "max_age"), None, "nobody asked for a fresh one");
    let refused = desk.relay.audited("the refusal", |record| record["code"] == "step_up_required").await;
    assert_eq!((&refused["app"], &refused["policies"]), (&json!("vault"), &json!(["strong"])), "{refused}");
    assert_eq!((&refused["step_up"], &refused["context"]["acr"]), (&json!({"acr_values": "phrh phr"}), &Value::Null));
    assert!(!asked.is_finished(), "it waits");
    let page = browser.sign_in(&url).await;
    assert_eq!(page.reply.status, 200, "{page:?}");
    let reply = asked.await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(desk.session().await, session, "it is the same session");
    let vault = |record: &Value| record["app"] == "vault" && record["result"] == "allow";
    assert_eq!(desk.relay.audited("the allow", vault).await["context"]["acr"], "phr");

    let refreshes = desk.provider.counts().await["refresh"].as_u64().unwrap();
    eventually("the provider's token is renewed", async || {
        (desk.provider.counts().await["refresh"].as_u64().unwrap() > refreshes + 1).then_some(())
    })
    .await;
    assert_eq!(desk.agent.get("vault", "/").await.status, 200, "a renewed session is as strong as before");
    assert_eq!(desk.all_opened().len(), 1, "and nobody was asked again");
}

/// A sign-in that the provider gives, but not as strong as it was asked for, opens nothing and ends nothing.
#[tokio::test]
async fn a_sign_in_that_is_no_stronger_is_said_to_be_so() {
    let desk = desk().await;
    desk.sign_in(&mut Browser::of("eve")).await;
    let asked = desk.ask("vault");
    let page = Browser::of("eve").sign_in(&desk.opened(1).await).await;
    assert!(page.reply.status.is_client_error() && page.reply.text().contains("strongly"), "{page:?}");
    let reply = asked.await.unwrap();
    assert_eq!(reply.refusal(), (401, "sign_in_failed"));
    assert!(reply.problem().detail.unwrap().contains("as strongly as it was asked to"), "{}", reply.text());
    assert_eq!(desk.agent.get("wiki", "/").await.status, 200, "what she may do she still may");
    assert_eq!(desk.upstreams[1].requests().len(), 0);
}

/// On the wire it is RFC 9470, so whoever knows that can do what the agent does.
#[tokio::test]
async fn the_refusal_on_the_wire_is_rfc_9470s_and_what_it_asks_for_is_enough() {
    let desk = desk().await;
    let (mut device, mut browser) = (Device::new(), Browser::of("ada"));
    let token = id_token(&desk.provider, &mut browser, &device, &[]).await;
    device.accept(&desk.relay.post("/enroll", &device.enrolment(&token)).await);
    let quic = device.connect(&desk.relay).await;
    let weak = id_token(&desk.provider, &mut browser, &device, &[]).await;
    device.token = session_token(&quic.send(exchange(device.exchange_form(&weak))).await.unwrap());
    let refused = device.get(&quic, "vault", "/").await;
    assert_eq!(refused.refusal(), (407, "step_up_required"));
    let challenge = refused.header("proxy-authenticate").to_owned();
    assert_eq!(challenge, "Bearer error=\"insufficient_user_authentication\", acr_values=\"phrh phr\"");
    assert_eq!(refused.problem().reason.as_deref(), Some("The vault wants a sign-in with a hardware key."));

    let values = challenge.split("acr_values=").nth(1).unwrap().trim_matches('"').to_owned();
    let strong = id_token(&desk.provider, &mut browser, &device, &[("acr_values", &values)]).await;
    device.token = session_token(&quic.send(exchange(device.exchange_form(&strong))).await.unwrap());
    assert_eq!(device.get(&quic, "vault", "/").await.status, 200);
}

fn session_token(granted: &postern_tests::Reply) -> String {
    assert_eq!(granted.status, 200, "{}", granted.text());
    granted.json()["access_token"].as_str().unwrap().to_owned()
}

/// An ID token by authorization code, bound to the device's key.
async fn id_token(provider: &Provider, browser: &mut Browser, device: &Device, more: &[(&str, &str)]) -> String {
    const BACK: &str = "http://127.0.0.1:9/callback";
    let mut url = provider.issuer.join("/auth").unwrap();
    let nonce = device.nonce();
    url.query_pairs_mut()
        .extend_pairs([("client_id", "postern"), ("response_type", "code"), ("scope", "openid"), ("state", "s")])
        .extend_pairs([("redirect_uri", BACK), ("nonce", &nonce)])
        .extend_pairs(more);
    let back = browser.sign_in_until(url.as_str(), |url| url.path() == "/callback").await;
    let code = parameter(back.as_str(), "code").unwrap_or_else(|| panic!("no code in {back}"));
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("grant_type", "authorization_code"), ("client_id", "postern"), ("redirect_uri", BACK)])
        .append_pair("code", &code)
        .finish();
    let request = Request::post("/token").header("host", provider.issuer.authority());
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(form).unwrap();
    let answer = http(provider.address(), request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["id_token"].as_str().unwrap().to_owned()
}
