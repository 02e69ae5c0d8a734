//! Sessions, devices and their binding to each other: A13, A29, A48, A55.

use crate::Site;
use http::Request;
use postern_tests::device::exchange;
use postern_tests::forge::claims_of;
use postern_tests::process::Output;
use postern_tests::secrets;
use postern_tests::{App, Device};
use serde_json::json;

/// A13: a session token taken from one device is nothing on the connection of another, and the attempt is on record.
#[tokio::test]
async fn a13_a_session_token_on_another_devices_connection_is_refused_and_audited() {
    let site = Site::new().await;
    let (ada, ada_quic) = site.signed_in("ada").await;
    let (mallory, mallory_quic) = site.signed_in("mallory").await;
    assert_eq!(ada.get(&ada_quic, "wiki", "/").await.status, 200);
    let seen = site.wiki.requests().len();

    let reply = ada.get(&mallory_quic, "wiki", "/stolen").await;
    assert_eq!(reply.refusal(), (407, "token_wrong_device"));
    let decision = reply.problem().decision.expect("a refusal has a decision").to_string();
    let record = site.relay.audited("the refusal", |record| record["decision"] == json!(decision)).await;
    assert_eq!(record["code"], "token_wrong_device", "{record}");
    assert_eq!(record["device"], json!(mallory.id()), "the record names the device that tried: {record}");

    // The control side looks as closely: no list of apps, no renewal, no sign-out of somebody else's session.
    for (method, path) in [("GET", "/apps"), ("POST", "/enroll"), ("DELETE", "/session"), ("GET", "/events")] {
        let request = ada.request(method, "postern.relay", path).header("content-type", "application/json");
        let body = if method == "POST" { json!({"csr": mallory.csr()}).to_string() } else { String::new() };
        let reply = mallory_quic.send(request.body(body).unwrap()).await.unwrap();
        assert_eq!(reply.refusal(), (407, "token_wrong_device"), "{method} {path}");
    }
    assert_eq!(site.wiki.requests().len(), seen, "nothing reached the app");
    assert_eq!(ada.get(&ada_quic, "wiki", "/").await.status, 200, "the session of the device it belongs to lives on");
}

/// A29: another device's certificate does not go with one's own sign-in, whichever of the two is one's own.
#[tokio::test]
async fn a29_another_devices_certificate_with_ones_own_token_is_refused() {
    let site = Site::new().await;
    let (mut ada, _) = site.signed_in("ada").await;
    let (mallory, mallory_quic) = site.signed_in("mallory").await;

    // Mallory has got hold of Ada's certificate and key, and signs in as himself on it.
    let stolen = ada.connect(&site.relay).await;
    let own = site.provider.id_token("mallory", json!({}));
    for form in [ada.exchange_form(&own), mallory.exchange_form(&own)] {
        let reply = stolen.send(exchange(form)).await.unwrap();
        assert!(reply.status.is_client_error() && !reply.text().contains("access_token"), "{reply:?}");
    }
    // Nor does Ada's sign-in go with his device.
    let hers = site.provider.id_token("ada", json!({}));
    for form in [ada.exchange_form(&hers), mallory.exchange_form(&hers)] {
        let reply = mallory_quic.send(exchange(form)).await.unwrap();
        assert!(reply.status.is_client_error() && !reply.text().contains("access_token"), "{reply:?}");
    }
    // His own session token is nothing on her connection.
    assert_eq!(mallory.get(&stolen, "wiki", "/").await.refusal(), (407, "token_wrong_device"));
    // Two devices of one principal are two devices.
    let (second, _) = site.signed_in("ada").await;
    ada.token = second.token.clone();
    assert_eq!(ada.get(&stolen, "wiki", "/").await.refusal(), (407, "token_wrong_device"));
    assert_eq!(site.wiki.requests().len(), 0);
}

/// A29: a session that a revocation ended stays ended when the revocation is taken back: its token is not good again.
#[tokio::test]
async fn a29_a_restored_user_needs_a_new_sign_in_on_every_device() {
    let site = Site::new().await;
    let (stolen, stolen_quic) = site.signed_in("ada").await;
    site.relay.revoke("user", "ada").await.ok();
    assert_eq!(stolen.get(&stolen_quic, "wiki", "/").await.refusal(), (403, "principal_revoked"));
    site.relay.admin(&["restore", "user", "ada"]).await.ok();
    assert_eq!(stolen.get(&stolen_quic, "wiki", "/").await.refusal(), (407, "session_revoked"));
    let (new, new_quic) = site.signed_in("ada").await;
    assert_eq!(new.get(&new_quic, "wiki", "/").await.status, 200);
}

