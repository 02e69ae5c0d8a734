//! Control requests through the real handler: renewal, sign-out, apps, events, and revocation between them.

use super::*;
use crate::clock::Clock;
use crate::revoke::{change, restore, revoke};
use crate::testing::{TestDevice, TestRelay};
use postern_protocol::DecisionId;
use postern_protocol::control::{Posture, TYPE_ACCESS_TOKEN, TYPE_ID_TOKEN};
use postern_relay_core::principal::PrincipalKey;
use serde_json::json;

async fn apps(world: &TestRelay, device: &TestDevice) -> crate::testing::Reply {
    world.control(device, Method::GET, APPS, "").await
}

fn principal(world: &TestRelay, subject: &str) -> Target {
    Target::Principal(PrincipalKey::new(&world.idp.issuer, subject).unwrap())
}

#[tokio::test]
async fn a_session_is_renewed_with_the_groups_of_the_token_presented_now() {
    let world = TestRelay::new().await;
    let mut device = world.signed_in("ada").await;
    assert_eq!(apps(&world, &device).await.ok()["apps"][0]["allowed"], true);
    let mut claims = world.idp.claims("ada");
    claims.as_object_mut().unwrap().remove("groups");
    let reply = world.renew(&mut device, &world.idp.sign(&claims)).await.ok();
    assert_eq!(reply["principal"]["groups"], json!([]));
    assert_eq!(apps(&world, &device).await.ok()["apps"][0]["allowed"], false, "an absent claim is no group");
    assert_eq!(reply["expires_in"], 300);
    assert_eq!(reply["issued_token_type"], TYPE_ACCESS_TOKEN);
}

/// A29: a session is renewed by its own principal on its own device.
#[tokio::test]
async fn a29_a_session_of_another_device_or_principal_is_not_renewed() {
    let world = TestRelay::new().await;
    let (ada, eve) = (world.signed_in("ada").await, world.signed_in("eve").await);
    let post = |device: &TestDevice, form: String| {
        let world = &world;
        let token = device.token.clone();
        let session = device.session.clone();
        let device = TestDevice {
            key: rcgen::KeyPair::generate().unwrap(),
            salt: device.salt.clone(),
            certificate: device.certificate.clone(),
            session,
            token,
        };
        async move { world.control(&device, Method::POST, SESSION, form).await }
    };
    let token_of = |subject: &str| world.idp.sign(&world.idp.claims(subject));
    // Eve's device, own token, Ada's session.
    let form = ada.exchange(&token_of("eve"), TYPE_ID_TOKEN);
    assert_eq!(post(&eve, form).await.code(), Code::SessionUnknown);
    // Eve's device with Ada's token and session.
    let form = ada.exchange(&token_of("ada"), TYPE_ID_TOKEN);
    assert_eq!(post(&eve, form).await.code(), Code::SessionUnknown);
    // Ada's device and session with Eve's token.
    let form = ada.exchange(&token_of("eve"), TYPE_ID_TOKEN);
    assert_eq!(post(&ada, form).await.code(), Code::SessionUnknown);
    // A session that never was.
    let mut stray = world.signed_in("ada").await;
    stray.session = Some(postern_protocol::SessionId::from_random(7));
    assert_eq!(world.renew(&mut stray, &token_of("ada")).await.code(), Code::SessionUnknown);
    // Eve's token on Ada's connection.
    let reply = world.control_as(&ada, eve.token.as_deref(), Method::GET, APPS, "").await;
    assert_eq!(reply.code(), Code::TokenWrongDevice);
}

#[tokio::test]
async fn a_stale_token_renews_nothing() {
    let world = TestRelay::new().await;
    let mut device = world.signed_in("ada").await;
    let now = Clock::new().now().seconds();
    let mut claims = world.idp.claims("ada");
    claims["iat"] = (now - 10 * 60).into();
    world.renew(&mut device, &world.idp.sign(&claims)).await.ok();
    claims["iat"] = (now - 16 * 60).into();
    assert_eq!(world.renew(&mut device, &world.idp.sign(&claims)).await.code(), Code::IdentityTokenStale);
}

