//! Enrolment and renewal through the real handlers, with tokens of a provider on loopback.

use super::*;
use crate::testing::{Idp, Reply, TestDevice, TestRelay, ec_key, header, sign};
use http::{Method, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

#[tokio::test]
async fn a_sign_in_enrols_and_starts_a_session() {
    let world = TestRelay::new().await;
    let mut device = TestDevice::new();
    let reply = world.enrol(&device.enrolment(&world.idp.id_token("ada", &device))).await.ok();
    device.take(&reply);
    let verified = device.verified();
    assert_eq!(reply["device"], verified.id().as_str());
    let session = world.relay.store.session(device.session.as_ref().unwrap()).await.unwrap().unwrap();
    assert_eq!((session.principal.subject(), session.ended), ("ada", false));
    let records = world.audit();
    let record = records.iter().find(|record| record["event"] == "enrolment").unwrap();
    assert_eq!((&record["result"], &record["principal"]["subject"]), (&json!("allow"), &json!("ada")));
    assert_eq!(record["source"], "192.0.2.1");
    assert!(record["decision"].is_string());
}

/// What is wrong with a token, and the token. All are for the device that shows them.
fn bad_id_tokens(idp: &Idp, device: &TestDevice) -> Vec<(&'static str, String)> {
    let now = Clock::new().now().seconds();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut claims = idp.claims("ada");
        claims["nonce"] = device.nonce().into();
        change(&mut claims);
        claims
    };
    let good = with(&|_| {});
    let signed = |change: &dyn Fn(&mut Value)| idp.sign(&with(change));
    let drop_claim = |name: &'static str| {
        signed(&|claims: &mut Value| {
            claims.as_object_mut().unwrap().remove(name);
        })
    };
    let typ = |typ: &str| sign(&idp.key, &header("k1", Some(typ)), &good);
    let hmac = Header { kid: Some("k1".into()), ..Header::new(Algorithm::HS256) };
    let none = format!("eyJhbGciOiJub25lIn0.{}.", idp.sign(&good).split('.').nth(1).unwrap());
    let mut tampered = idp.sign(&good);
    let last = if tampered.ends_with('A') { 'E' } else { 'A' };
    tampered.pop();
    tampered.push(last);
    vec![
        ("empty", String::new()),
        ("no JWT", "a.b.c".into()),
        ("alg none", none),
        ("HS256 with a public value", sign(&EncodingKey::from_secret(b"public"), &hmac, &good)),
        ("a foreign key under our kid", sign(&ec_key(), &header("k1", Some("JWT")), &good)),
        ("a kid that is a path", sign(&ec_key(), &header("../../etc/passwd", Some("JWT")), &good)),
        ("a changed signature", tampered),
        ("another issuer", signed(&|claims| claims["iss"] = "https://evil.example".into())),
        ("another audience", signed(&|claims| claims["aud"] = "other".into())),
        ("several audiences without azp", signed(&|claims| claims["aud"] = json!(["postern", "other"]))),
        ("azp of another client", signed(&|claims| claims["azp"] = "other".into())),
        ("ended", signed(&|claims| claims["exp"] = (now - 120).into())),
        ("issued an hour ago", signed(&|claims| claims["iat"] = (now - 3600).into())),
        ("issued in the future", signed(&|claims| claims["iat"] = (now + 600).into())),
        ("not good before tomorrow", signed(&|claims| claims["nbf"] = (now + 86_400).into())),
        ("exp as text", signed(&|claims| claims["exp"] = (now + 600).to_string().into())),
        ("no exp", drop_claim("exp")),
        ("no iat", drop_claim("iat")),
        ("no sub", drop_claim("sub")),
        ("an access token", typ("at+jwt")),
        ("a logout token", typ("logout+jwt")),
        ("a security event", typ("secevent+jwt")),
        ("an assertion of ours", typ("postern-identity+jwt")),
        ("an event by its claims", signed(&|claims| claims["events"] = json!({"x": {}}))),
    ]
}

/// What only enrolment checks: the binding to the key, and that the sign-in was just now.
fn unbound_tokens(idp: &Idp, device: &TestDevice) -> Vec<(&'static str, String)> {
    let now = Clock::new().now().seconds();
    let other = TestDevice::new();
    let stale = |age: u64| {
        let mut claims = idp.claims("ada");
        (claims["nonce"], claims["iat"]) = (device.nonce().into(), (now - age).into());
        idp.sign(&claims)
    };
    vec![
        ("bound to another key", idp.id_token("ada", &other)),
        ("without a nonce, but with a salt", idp.sign(&idp.claims("ada"))),
        ("six minutes old", stale(360)),
    ]
}

