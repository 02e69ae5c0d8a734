//! Back-channel logout at the public listener's router, with sessions that live.

use super::*;
use crate::clock::Clock;
use crate::testing::{Idp, Reply, TestDevice, TestRelay, ec_key, header, sign};
use http::Method;
use postern_protocol::control::RelayEvent;
use postern_relay_core::logout::EVENT;
use serde_json::{Value, json};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

impl Idp {
    /// A good logout token's claims.
    fn logout(&self, sub: Option<&str>, sid: Option<&str>) -> Value {
        let mut claims = self.claims("nobody");
        claims["events"] = json!({ EVENT: {} });
        for (name, value) in [("sub", sub), ("sid", sid)] {
            match value {
                Some(value) => claims[name] = value.into(),
                None => drop(claims.as_object_mut().unwrap().remove(name)),
            }
        }
        claims
    }

    fn sign_logout(&self, claims: &Value) -> String {
        sign(&self.key, &header("k1", Some("logout+jwt")), claims)
    }
}

impl TestRelay {
    async fn log_out(&self, token: &str) -> Reply {
        let form = form_urlencoded::Serializer::new(String::new()).append_pair("logout_token", token).finish();
        self.public_with(Method::POST, "/backchannel-logout", &[FORM], form).await
    }

    /// A device signed in by this session of the provider.
    async fn signed_in_by(&self, subject: &str, sid: &str) -> TestDevice {
        let mut device = TestDevice::new();
        let mut claims = self.idp.claims(subject);
        (claims["nonce"], claims["sid"]) = (device.nonce().into(), sid.into());
        let reply = self.enrol(&device.enrolment(&self.idp.sign(&claims))).await.ok();
        device.take(&reply);
        claims["nonce"] = Value::Null;
        claims.as_object_mut().unwrap().remove("nonce");
        self.renew(&mut device, &self.idp.sign(&claims)).await.ok();
        device
    }

    async fn lives(&self, device: &TestDevice) -> bool {
        match self.control(device, Method::GET, "/apps", "").await {
            reply if reply.status == StatusCode::OK => true,
            reply => {
                assert_eq!(reply.code(), Code::SessionRevoked);
                false
            }
        }
    }

    fn events(&self, kind: &str) -> Vec<Value> {
        self.audit().into_iter().filter(|record| record["event"] == kind).collect()
    }
}

#[tokio::test]
async fn a_session_of_the_provider_ends_what_it_started_and_no_more() {
    let mut world = TestRelay::new().await;
    let (one, two) = (world.signed_in_by("ada", "s-1").await, world.signed_in_by("ada", "s-2").await);
    let eve = world.signed_in_by("eve", "s-3").await;
    let mut heard = world.relay.events.subscribe(one.session.as_ref().unwrap()).unwrap();
    heard.next().await;
    let reply = world.log_out(&world.idp.sign_logout(&world.idp.logout(Some("ada"), Some("s-1")))).await;
    assert_eq!((reply.status, reply.body.len()), (StatusCode::OK, 0), "{:?}", reply.body);
    assert_eq!((world.lives(&one).await, world.lives(&two).await, world.lives(&eve).await), (false, true, true));
    assert_eq!(heard.next().await, RelayEvent::Revoked { code: Code::SessionRevoked });
    let told = world.events("back_channel_logout");
    assert!(told[0]["detail"].as_str().unwrap().contains("sessions ended: 1"), "{told:?}");
    assert_eq!(told[0]["principal"]["subject"], "ada");
    let revoked = world.events("revocation");
    assert_eq!(revoked.len(), 1);
    assert_eq!(revoked[0]["session"], one.session.as_ref().unwrap().as_str());
    // Ended stays ended over a restart; so does the token's name.
    world.restart().await;
    assert_eq!((world.lives(&one).await, world.lives(&two).await), (false, true));
    // By sid alone, which the provider chose at the last exchange.
    let mut eve = eve;
    let mut claims = world.idp.claims("eve");
    claims["sid"] = "s-4".into();
    world.renew(&mut eve, &world.idp.sign(&claims)).await.ok();
    world.log_out(&world.idp.sign_logout(&world.idp.logout(None, Some("s-3")))).await;
    assert!(world.lives(&eve).await, "its session at the provider is another one now");
    world.log_out(&world.idp.sign_logout(&world.idp.logout(None, Some("s-4")))).await;
    assert!(!world.lives(&eve).await);
}

#[tokio::test]
async fn a_principal_without_sid_ends_all_of_its_sessions_and_may_sign_in_again() {
    let world = TestRelay::new().await;
    let (one, two) = (world.signed_in_by("ada", "s-1").await, world.signed_in("ada").await);
    let eve = world.signed_in("eve").await;
    // This sign-in is under way at the provider when it is told to end.
    let late = TestDevice::new();
    let mut before = world.idp.claims("ada");
    (before["nonce"], before["iat"]) = (late.nonce().into(), (Clock::new().now().seconds() - 2).into());
    let reply = world.log_out(&world.idp.sign_logout(&world.idp.logout(Some("ada"), None))).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!((world.lives(&one).await, world.lives(&two).await, world.lives(&eve).await), (false, false, true));
    let refused = world.enrol(&late.enrolment(&world.idp.sign(&before))).await;
    assert_eq!(refused.code(), Code::IdentityTokenStale, "a token from before starts nothing");
    assert!(world.lives(&world.signed_in("ada").await).await);
}