#[tokio::test]
async fn malformed_renewals_are_refused() {
    let world = TestRelay::new().await;
    let device = world.signed_in("ada").await;
    let good = device.exchange(&world.idp.sign(&world.idp.claims("ada")), TYPE_ID_TOKEN);
    for (form, code) in [
        (String::new(), Code::RequestInvalid),
        (good.replace("token-exchange", "password"), Code::RequestInvalid),
        (good.replace("id_token", "saml2"), Code::RequestInvalid),
        (format!("{good}&posture=%7B%7D"), Code::RequestInvalid),
        (good.replace("linux", &"l".repeat(200)), Code::RequestInvalid),
        (format!("{good}&x={}", "y".repeat(70_000)), Code::BodyTooLarge),
    ] {
        assert_eq!(world.control(&device, Method::POST, SESSION, form).await.code(), code);
    }
    world.control(&device, Method::POST, SESSION, good).await.ok();
}

/// A revocation holds on the very next request, and what it ended stays ended.
#[tokio::test]
async fn a_revocation_is_effective_on_the_next_request() {
    for what in ["session", "device", "user"] {
        let mut world = TestRelay::new().await;
        let mut device = world.signed_in("ada").await;
        apps(&world, &device).await.ok();
        let (target, code) = match what {
            "session" => (Target::Session(device.session.clone().unwrap()), Code::SessionRevoked),
            "device" => (Target::Device(device.verified().id().clone()), Code::DeviceRevoked),
            _ => (principal(&world, "ada"), Code::PrincipalRevoked),
        };
        let receipt = revoke(&world.relay, target.clone(), Event::Revocation, "test").await.unwrap();
        assert_eq!((receipt.sessions_ended, receipt.live), (1, true));
        assert_eq!(apps(&world, &device).await.code(), code, "{what}");
        let fresh = world.idp.sign(&world.idp.claims("ada"));
        assert_eq!(world.renew(&mut device, &fresh).await.code(), code, "{what}");
        world.restart().await;
        assert_eq!(apps(&world, &device).await.code(), code, "{what}, after a restart");
        assert_eq!(world.renew(&mut device, &fresh).await.code(), code, "{what}, after a restart");
        let again = world.enrol(&device.enrolment(&world.idp.id_token("ada", &device))).await;
        if what == "session" {
            device.take(&again.ok());
            world.renew(&mut device, &fresh).await.ok();
        } else {
            assert_eq!(again.code(), code, "a new sign-in does not undo it");
        }
    }
}

#[tokio::test]
async fn a_restored_user_signs_in_anew() {
    let world = TestRelay::new().await;
    let mut device = world.signed_in("ada").await;
    let target = principal(&world, "ada");
    assert!(!restore(&world.relay, target.clone()).await.unwrap(), "there was nothing to restore");
    revoke(&world.relay, target.clone(), Event::Revocation, "test").await.unwrap();
    assert!(restore(&world.relay, target).await.unwrap());
    let fresh = world.idp.sign(&world.idp.claims("ada"));
    assert_eq!(world.renew(&mut device, &fresh).await.code(), Code::SessionRevoked, "the old session stays ended");
    let ended = Target::Session(device.session.clone().unwrap());
    assert_eq!(restore(&world.relay, ended).await.unwrap_err().code, Code::RequestInvalid);
    let reply = world.enrol(&device.enrolment(&world.idp.id_token("ada", &device))).await.ok();
    device.take(&reply);
    world.renew(&mut device, &fresh).await.ok();
    let events: Vec<_> = world.audit().iter().map(|record| record["event"].clone()).collect();
    assert!(events.contains(&json!("revocation")) && events.contains(&json!("restoration")));
}

