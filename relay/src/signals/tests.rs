//! Security events at the public listener's router, of a transmitter that has keys of its own.

use super::*;
use crate::clock::Clock;
use crate::revoke::change;
use crate::testing::{Idp, Reply, TestDevice, TestRelay, ec_key, header, sign};
use http::Method;
use postern_relay_core::access::{Action, decide};
use postern_relay_core::revocation::Target;
use serde_json::{Value, json};
use std::time::Duration;

const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const SECRET: &str = "transmitter-secret-canary";

/// A relay and its transmitter `mdm`; `other` is a second one, with a secret.
struct World {
    relay: TestRelay,
    mdm: Idp,
    _secret: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let mdm = Idp::start().await;
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let configured = format!(
            "[[signals]]\nname = \"mdm\"\nissuer = \"{0}\"\njwks_uri = \"{0}/jwks\"\naudience = \"urn:relay\"\n\
             [[signals]]\nname = \"other\"\nissuer = \"urn:other\"\njwks_uri = \"{0}/jwks\"\naudience = \"urn:relay\"\n\
             authorization = \"{1}\"\n",
            mdm.issuer,
            secret.display()
        );
        Self { relay: TestRelay::with(&configured).await, mdm, _secret: dir }
    }

    fn event(&self, kind: &str, sub_id: &Value, event: &Value) -> Value {
        let now = Clock::new().now();
        let jti = postern_protocol::id::hex(&crate::clock::random::<8>().unwrap());
        json!({
            "iss": self.mdm.issuer, "aud": "urn:relay", "iat": now.seconds(), "jti": jti,
            "sub_id": sub_id, "events": { format!("{CAEP}{kind}"): event },
        })
    }

    fn signed(&self, claims: &Value) -> String {
        sign(&self.mdm.key, &header("k1", Some("secevent+jwt")), claims)
    }

    async fn push(&self, token: &str) -> Reply {
        self.push_with(token, &[("content-type", "application/secevent+jwt")]).await
    }

    async fn push_with(&self, token: &str, headers: &[(&'static str, &str)]) -> Reply {
        self.relay.public_with(Method::POST, "/ssf/events", headers, token.to_owned()).await
    }

    /// Pushes one that is taken.
    async fn tell(&self, kind: &str, sub_id: Value, event: Value) {
        let reply = self.push(&self.signed(&self.event(kind, &sub_id, &event))).await;
        assert_eq!((reply.status, reply.body.len()), (StatusCode::ACCEPTED, 0), "{:?}", reply.body);
    }

    fn user(&self, subject: &str) -> Value {
        json!({ "format": "iss_sub", "iss": self.relay.idp.issuer, "sub": subject })
    }

    /// What `GET /` of the app `wiki` would be told now.
    fn decided(&self, device: &TestDevice) -> Option<Code> {
        let relay = &self.relay.relay;
        let session = relay.verifier.verify(device.token.as_ref().unwrap()).unwrap();
        let request = postern_relay_core::access::Request {
            id: relay.clock.decision_id(),
            app: "wiki".parse().unwrap(),
            action: Action::Request { method: "GET".into(), path: "/".into() },
            host: "wiki".into(),
            source: "192.0.2.1".parse().unwrap(),
            within_rate: true,
            posture: relay.postures.get(session.session()),
        };
        decide(&device.verified(), &session, &request, &relay.snapshot.load(), relay.clock.now()).cause
    }

    async fn apps(&self, device: &TestDevice) -> Reply {
        self.relay.control(device, Method::GET, "/apps", "").await
    }

    fn records(&self) -> Vec<Value> {
        self.relay.audit().into_iter().filter(|record| record["event"] == "security_event").collect()
    }
}

fn opaque(id: &str) -> Value {
    json!({ "format": "opaque", "id": id })
}

#[tokio::test]
async fn sessions_end_by_user_session_and_credential_and_by_nothing_older() {
    let mut world = World::new().await;
    let (ada, eve) = (world.relay.signed_in("ada").await, world.relay.signed_in("eve").await);
    world.tell("session-revoked", json!({ "format": "email", "email": "ada@corp.example" }), json!({})).await;
    let past = Clock::new().now().minus(Duration::from_secs(3600)).seconds();
    world.tell("session-revoked", world.user("ada"), json!({ "event_timestamp": past })).await;
    let create = json!({ "change_type": "create", "credential_type": "password" });
    world.tell("credential-change", world.user("ada"), create).await;
    world.tell("a-kind-of-tomorrow", world.user("ada"), json!({})).await;
    assert!(world.apps(&ada).await.status.is_success(), "neither e-mail, nor what is past, nor a new credential");
    world.tell("session-revoked", opaque(ada.session.as_ref().unwrap().as_str()), json!({})).await;
    assert_eq!(world.apps(&ada).await.code(), Code::SessionRevoked);
    assert!(world.apps(&eve).await.status.is_success());
    let update = json!({ "change_type": "update", "credential_type": "password" });
    world.tell("credential-change", world.user("eve"), update).await;
    assert_eq!(world.apps(&eve).await.code(), Code::SessionRevoked);
    world.relay.restart().await;
    assert_eq!(world.apps(&eve).await.code(), Code::SessionRevoked, "durable");
    let records = world.records();
    assert_eq!(records.len(), 6);
    assert!(records.iter().all(|record| record["result"] == "allow"));
    assert!(records[4]["detail"].as_str().unwrap().contains("session-revoked from mdm; sessions ended: 1"));
}

#[tokio::test]
async fn a_device_out_of_order_is_denied_until_it_is_in_order() {
    let mut world = World::new().await;
    let ada = world.relay.signed_in("ada").await;
    let id = opaque(ada.verified().id().as_str());
    let before = world.decided(&ada);
    assert_ne!(before, Some(Code::DeviceNotCompliant));
    let told = |status: &str, ago: u64| json!({ "current_status": status, "event_timestamp": Clock::new().now().seconds() - ago });
    world.tell("device-compliance-change", id.clone(), told("not-compliant", 100)).await;
    assert_eq!(world.decided(&ada), Some(Code::DeviceNotCompliant));
    let apps = world.apps(&ada).await.ok();
    assert_eq!(apps["apps"][0]["allowed"], false, "the session itself lives: {apps}");
    world.relay.restart().await;
    assert_eq!(world.decided(&ada), Some(Code::DeviceNotCompliant), "durable");
    world.tell("device-compliance-change", id.clone(), told("compliant", 200)).await;
    assert_eq!(world.decided(&ada), Some(Code::DeviceNotCompliant), "older news do not undo newer");
    world.tell("device-compliance-change", id, told("compliant", 50)).await;
    assert_ne!(world.decided(&ada), Some(Code::DeviceNotCompliant));
    world.tell("device-compliance-change", opaque(&"ab".repeat(16)), told("not-compliant", 1)).await;
    assert!(world.records().last().unwrap()["detail"].as_str().unwrap().contains("nothing known here"));
}

#[tokio::test]
async fn changed_claims_void_older_tokens_and_a_fresh_sign_of_them_renews() {
    let mut world = World::new().await;
    let mut ada = world.relay.signed_in("ada").await;
    let old = world.relay.idp.sign(&{
        let mut claims = world.relay.idp.claims("ada");
        claims["iat"] = (Clock::new().now().seconds() - 5).into();
        claims
    });
    world.tell("token-claims-change", world.user("ada"), json!({ "claims": { "groups": [] } })).await;
    assert_eq!(world.apps(&ada).await.code(), Code::TokenExpired);
    assert_eq!(world.relay.renew(&mut ada, &old).await.code(), Code::IdentityTokenStale);
    world.relay.restart().await;
    assert_eq!(world.apps(&ada).await.code(), Code::TokenExpired, "durable");
    let fresh = world.relay.idp.sign(&world.relay.idp.claims("ada"));
    world.relay.renew(&mut ada, &fresh).await.ok();
    assert!(world.apps(&ada).await.status.is_success());
    let past = Clock::new().now().seconds() - 600;
    world.tell("token-claims-change", world.user("ada"), json!({ "event_timestamp": past, "claims": {} })).await;
    assert!(world.apps(&ada).await.status.is_success(), "an older change is known to be past");
}

#[tokio::test]
async fn a57_what_is_no_event_of_a_transmitter_has_no_effect_and_is_audited() {
    let mut world = World::new().await;
    let ada = world.relay.signed_in("ada").await;
    let good = world.event("session-revoked", &world.user("ada"), &json!({}));
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        world.signed(&claims)
    };
    let token = world.signed(&good);
    let kind = ("content-type", "application/secevent+jwt");
    let of_idp = sign(&world.relay.idp.key, &header("k1", Some("secevent+jwt")), &good);
    let other = with("iss", "urn:other".into());
    let bearer = format!("Bearer {SECRET}");
    let mut count = 0;
    for (body, headers, err) in [
        (with("iss", "https://evil.example".into()), vec![kind], "invalid_issuer"),
        (with("iss", world.relay.idp.issuer.clone().into()), vec![kind], "invalid_issuer"),
        (with("aud", "other".into()), vec![kind], "invalid_audience"),
        (with("exp", 9_999_999_999_u64.into()), vec![kind], "invalid_request"),
        (with("x", "y".repeat(20_000).into()), vec![kind], "invalid_request"),
        (of_idp, vec![kind], "authentication_failed"),
        (sign(&world.mdm.key, &header("k1", Some("JWT")), &good), vec![kind], "invalid_request"),
        (sign(&world.mdm.key, &header("k1", Some("logout+jwt")), &good), vec![kind], "invalid_request"),
        (token[..token.len() - 6].to_owned(), vec![kind], "authentication_failed"),
        (token[..40].to_owned(), vec![kind], "invalid_request"),
        ("z".repeat(100_000), vec![kind], "invalid_request"),
        (String::new(), vec![kind], "invalid_request"),
        (token.clone(), vec![("content-type", "application/jwt")], "invalid_request"),
        (token.clone(), vec![], "invalid_request"),
        (other.clone(), vec![kind], "authentication_failed"),
        (other.clone(), vec![kind, ("authorization", "Bearer wrong")], "authentication_failed"),
        (other.clone(), vec![kind, ("authorization", &bearer), ("authorization", &bearer)], "authentication_failed"),
        (ada.token.clone().unwrap(), vec![kind], "invalid_issuer"),
    ] {
        let reply = world.push_with(&body, &headers).await;
        assert_eq!((reply.status, reply.json()["err"].as_str()), (StatusCode::BAD_REQUEST, Some(err)), "{body:.60}");
        assert!(reply.json()["description"].is_string());
        count += 1;
    }
    assert!(world.apps(&ada).await.status.is_success());
    let records = world.records();
    assert_eq!(records.len(), count);
    assert!(records.iter().all(|record| record["result"] == "deny" && record["code"] == "event_invalid"));
    assert!(!records.iter().any(|record| record.to_string().contains(SECRET)));
    // With its secret the other transmitter is heard; that it shares keys here is for the test alone.
    assert_eq!(world.push_with(&other, &[kind, ("authorization", &bearer)]).await.status, StatusCode::ACCEPTED);
    assert_eq!(world.apps(&ada).await.code(), Code::SessionRevoked);
    // The good one counts once, also after a restart, and is acknowledged each time.
    let again = world.relay.signed_in("ada").await;
    let token = world.signed(&world.event("session-revoked", &world.user("ada"), &json!({})));
    assert_eq!(world.push(&token).await.status, StatusCode::ACCEPTED);
    assert_eq!(world.apps(&again).await.code(), Code::SessionRevoked);
    world.relay.restart().await;
    let anew = world.relay.signed_in("ada").await;
    assert_eq!(world.push(&token).await.status, StatusCode::ACCEPTED);
    assert!(world.apps(&anew).await.status.is_success(), "no second effect");
    assert!(world.records().last().unwrap()["detail"].as_str().unwrap().contains("told before"));
    // A09: and it is no token of a sign-in.
    let device = TestDevice::new();
    assert_eq!(world.relay.enrol(&device.enrolment(&token)).await.code(), Code::IdentityTokenInvalid);
}