/// A08: a session token outlives the provider's token it came from by nothing: whoever is disabled at the provider is
/// out within `token_max_age`.
#[tokio::test]
async fn a08_a_session_token_ends_when_the_providers_token_is_too_old() {
    let lifetimes = |settings: postern_tests::Settings| {
        settings.set("provider", "token_max_age", "\"60s\"").set("session", "token_lifetime", "\"5m\"")
    };
    let site = Site::with(lifetimes).await;
    let (mut device, quic) = site.signed_in("ada").await;
    let issued = postern_tests::forge::now() - 50;
    device.exchange_as(&quic, &site.provider, "ada", json!({"iat": issued})).await;
    let end = claims_of(&device.token)["exp"].as_u64().unwrap();
    assert!(end <= issued + 60, "it ends {} s too late", end - issued - 60);
}

/// What calls itself a health check, and what does not.
const AGENTS: [&str; 5] = ["ELB-HealthChecker/2.0", "kube-probe/1.31", "GoogleHC/1.0", "Postern", "curl/8"];

/// A48: there is no path, method or header by which an app's request goes unverified.
#[tokio::test]
async fn a48_no_health_path_or_user_agent_escapes_verification() {
    let site = Site::new().await;
    let (device, quic) = site.signed_in("ada").await;
    for path in
        ["/health", "/healthz", "/livez", "/readyz", "/metrics", "/ping", "/favicon.ico", "/.well-known/postern"]
    {
        for agent in AGENTS {
            let request = Request::get(path).header("host", "wiki").header("user-agent", agent);
            let reply = quic.send(request.body("").unwrap()).await.unwrap();
            assert_eq!(reply.refusal(), (407, "token_missing"), "{path} {agent}");
        }
    }
    for method in ["OPTIONS", "HEAD", "TRACE", "PROPFIND", "DEBUG"] {
        let request = Request::builder().method(method).uri("/").header("host", "wiki").header("origin", "http://wiki");
        let reply = quic.send(request.body("").unwrap()).await.unwrap();
        assert!([405, 407].contains(&reply.status.as_u16()), "{method}: {reply:?}");
    }
    assert_eq!(site.wiki.requests().len(), 0);
    // The public listener knows its own four things and forwards nothing, whatever Host says.
    for host in ["wiki", "postern.relay", "wiki.localhost"] {
        for path in ["/apps", "/session", "/events", "/x"] {
            for agent in AGENTS {
                let request = Request::get(path).header("host", host).header("user-agent", agent);
                let reply = site.relay.public(request.body("").unwrap()).await;
                assert!(reply.status.is_client_error(), "{host} {path} {agent}: {reply:?}");
            }
        }
    }
    assert_eq!(site.wiki.requests().len(), 0);
    assert_eq!(device.get(&quic, "wiki", "/health").await.status, 200, "with a session it is a path like any other");
}