/// A restored user does not get back what the revocation ended: a token from before stays refused.
#[tokio::test]
async fn a_token_from_before_a_revocation_stays_refused_after_the_restoration() {
    for of_device in [false, true] {
        let mut world = TestRelay::new().await;
        let device = world.signed_in("ada").await;
        let device_id = device.verified().id().clone();
        let target = if of_device { Target::Device(device_id) } else { principal(&world, "ada") };
        revoke(&world.relay, target.clone(), Event::Revocation, "test").await.unwrap();
        assert!(restore(&world.relay, target).await.unwrap());
        assert_eq!(apps(&world, &device).await.code(), Code::SessionRevoked);
        world.restart().await;
        assert_eq!(apps(&world, &device).await.code(), Code::SessionRevoked);
    }
}

/// Somebody disabled at the provider is out within the age that a token may have, not a session token's life later.
#[tokio::test]
async fn a_session_token_does_not_outlive_the_age_of_the_providers_token() {
    let world = TestRelay::new().await;
    let mut device = world.signed_in("ada").await;
    let mut claims = world.idp.claims("ada");
    claims["iat"] = (Clock::new().now().seconds() - 13 * 60).into();
    let reply = world.renew(&mut device, &world.idp.sign(&claims)).await.ok();
    let seconds = reply["expires_in"].as_u64().unwrap();
    assert!((110..=120).contains(&seconds), "{seconds}");
    let token = world.relay.verifier.verify(device.token.as_deref().unwrap()).unwrap();
    assert!(token.expires() <= Clock::new().now().plus(std::time::Duration::from_secs(120)));
}

/// Some providers give no ID token on refresh: then a person's access token proves that they are still welcome.
#[tokio::test]
async fn a_persons_access_token_renews_their_session() {
    let world = TestRelay::new().await;
    let device = world.signed_in("ada").await;
    let form = device.exchange(&world.idp.access_token("ada"), TYPE_ACCESS_TOKEN);
    world.control(&device, Method::POST, SESSION, form).await.ok();
    let form = device.exchange(&world.idp.access_token("eve"), TYPE_ACCESS_TOKEN);
    assert_eq!(world.control(&device, Method::POST, SESSION, form).await.code(), Code::SessionUnknown);
}

#[tokio::test]
async fn sign_out_ends_the_session_at_once() {
    let world = TestRelay::new().await;
    let mut device = world.signed_in("ada").await;
    let reply = world.control(&device, Method::DELETE, SESSION, "").await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
    assert_eq!(apps(&world, &device).await.code(), Code::SessionRevoked);
    let fresh = world.idp.sign(&world.idp.claims("ada"));
    assert_eq!(world.renew(&mut device, &fresh).await.code(), Code::SessionRevoked);
    assert!(world.audit().iter().any(|record| record["event"] == "sign_out" && record["result"] == "allow"));
}

#[tokio::test]
async fn a_sign_out_says_why_and_the_log_keeps_it() {
    let world = TestRelay::new().await;
    for (query, reason) in
        [("", "signed_out"), ("?reason=signed_out", "signed_out"), ("?reason=refresh_refused", "refresh_refused")]
    {
        let device = world.signed_in("ada").await;
        for bad in ["?reason=", "?reason=bored", "?reason=signed_out&reason=signed_out"] {
            let reply = world.control(&device, Method::DELETE, &format!("{SESSION}{bad}"), "").await;
            assert_eq!(reply.code(), Code::RequestInvalid, "{bad}");
        }
        apps(&world, &device).await.ok();
        let reply = world.control(&device, Method::DELETE, &format!("{SESSION}{query}"), "").await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT);
        let session = json!(device.session.as_ref().unwrap().as_str());
        let audit = world.audit();
        let record = audit.iter().find(|record| record["event"] == "sign_out" && record["session"] == session);
        let detail = record.unwrap()["detail"].as_str().unwrap();
        assert!(detail.contains(reason), "{query}: {detail}");
    }
}