async fn nothing_came_of_it(world: &TestRelay, what: &str, reply: &Reply, sessions: usize) {
    assert!(reply.status.is_client_error(), "{what}: {} {:?}", reply.status, reply.body);
    let text = String::from_utf8_lossy(&reply.body);
    assert!(!text.contains("CERTIFICATE") && !text.contains("access_token\":"), "{what}: {text}");
    assert!(reply.problem().decision.is_some(), "{what}: every refusal has a decision");
    assert_eq!(world.relay.store.sessions(true).await.unwrap().len(), sessions, "{what}");
    let decision = reply.problem().decision.unwrap();
    let records = world.audit();
    let record = records.iter().find(|record| record["decision"] == decision.as_str());
    assert_eq!(record.unwrap_or_else(|| panic!("{what}: not in the audit log"))["result"], "deny", "{what}");
}

/// A26: every enrolment and renewal endpoint x every bad token: zero certificates, zero session tokens.
#[tokio::test]
async fn a26_no_bad_token_gets_a_certificate_or_a_session_token() {
    let world = TestRelay::new().await;
    let device = TestDevice::new();
    let first = world.signed_in("ada").await;
    let tokens = bad_id_tokens(&world.idp, &device);
    assert!(tokens.len() > 20);
    for (what, token) in tokens.iter().chain(&unbound_tokens(&world.idp, &device)) {
        let reply = world.enrol(&device.enrolment(token)).await;
        nothing_came_of_it(&world, &format!("enrol: {what}"), &reply, 1).await;
    }
    for (what, token) in &tokens {
        let form = first.exchange(token, TYPE_ID_TOKEN);
        let reply = world.control(&first, Method::POST, "/session", form).await;
        nothing_came_of_it(&world, &format!("session: {what}"), &reply, 1).await;
    }
    // Over mTLS it is a session token that renews a certificate: no provider token, of any kind, will do.
    let csr = json!({"csr": first.csr()}).to_string();
    let good = world.idp.id_token("ada", &first);
    let other = world.signed_in("eve").await;
    let own = first.token.as_deref().unwrap();
    let changed = format!("{}AAAA", &own[..own.len() - 4]);
    let assertion = world.relay.assertions.signer().sign(
        &world.relay.verifier.verify(own).unwrap(),
        &"wiki".parse().unwrap(),
        world.relay.clock.now(),
        Duration::from_secs(30),
    );
    let bearers = [
        ("none", None),
        ("a good ID token", Some(good)),
        ("another device's session token", other.token.clone()),
        ("a changed session token", Some(changed)),
        ("an identity assertion", Some(assertion.unwrap())),
    ];
    let bad = tokens.into_iter().map(|(what, token)| (what, Some(token)));
    for (index, (what, token)) in bearers.into_iter().chain(bad).enumerate() {
        let reply = world.control_as(&first, token.as_deref(), Method::POST, "/enroll", csr.clone()).await;
        nothing_came_of_it(&world, &format!("renew {index}: {what}"), &reply, 2).await;
    }
}

/// A25: whatever else was leaked, without a fresh ID token bound to the key there is no certificate.
#[tokio::test]
async fn a25_a_secret_alone_enrols_nothing() {
    let world = TestRelay::new().await;
    let (device, thief) = (TestDevice::new(), TestDevice::new());
    let token = world.idp.id_token("ada", &device);
    // The token and its salt, with the thief's own key.
    let mut stolen = thief.enrolment(&token);
    stolen["salt"] = String::from(device.salt.clone()).into();
    assert_eq!(world.enrol(&stolen).await.code(), Code::IdentityTokenUnbound);
    // The certificate request of the victim, with nothing else.
    for missing in ["token", "token_type"] {
        let mut request = device.enrolment(&token);
        request.as_object_mut().unwrap().remove(missing);
        assert!(world.enrol(&request).await.status.is_client_error(), "{missing}");
    }
    // The token without its salt does not pass for one of a flow without nonce.
    let mut unsalted = device.enrolment(&token);
    unsalted.as_object_mut().unwrap().remove("salt");
    assert_eq!(world.enrol(&unsalted).await.code(), Code::IdentityTokenUnbound);
    assert_eq!(world.relay.store.sessions(true).await.unwrap().len(), 0);
    // None of it used the token up.
    world.enrol(&device.enrolment(&token)).await.ok();
}

#[tokio::test]
async fn a_token_enrols_once_and_a_key_has_one_owner() {
    let world = TestRelay::new().await;
    let device = TestDevice::new();
    let token = world.idp.id_token("ada", &device);
    world.enrol(&device.enrolment(&token)).await.ok();
    assert_eq!(world.enrol(&device.enrolment(&token)).await.code(), Code::IdentityTokenUsed);
    let of_eve = world.enrol(&device.enrolment(&world.idp.id_token("eve", &device))).await;
    assert_eq!(of_eve.code(), Code::DeviceOwned);
    // Signing in again on the same device is a new session.
    world.enrol(&device.enrolment(&world.idp.id_token("ada", &device))).await.ok();
    assert_eq!(world.relay.store.sessions(true).await.unwrap().len(), 2);
    assert_eq!(world.relay.store.devices().await.unwrap().len(), 1);
}