#[tokio::test]
async fn a_sid_that_no_id_token_named_ends_the_persons_unnamed_sessions() {
    let world = TestRelay::new().await;
    let (unnamed, named) = (world.signed_in("ada").await, world.signed_in_by("ada", "s-1").await);
    let eve = world.signed_in("eve").await;
    world.log_out(&world.idp.sign_logout(&world.idp.logout(Some("ada"), Some("s-9")))).await;
    assert_eq!((world.lives(&unnamed).await, world.lives(&named).await), (false, true));
    world.log_out(&world.idp.sign_logout(&world.idp.logout(None, Some("s-8")))).await;
    assert!(world.lives(&eve).await, "whose it is nobody can tell");
    // Tokens of a session that was ended start and renew nothing.
    let mut device = TestDevice::new();
    let mut claims = world.idp.claims("ada");
    (claims["nonce"], claims["sid"]) = (device.nonce().into(), "s-9".into());
    assert_eq!(world.enrol(&device.enrolment(&world.idp.sign(&claims))).await.code(), Code::IdentityTokenStale);
    device = named;
    claims.as_object_mut().unwrap().remove("nonce");
    assert_eq!(world.renew(&mut device, &world.idp.sign(&claims)).await.code(), Code::SessionRevoked);
}

#[tokio::test]
async fn a57_what_is_no_logout_token_of_the_provider_has_no_effect_and_is_audited() {
    let mut world = TestRelay::new().await;
    let ada = world.signed_in_by("ada", "s-1").await;
    let good = world.idp.logout(Some("ada"), Some("s-1"));
    let token = world.idp.sign_logout(&good);
    let mut foreign = good.clone();
    foreign["aud"] = "other".into();
    let mut future = good.clone();
    future["iat"] = (Clock::new().now().seconds() + 1000).into();
    let forged = sign(&ec_key(), &header("k1", Some("logout+jwt")), &good);
    let unknown = sign(&ec_key(), &header("k9", Some("logout+jwt")), &good);
    let mut long = good.clone();
    long["x"] = "y".repeat(20_000).into();
    let refused = [
        forged,
        unknown,
        world.idp.sign_logout(&foreign),
        world.idp.sign_logout(&future),
        world.idp.sign_logout(&long),
        world.idp.sign(&good),
        world.idp.sign(&world.idp.claims("ada")),
        world.idp.access_token("ada"),
        ada.token.clone().unwrap(),
        token[..token.len() - 5].to_owned(),
        String::new(),
        "\0\u{1b}[2J".to_owned(),
    ];
    let count = refused.len();
    for bad in refused {
        let reply = world.log_out(&bad).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{bad}");
        assert_eq!(reply.json()["error"], "invalid_request", "{bad}");
        assert!(reply.json()["error_description"].is_string());
    }
    let twice = format!("logout_token={token}&logout_token={token}");
    let more = [
        (FORM, twice),
        (FORM, "token=1".to_owned()),
        (FORM, "x".repeat(100_000)),
        (("content-type", "application/json"), format!("logout_token={token}")),
        (("content-type", "application/logout+jwt"), token.clone()),
    ];
    let count = count + more.len();
    for (kind, body) in more {
        let reply = world.public_with(Method::POST, "/backchannel-logout", &[kind], body).await;
        assert_eq!((reply.status, reply.json()["error"].as_str()), (StatusCode::BAD_REQUEST, Some("invalid_request")));
    }
    assert_eq!(world.public(Method::GET, "/backchannel-logout", "").await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(world.lives(&ada).await);
    let told = world.events("back_channel_logout");
    assert_eq!(told.len(), count);
    assert!(told.iter().all(|record| record["result"] == "deny" && record["code"].is_string()));
    assert!(world.events("revocation").is_empty());
    // A09: and it is no token of a sign-in or session.
    let mut device = TestDevice::new();
    assert_eq!(world.enrol(&device.enrolment(&token)).await.code(), Code::IdentityTokenInvalid);
    device = ada;
    assert_eq!(world.renew(&mut device, &token).await.code(), Code::IdentityTokenInvalid);
    let as_session = world.control_as(&device, Some(&token), Method::GET, "/apps", "").await;
    assert_eq!(as_session.code(), Code::TokenInvalid);
    // The good one counts once, also after a restart.
    assert_eq!(world.log_out(&token).await.status, StatusCode::OK);
    assert!(!world.lives(&device).await);
    world.restart().await;
    let again = world.signed_in_by("ada", "s-2").await;
    let replay = world.log_out(&token).await;
    assert_eq!(replay.status, StatusCode::BAD_REQUEST);
    assert!(replay.json()["error_description"].as_str().unwrap().contains("before"), "{:?}", replay.body);
    assert!(world.lives(&again).await);
}

/// Glewlwyd: `typ` JWT, no `exp`.
#[tokio::test]
async fn an_old_providers_token_needs_the_switch_and_without_the_feature_there_is_nothing() {
    let mut claims = Value::Null;
    for (untyped, status) in [("true", StatusCode::OK), ("false", StatusCode::BAD_REQUEST)] {
        let world = TestRelay::with_provider(&format!("backchannel_logout_untyped = {untyped}")).await;
        let ada = world.signed_in("ada").await;
        claims = world.idp.logout(Some("ada"), None);
        claims.as_object_mut().unwrap().remove("exp");
        assert_eq!(world.log_out(&world.idp.sign(&claims)).await.status, status);
        assert_eq!(world.lives(&ada).await, untyped == "false");
    }
    let world = TestRelay::with_provider("backchannel_logout = false").await;
    assert_eq!(world.log_out(&world.idp.sign_logout(&claims)).await.code(), Code::NotFound);
}

#[tokio::test]
async fn an_address_is_limited_and_the_log_is_not_flooded() {
    let world = TestRelay::new().await;
    let mut limited = 0;
    for _ in 0..700 {
        limited += usize::from(world.log_out("x").await.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(limited > 100, "{limited}");
    assert!(world.events("back_channel_logout").len() < 620);
}