/// What the device had when the provider refused is worth nothing; a sign-in since is.
#[tokio::test]
async fn a_lapsed_session_goes_on_with_a_new_sign_in_and_not_with_an_old_one() {
    let world = TestRelay::new().await;
    let mut device = world.signed_in("ada").await;
    let session = device.session.clone().unwrap();
    let old = device.token.clone().unwrap();
    let (now, lapsed) = (world.relay.clock.now(), || world.relay.snapshot.load().revocations.lapsed(&session).unwrap());
    let lapse = |revocations: &mut postern_relay_core::revocation::Revocations| {
        revocations.lapse(session.clone(), now);
    };
    change(&world.relay.snapshot, lapse);
    assert_eq!(apps(&world, &device).await.code(), Code::TokenExpired);
    let mut claims = world.idp.claims("ada");
    claims["iat"] = (now.seconds() - 1).into();
    assert_eq!(world.renew(&mut device, &world.idp.sign(&claims)).await.code(), Code::IdentityTokenStale);
    let eves = world.idp.sign(&world.idp.claims("eve"));
    assert_eq!(world.renew(&mut device, &eves).await.code(), Code::SessionUnknown, "nobody else's sign-in");
    assert!(!lapsed().mended);
    claims["iat"] = now.seconds().into();
    world.renew(&mut device, &world.idp.sign(&claims)).await.ok();
    assert!(lapsed().mended);
    apps(&world, &device).await.ok();
    let before = world.control_as(&device, Some(&old), Method::GET, APPS, "").await;
    assert_eq!(before.code(), Code::TokenExpired, "a token of before stays void");
}

#[tokio::test]
async fn a_posture_report_replaces_the_last_and_is_recorded_when_it_differs() {
    let world = TestRelay::new().await;
    let device = world.signed_in("ada").await;
    let session = device.session.clone().unwrap();
    let text = |firewall: bool| {
        let report = Posture { os: "linux".into(), firewall: Some(firewall), ..Posture::default() };
        serde_json::to_string(&report).unwrap()
    };
    let count = || world.audit().iter().filter(|record| record["event"] == "posture").count();
    // The exchange brought one, the next exchange brings the same.
    assert_eq!(count(), 1);
    let mut device = device;
    world.renew(&mut device, &world.idp.sign(&world.idp.claims("ada"))).await.ok();
    assert_eq!(count(), 1);
    let told = world.audit().into_iter().find(|record| record["event"] == "posture").unwrap();
    assert_eq!(told["session"], session.as_str());
    assert!(told["detail"].as_str().unwrap().contains("\"os_version\":\"12\""), "{told}");
    for (report, records) in [(text(true), 2), (text(true), 2), (text(false), 3), (text(true), 4)] {
        let before = world.relay.clock.now();
        let reply = world.control(&device, Method::POST, POSTURE, report.clone()).await;
        assert_eq!((reply.status, reply.body.len()), (StatusCode::NO_CONTENT, 0));
        let kept = world.relay.postures.get(&session).unwrap();
        assert_eq!(serde_json::to_string(&kept.posture).unwrap(), report);
        assert!(kept.at >= before, "its age counts from the newest report");
        assert_eq!(count(), records);
    }
    for bad in ["", "[]", "{\"os\":1}", "\u{0}"] {
        assert_eq!(world.control(&device, Method::POST, POSTURE, bad).await.code(), Code::RequestInvalid, "{bad}");
    }
    assert_eq!(world.relay.postures.get(&session).unwrap().posture.firewall, Some(true), "a bad report replaces none");
    assert_eq!(world.control_as(&device, None, Method::POST, POSTURE, text(true)).await.code(), Code::TokenMissing);
    assert_eq!(world.control(&device, Method::GET, POSTURE, "").await.code(), Code::MethodNotAllowed);
    let eve = world.signed_in("eve").await;
    let reply = world.control_as(&eve, device.token.as_deref(), Method::POST, POSTURE, text(false)).await;
    assert_eq!(reply.code(), Code::TokenWrongDevice);
}