/// Two requests with one token at the same moment: one of them enrols.
#[tokio::test]
async fn a_token_enrols_once_even_at_the_same_moment() {
    let world = TestRelay::new().await;
    let device = TestDevice::new();
    let request = device.enrolment(&world.idp.id_token("ada", &device));
    let attempts = (0..8).map(|_| world.enrol(&request));
    let replies = futures_util::future::join_all(attempts).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == StatusCode::OK).count(), 1);
}

#[tokio::test]
async fn a_flow_without_nonce_sends_no_salt() {
    let world = TestRelay::new().await;
    let (device, other) = (TestDevice::new(), TestDevice::new());
    let token = world.idp.sign(&world.idp.claims("ada"));
    let mut request = device.enrolment(&token);
    request.as_object_mut().unwrap().remove("salt");
    world.enrol(&request).await.ok();
    let mut again = other.enrolment(&token);
    again.as_object_mut().unwrap().remove("salt");
    assert_eq!(world.enrol(&again).await.code(), Code::IdentityTokenUsed);
}

/// An ECDSA signature (r, s) has the twin (r, n - s): another text for the same token, which is used up with it.
#[tokio::test]
async fn a_tokens_twin_enrols_no_second_key() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let world = TestRelay::new().await;
    let token = world.idp.sign(&world.idp.claims("ada"));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0;
    for (digit, order) in signature[32..].iter_mut().zip(ORDER).rev() {
        let difference = i16::from(order) - i16::from(*digit) - borrow;
        borrow = i16::from(difference < 0);
        *digit = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    let twin = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    assert_ne!(twin, token);
    for (token, expected) in [(&token, None), (&twin, Some(Code::IdentityTokenUsed))] {
        let mut request = TestDevice::new().enrolment(token);
        request.as_object_mut().unwrap().remove("salt");
        let reply = world.enrol(&request).await;
        match expected {
            None => drop(reply.ok()),
            Some(code) => assert_eq!(reply.code(), code),
        }
    }
}

/// A token that is bound to no key and was shown to renew a session enrols nothing any more.
#[tokio::test]
async fn a_token_shown_to_renew_enrols_nothing() {
    let world = TestRelay::new().await;
    let mut device = world.signed_in("ada").await;
    let token = world.idp.sign(&world.idp.claims("ada"));
    world.renew(&mut device, &token).await.ok();
    let mut request = TestDevice::new().enrolment(&token);
    request.as_object_mut().unwrap().remove("salt");
    assert_eq!(world.enrol(&request).await.code(), Code::IdentityTokenUsed);
    world.renew(&mut device, &token).await.ok();
}

/// Whoever is refused cannot fill the disk: beyond a bound refusals are counted, not recorded.
#[tokio::test]
async fn a_flood_of_refusals_is_counted_not_recorded() {
    let world = TestRelay::with("").await;
    for _ in 0..2_000 {
        assert_eq!(world.public(Method::POST, "/enroll", "{}").await.status, StatusCode::BAD_REQUEST);
    }
    let recorded = world.audit().iter().filter(|record| record["event"] == "enrolment").count();
    assert!((1_000..1_900).contains(&recorded), "{recorded}");
    assert_eq!(world.relay.limiters.refusals.take_unrecorded(), 2_000 - recorded as u64);
    // A success is recorded whatever else goes on.
    let device = TestDevice::new();
    world.enrol(&device.enrolment(&world.idp.id_token("ada", &device))).await.ok();
    assert!(world.audit().iter().any(|record| record["event"] == "enrolment" && record["result"] == "allow"));
}

/// A25: a token that is bound to no key enrols none where the configuration wants it bound; one that is bound does.
#[tokio::test]
async fn a25_a_sign_in_without_a_nonce_can_be_refused() {
    let mut world = TestRelay::new().await;
    let file = world.home.join("relay.toml");
    let text = std::fs::read_to_string(&file).unwrap().replace("[provider]", "[provider]\nrequire_nonce = true");
    std::fs::write(file, text).unwrap();
    world.restart().await;
    let device = TestDevice::new();
    let mut by_code = device.enrolment(&world.idp.sign(&world.idp.claims("ada")));
    by_code.as_object_mut().unwrap().remove("salt");
    let refused = world.enrol(&by_code).await.problem();
    assert_eq!(refused.code, Code::IdentityTokenUnbound);
    assert!(refused.fix.unwrap().contains("--device-code"));
    assert!(world.relay.store.devices().await.unwrap().is_empty());
    world.enrol(&device.enrolment(&world.idp.id_token("ada", &device))).await.ok();
}