#[tokio::test]
async fn without_a_transmitter_there_is_nothing_and_without_its_keys_it_tries_again() {
    let plain = TestRelay::new().await;
    assert_eq!(plain.public(Method::POST, "/ssf/events", "x").await.code(), Code::NotFound);
    let world = World::new().await;
    world.mdm.answer("/jwks", 503, "");
    let token = world.signed(&world.event("session-revoked", &world.user("ada"), &json!({})));
    let reply = world.push(&token).await;
    assert_eq!((reply.status, reply.code()), (StatusCode::SERVICE_UNAVAILABLE, Code::ProviderUnreachable));
}

/// A key that came into use since the keys were fetched: a transmitter would take `invalid_key` for final.
#[tokio::test]
async fn an_unknown_key_is_refused_only_after_keys_were_fetched() {
    let world = World::new().await;
    let claims = world.event("verification", &opaque("stream"), &json!({}));
    assert_eq!(world.push(&world.signed(&claims)).await.status, StatusCode::ACCEPTED, "the keys are here");
    let token = sign(&ec_key(), &header("k9", Some("secevent+jwt")), &claims);
    let reply = world.push(&token).await;
    assert_eq!((reply.status, reply.code()), (StatusCode::TOO_MANY_REQUESTS, Code::RateLimited));
    let transmitter = &world.relay.relay.transmitters[0];
    let unknown = |fault: &SignalFault| *fault == SignalFault::InvalidKey;
    let later = Clock::new().now().plus(Duration::from_secs(40));
    let check = |now| {
        let token = &token;
        transmitter.keys.verify_or_later(now, unknown, move |jwks| verify(token, jwks, &transmitter.rules, now))
    };
    assert_eq!(check(later).await.unwrap().map(drop), Err(SignalFault::InvalidKey), "fetched, and still unknown");
    assert_eq!(check(later).await.unwrap_err().code, Code::RateLimited);
}