#[tokio::test]
async fn events_begin_with_alive_and_end_with_the_revocation() {
    let world = TestRelay::new().await;
    let device = world.signed_in("ada").await;
    let target = Target::Session(device.session.clone().unwrap());
    let response = world.open(&device, device.token.as_deref(), Method::GET, EVENTS, "").await;
    let mut body = response.into_body();
    let mut next = async || {
        let frame = body.frame().await?.unwrap().into_data().unwrap();
        Some(serde_json::from_slice::<RelayEvent>(&frame).unwrap())
    };
    assert_eq!(next().await, Some(RelayEvent::Alive));
    // What a revocation cuts is told before the revocation itself, and heard although it is in force.
    change(&world.relay.snapshot, |revocations| {
        revocations.insert(target.clone());
    });
    let cut = RelayEvent::Cut {
        app: "db".parse().unwrap(),
        decision: DecisionId::new(Clock::new().now(), 1),
        code: Code::SessionRevoked,
        reason: None,
        fix: None,
        step_up: None,
    };
    for event in [cut.clone(), cut.clone()] {
        world.relay.events.send(device.session.as_ref().unwrap(), event);
        assert_eq!(next().await.as_ref(), Some(&cut));
    }
    revoke(&world.relay, target, Event::Revocation, "test").await.unwrap();
    assert_eq!(next().await, Some(RelayEvent::Revoked { code: Code::SessionRevoked }));
    assert_eq!(next().await, None, "a revoked session hears nothing more");
}

#[tokio::test]
async fn without_a_session_control_answers_nothing() {
    let world = TestRelay::new().await;
    let device = world.signed_in("ada").await;
    for (method, path) in
        [(Method::GET, APPS), (Method::GET, EVENTS), (Method::DELETE, SESSION), (Method::POST, ENROLL)]
    {
        let reply = world.control_as(&device, None, method.clone(), path, "").await;
        assert_eq!(reply.code(), Code::TokenMissing, "{method} {path}");
        let reply = world.control_as(&device, Some("x.y.z"), method.clone(), path, "").await;
        assert_eq!(reply.code(), Code::TokenInvalid, "{method} {path}");
    }
    for (method, path, code) in [
        (Method::PUT, SESSION, Code::MethodNotAllowed),
        (Method::POST, APPS, Code::MethodNotAllowed),
        (Method::GET, "/", Code::NotFound),
        (Method::GET, "/health", Code::NotFound),
        (Method::GET, "/session/", Code::NotFound),
    ] {
        let reply = world.control(&device, method.clone(), path, "").await;
        assert_eq!(reply.code(), code, "{method} {path}");
        let decision = reply.problem().decision.unwrap();
        assert!(world.audit().iter().any(|record| record["decision"] == decision.as_str()), "{method} {path}");
    }
}

#[tokio::test]
async fn a_draining_relay_starts_nothing() {
    let world = TestRelay::new().await;
    let mut device = world.signed_in("ada").await;
    world.relay.draining.cancel();
    let fresh = world.idp.sign(&world.idp.claims("ada"));
    assert_eq!(world.renew(&mut device, &fresh).await.code(), Code::Draining);
    let other = TestDevice::new();
    assert_eq!(world.enrol(&other.enrolment(&world.idp.id_token("ada", &other))).await.code(), Code::Draining);
    assert_eq!(world.public(Method::GET, "/health", "").await.status, 503);
}

#[tokio::test]
async fn control_messages_are_limited_per_device() {
    let world = TestRelay::new().await;
    let device = world.signed_in("ada").await;
    let mut codes = Vec::new();
    for _ in 0..150 {
        codes.push(world.control(&device, Method::POST, SESSION, "").await.code());
    }
    assert!(codes.contains(&Code::RateLimited) && codes.contains(&Code::RequestInvalid));
}