/// A55: what attackers write into fields that are logged stays one line, drives no terminal and carries no secret.
#[tokio::test]
async fn a55_hostile_text_in_logged_fields_is_escaped_and_no_secret_is_logged() {
    let site =
        Site::with(|settings| settings.set("limits", "requests_per_second", "5").set("limits", "burst", "50")).await;
    let hostile = "x\u{1b}[2J\u{1b}]0;owned\u{7}\r\n{\"seq\":1,\"forged\":true}\u{202e}\u{85}\u{2028}";
    let mut device = Device::new();
    let claims = json!({"nonce": device.nonce(), "name": hostile, "email": hostile, "acr": hostile, "groups": ["staff", hostile]});
    let subject = site.provider.id_token(&format!("ada{hostile}"), json!({"nonce": device.nonce()}));
    let reply = site.relay.post("/enroll", &device.enrolment(&subject)).await;
    assert_eq!(reply.refusal(), (401, "identity_token_invalid"), "no name of an identity holds control characters");
    let id_token = site.provider.id_token("ada", claims.clone());
    let mut enrolment = device.enrolment(&id_token);
    enrolment["device_name"] = hostile.into();
    let reply = site.relay.post("/enroll", &enrolment).await;
    device.accept(&reply);
    let quic = device.connect(&site.relay).await;
    let exchanged = site.provider.id_token("ada", claims);
    let reply = quic.send(exchange(device.exchange_form(&exchanged))).await.unwrap();
    device.token = reply.json()["access_token"].as_str().unwrap().to_owned();

    // What an administrator is shown, and what apps are told, has none of it either; a subject may hold what turns text.
    let turned = "eve\u{202e}";
    let mut eve = Device::new();
    eve.enroll_as(&site.relay, &site.provider, turned, json!({})).await;
    for list in
        [&["devices"][..], &["devices", "--json"], &["sessions"], &["sessions", "--json"], &["revoke", "user", turned]]
    {
        let Output { stdout, stderr, .. } = site.relay.admin(list).await;
        assert_eq!(hostile_in(&(stdout + &stderr)), None, "{list:?}");
    }
    assert_eq!(device.get(&quic, "wiki", "/").await.status, 200);
    let told = claims_of(site.wiki.last().header("x-postern-identity").unwrap());
    assert_eq!(hostile_in(told["name"].as_str().unwrap_or_default()), None, "{told}");

    let canary = postern_tests::forge::random(24);
    device.get(&quic, "wiki", &format!("/?token={canary}")).await;
    for (path, header) in [
        ("/%1b%5b2J%0d%0aforged", "user-agent"),
        ("/?q=%1b%0a", "referer"),
        ("/", "authorization"),
        ("/", "cookie"),
        ("/", "x-request-id"),
    ] {
        let request = device.request("GET", "wiki", path).header(header, format!("{canary}\u{85}é").as_bytes());
        quic.send(request.body("").unwrap()).await.unwrap();
    }
    // Refusals log more than successes do.
    for forged in [format!("Bearer {canary}\u{9b}31m"), format!("Bearer {canary}"), format!("Basic {canary}")] {
        let request = Request::get("/x").header("host", "wiki").header("proxy-authorization", forged.as_bytes());
        assert_eq!(quic.send(request.body("").unwrap()).await.unwrap().refusal(), (407, "token_invalid"));
    }
    site.relay
        .post("/enroll", &json!({"csr": canary, "token": format!("{canary}{hostile}"), "device_name": hostile}))
        .await;
    quic.send(exchange(device.exchange_form(&canary))).await.unwrap();
    // What a terminal obeys need not be a control character; this one is recorded as the path that was refused.
    let reversed = quic.raw(&device.head("GET /\u{202e}\u{2028}\u{85} HTTP/1.1", "wiki", "")).await;
    assert_eq!(postern_tests::client::status_of(&reversed), Some(400));
    site.relay.audited("a path that is none", |record| record["code"] == "path_ambiguous").await;
    quic.raw(format!("GET /\x1b[2J HTTP/1.1\r\nhost: {canary}\r\n\r\n").as_bytes()).await;

    site.relay.audited("all of it", |record| record["code"] == "token_invalid").await;
    let audit = std::fs::read_to_string(site.relay.audit_file()).unwrap();
    for text in [audit.clone(), site.relay.log()] {
        assert_eq!(hostile_in(&text), None, "a control character is logged: {text}");
        assert!(!text.lines().any(|line| line.starts_with("{\"seq\":1,\"forged\"")), "a line was forged");
        assert_eq!(secrets::secrets_in(text.as_bytes(), &[&canary, &device.token, &id_token]), [""; 0]);
    }
    assert!(audit.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    site.relay.admin(&["audit", "verify"]).await.ok();
}

/// A character that drives a terminal or turns text around.
fn hostile_in(text: &str) -> Option<char> {
    text.chars().find(|c| c.is_control() && *c != '\n' || "\u{202e}\u{2028}".contains(*c))
}

/// A55: neither logs, nor audit, nor store, nor what an administrator is shown, hold a token or a key.
#[tokio::test]
async fn a55_tokens_leave_no_trace_in_the_relays_files() {
    let mut site = Site::with(|settings| settings.app(App::http("gone", "127.0.0.1:9".parse().unwrap()))).await;
    let (device, quic) = site.signed_in("ada").await;
    assert_eq!(device.get(&quic, "wiki", "/").await.status, 200);
    assert_eq!(device.get(&quic, "gone", "/").await.refusal(), (502, "upstream_unreachable"));
    let verified = site.relay.admin(&["audit", "verify"]).await.ok();
    site.relay.stop().await.ok();
    let canaries = [device.token.as_str()];
    let mut found = secrets::find(&site.relay.dir.join("state"), &canaries);
    found.extend(secrets::find(&site.world.logs(), &canaries));
    found.extend(secrets::secrets_in(format!("{verified:?}").as_bytes(), &canaries));
    assert_eq!(found, [""; 0]);
}