#[tokio::test]
async fn a_service_account_needs_its_registered_key() {
    let (device, other) = (TestDevice::new(), TestDevice::new());
    let account =
        format!("[[service_account]]\nsubject = \"ci\"\nkey_thumbprint = \"{}\"", binding::thumbprint(&device.spki()));
    let world = TestRelay::with(&account).await;
    let request = |device: &TestDevice, subject: &str| json!({"csr": device.csr(), "token": world.idp.access_token(subject), "token_type": TYPE_ACCESS_TOKEN});
    let foreign_key = world.enrol(&request(&other, "ci")).await.problem();
    assert_eq!(foreign_key.code, Code::ServiceAccountUnregistered);
    assert!(foreign_key.detail.unwrap().contains(&binding::thumbprint(&other.spki())), "it tells what to register");
    assert_eq!(world.enrol(&request(&device, "other")).await.code(), Code::ServiceAccountUnregistered);
    let mut as_id_token = request(&device, "ci");
    as_id_token["token_type"] = TYPE_ID_TOKEN.into();
    assert_eq!(world.enrol(&as_id_token).await.code(), Code::IdentityTokenInvalid);
    let mut device = device;
    let reply = world.enrol(&request(&device, "ci")).await.ok();
    device.take(&reply);
    let form = device.exchange(&world.idp.access_token("ci"), TYPE_ACCESS_TOKEN);
    let reply = world.control(&device, Method::POST, "/session", form).await.ok();
    assert_eq!(reply["principal"]["subject"], "ci");
}

#[tokio::test]
async fn malformed_enrolments_are_refused() {
    let world = TestRelay::new().await;
    let device = TestDevice::new();
    let good = device.enrolment(&world.idp.id_token("ada", &device));
    for (body, code) in [
        (Vec::new(), Code::RequestInvalid),
        (b"{}".to_vec(), Code::RequestInvalid),
        (b"[1]".to_vec(), Code::RequestInvalid),
        (json!({"csr": "x", "token": "y"}).to_string().into(), Code::CsrInvalid),
        (vec![b' '; 70_000], Code::BodyTooLarge),
    ] {
        assert_eq!(world.public(Method::POST, "/enroll", body).await.code(), code);
    }
    for (field, value) in [("salt", json!("short")), ("token_type", json!("urn:other")), ("csr", json!(7))] {
        let mut request = good.clone();
        request[field] = value;
        assert_eq!(world.enrol(&request).await.code(), Code::RequestInvalid, "{field}");
    }
    // A hostile name is kept short and harmless.
    let mut named = good.clone();
    named["device_name"] = format!("\u{1b}[2J{}", "x".repeat(500)).into();
    world.enrol(&named).await.ok();
    let name = &world.relay.store.devices().await.unwrap()[0].name;
    assert!(name.chars().count() <= 64 && !name.contains('\u{1b}'), "{name:?}");
}

#[tokio::test]
async fn a_certificate_is_renewed_for_the_same_key_and_a_live_session() {
    let world = TestRelay::new().await;
    let device = world.signed_in("ada").await;
    let body = |device: &TestDevice| json!({"csr": device.csr()}).to_string();
    let reply = world.control(&device, Method::POST, "/enroll", body(&device)).await.ok();
    assert_eq!(reply["session"], device.session.as_ref().unwrap().as_str());
    assert_eq!(reply["device"], device.verified().id().as_str());
    let foreign = world.control(&device, Method::POST, "/enroll", body(&TestDevice::new())).await;
    assert_eq!(foreign.code(), Code::CsrInvalid);
    crate::revoke::revoke(&world.relay, Target::Device(device.verified().id().clone()), Event::Revocation, "test")
        .await
        .unwrap();
    assert_eq!(world.control(&device, Method::POST, "/enroll", body(&device)).await.code(), Code::DeviceRevoked);
    let again = world.enrol(&device.enrolment(&world.idp.id_token("ada", &device))).await;
    assert_eq!(again.code(), Code::DeviceRevoked, "a sign-in does not undo it");
}

#[tokio::test]
async fn without_audit_log_nothing_is_given_out() {
    let world = TestRelay::new().await;
    let device = TestDevice::new();
    let request = device.enrolment(&world.idp.id_token("ada", &device));
    let log = &world.relay.config.audit_file;
    let aside = log.with_extension("aside");
    std::fs::rename(log, &aside).unwrap();
    std::fs::remove_file(&aside).unwrap();
    let reply = world.enrol(&request).await;
    assert_eq!(reply.code(), Code::AuditUnavailable);
    assert!(!String::from_utf8_lossy(&reply.body).contains("CERTIFICATE"));
}

use crate::clock::Clock;