/// What took effect while the log could not be written is recorded when it is told again, and then no more.
#[tokio::test]
async fn what_was_not_recorded_is_recorded_when_it_is_told_again() {
    let mut world = World::new().await;
    let ada = world.relay.signed_in("ada").await;
    let token = world.signed(&world.event("session-revoked", &world.user("ada"), &json!({})));
    world.relay.relay.audit.close().await;
    assert_eq!(world.push(&token).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.records().len(), 0);
    world.relay.restart().await;
    assert_eq!(world.apps(&ada).await.code(), Code::SessionRevoked, "it took effect all the same");
    for (again, said) in [(1, "sessions ended: 1"), (2, "no effect: told before")] {
        assert_eq!(world.push(&token).await.status, StatusCode::ACCEPTED);
        let records = world.records();
        assert_eq!(records.len(), again);
        assert!(records[again - 1]["detail"].as_str().unwrap().contains(said), "{records:?}");
    }
    let revoked = world.relay.audit().into_iter().filter(|record| record["event"] == "revocation");
    let sessions = revoked.map(|record| record["session"].clone()).collect::<Vec<_>>();
    assert_eq!(sessions, [ada.session.as_ref().unwrap().as_str()]);
}

/// A revocation that the store does not know yet, or could not keep, outlasts an event that is told again.
#[tokio::test]
async fn what_is_told_again_takes_no_revocation_back() {
    let world = World::new().await;
    let _ada = world.relay.signed_in("ada").await;
    let bob = world.relay.signed_in("bob").await;
    let token = world.signed(&world.event("session-revoked", &world.user("ada"), &json!({})));
    world.relay.relay.audit.close().await;
    assert_eq!(world.push(&token).await.status, StatusCode::SERVICE_UNAVAILABLE);
    let target = Target::Session(bob.session.clone().unwrap());
    change(&world.relay.relay.snapshot, |revocations| {
        revocations.insert(target.clone());
    });
    assert_eq!(world.push(&token).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(world.relay.relay.snapshot.load().revocations.has(&target));
}
