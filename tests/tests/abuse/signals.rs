//! What strangers tell the relay: forged, replayed, foreign, truncated and oversized logout tokens and events. A57, A09.

use crate::Site;
use http::Request;
use postern_tests::client::{Reply, raw, status_of};
use postern_tests::device::exchange;
use postern_tests::forge::{TokenKey, merge, now, random};
use postern_tests::{Device, StandIn};
use serde_json::{Value, json};

const LOGOUT: &str = "http://schemas.openid.net/event/backchannel-logout";
const REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";

/// A site whose transmitter of events is `signals`, which has an own key.
async fn site() -> (Site, StandIn) {
    let signals = StandIn::start().await;
    let site = Site::with(|settings| settings.transmitter(&signals.issuer)).await;
    (site, signals)
}

async fn post(site: &Site, path: &str, kind: &str, body: impl Into<String>) -> Reply {
    let request = Request::post(path).header("host", site.relay.public.to_string()).header("content-type", kind);
    site.relay.public(request.body(body.into()).unwrap()).await
}

async fn log_out(site: &Site, token: &str) -> Reply {
    post(site, "/backchannel-logout", "application/x-www-form-urlencoded", format!("logout_token={token}")).await
}

async fn tell(site: &Site, token: &str) -> Reply {
    post(site, "/ssf/events", "application/secevent+jwt", token).await
}

/// More than is read, although what it begins with is good: the relay answers before it has all, and hangs up, which a
/// client may see first.
async fn oversized(site: &Site, path: &str, kind: &str, good: &str, filler: &str) {
    let body = good.to_owned() + &filler.repeat(200_000);
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
    let answer = raw(&mut site.relay.tls().await, (head + &body).as_bytes()).await;
    assert!(matches!(status_of(&answer), None | Some(400)), "{}", String::from_utf8_lossy(&answer));
}

fn logout_claims(site: &Site) -> Value {
    json!({
        "iss": site.provider.issuer, "aud": "postern", "sub": "ada", "jti": random(12), "iat": now(),
        "exp": now() + 120, "events": {LOGOUT: {}},
    })
}

fn event_claims(site: &Site, signals: &StandIn) -> Value {
    let user = json!({"format": "iss_sub", "iss": site.provider.issuer, "sub": "ada"});
    json!({
        "iss": signals.issuer, "aud": "urn:relay", "jti": random(12), "iat": now(), "sub_id": user,
        "events": {REVOKED: {}},
    })
}

/// How many refusals of this kind are on record.
fn refused(site: &Site, event: &str) -> usize {
    site.relay.audit().iter().filter(|record| record["event"] == event && record["result"] == "deny").count()
}

/// A57, A09: whatever a stranger makes of a logout token has no effect on a session that lives, and is on record.
#[tokio::test]
async fn a57_logout_tokens_of_strangers_end_nothing_and_are_audited() {
    let mut site = Site::new().await;
    let (ada, quic) = site.signed_in("ada").await;
    let typ = json!({"typ": "logout+jwt"});
    let key = &site.provider.key;
    let sign = |changes: Value| key.sign(&typ, &merge(logout_claims(&site), &changes));
    let good = sign(json!({}));
    let claims = logout_claims(&site);
    let event = json!({"typ": "secevent+jwt"});
    let mut bad = vec![
        TokenKey::p256("stand-in-1").sign(&typ, &claims),
        TokenKey::p256("unheard-of").sign(&typ, &claims),
        TokenKey::none("stand-in-1").sign(&typ, &claims),
        TokenKey::hmac("stand-in-1", &key.public_bytes()).sign(&typ, &claims),
        key.sign(&json!({}), &claims),
        key.sign(&json!({"typ": "JWT"}), &claims),
        key.sign(&json!({"typ": "at+jwt"}), &claims),
        key.sign(&event, &claims),
        sign(json!({"iss": "https://evil.example"})),
        sign(json!({"aud": "other"})),
        sign(json!({"iat": now() - 3600, "exp": now() - 3000})),
        sign(json!({"iat": now() + 3600, "exp": now() + 7200})),
        sign(json!({"exp": null})),
        sign(json!({"jti": null})),
        sign(json!({"sub": null})),
        sign(json!({"nonce": "n"})),
        sign(json!({"events": {}})),
        sign(json!({"events": {LOGOUT: {}, REVOKED: {}}})),
        sign(json!({"x": "y".repeat(20_000)})),
        site.provider.id_token("ada", json!({})),
        site.provider.access_token("ada", json!({})),
        ada.token.clone(),
        String::new(),
        format!("{good}&logout_token={good}"),
    ];
    bad.extend((1..good.len()).step_by(40).map(|end| good[..end].to_owned()));
    for (index, token) in bad.iter().enumerate() {
        let reply = log_out(&site, token).await;
        assert_eq!((reply.status.as_u16(), reply.json()["error"].as_str()), (400, Some("invalid_request")), "{index}");
        assert_eq!(reply.header("cache-control"), "no-store");
        assert_eq!(ada.get(&quic, "wiki", "/").await.status, 200, "{index}");
    }
    let begun = format!("logout_token={good}&x=");
    oversized(&site, "/backchannel-logout", "application/x-www-form-urlencoded", &begun, "x").await;
    assert_eq!(ada.get(&quic, "wiki", "/").await.status, 200, "oversized");
    assert_eq!(refused(&site, "back_channel_logout"), bad.len() + 1);

    // A09: a good one is good for nothing else.
    let form = ada.exchange_form(&good);
    assert_eq!(quic.send(exchange(form)).await.unwrap().refusal(), (401, "identity_token_invalid"));
    let mut other = Device::new();
    other.token.clone_from(&good);
    assert_eq!(other.get(&quic, "wiki", "/").await.refusal(), (407, "token_invalid"));
    assert_eq!(ada.get(&quic, "wiki", "/").await.status, 200);

    // It works once, for whoever it names.
    let (eve, eve_quic) = site.signed_in("eve").await;
    assert_eq!(log_out(&site, &good).await.status, 200);
    assert_eq!(ada.get(&quic, "wiki", "/").await.refusal(), (407, "session_revoked"));
    assert_eq!(eve.get(&eve_quic, "wiki", "/").await.status, 200);
    let (again, again_quic) = site.signed_in("ada").await;
    assert_eq!(log_out(&site, &good).await.status, 400, "replayed");
    assert_eq!(again.get(&again_quic, "wiki", "/").await.status, 200);
    site.is_sound().await;
}

/// A57, A09: the same of security events.
#[tokio::test]
async fn a57_events_of_strangers_end_nothing_and_are_audited() {
    let (mut site, signals) = site().await;
    let (ada, quic) = site.signed_in("ada").await;
    let typ = json!({"typ": "secevent+jwt"});
    let sign = |changes: Value| signals.key.sign(&typ, &merge(event_claims(&site, &signals), &changes));
    let good = sign(json!({}));
    let claims = event_claims(&site, &signals);
    let of_email = json!({"format": "email", "email": "ada@corp.example"});
    let of_another = json!({"format": "iss_sub", "iss": "https://evil.example", "sub": "ada"});
    let unheard_of = TokenKey::p256("unheard-of").sign(&typ, &claims);
    let mut bad = vec![
        TokenKey::p256("stand-in-1").sign(&typ, &claims),
        unheard_of.clone(),
        TokenKey::none("stand-in-1").sign(&typ, &claims),
        TokenKey::hmac("stand-in-1", &signals.key.public_bytes()).sign(&typ, &claims),
        site.provider.key.sign(&typ, &claims),
        signals.key.sign(&json!({}), &claims),
        signals.key.sign(&json!({"typ": "JWT"}), &claims),
        signals.key.sign(&json!({"typ": "logout+jwt"}), &claims),
        sign(json!({"iss": "https://evil.example"})),
        sign(json!({"iss": site.provider.issuer})),
        sign(json!({"aud": "postern"})),
        sign(json!({"iat": now() - 8 * 86_400})),
        sign(json!({"iat": now() + 3600})),
        sign(json!({"exp": now() + 60})),
        sign(json!({"sub": "ada"})),
        sign(json!({"jti": null})),
        sign(json!({"sub_id": null})),
        sign(json!({"events": {LOGOUT: {}, REVOKED: {}}})),
        sign(json!({"events": {REVOKED: {"event_timestamp": now() * 1000}}})),
        sign(json!({"x": "y".repeat(20_000)})),
        site.provider.key.sign(&json!({"typ": "logout+jwt"}), &logout_claims(&site)),
        site.provider.id_token("ada", json!({})),
        ada.token.clone(),
        String::new(),
    ];
    bad.extend((1..good.len()).step_by(40).map(|end| good[..end].to_owned()));
    for (index, token) in bad.iter().enumerate() {
        let reply = tell(&site, token).await;
        if *token == unheard_of {
            // It may be new: to be told again, once keys may be fetched again.
            assert_eq!(reply.refusal(), (429, "rate_limited"));
        } else {
            assert!(reply.status == 400 && reply.json()["err"].is_string(), "{index}: {reply:?}");
        }
        assert_eq!(ada.get(&quic, "wiki", "/").await.status, 200, "{index}");
    }
    oversized(&site, "/ssf/events", "application/secevent+jwt", &good, " ").await;
    assert_eq!(ada.get(&quic, "wiki", "/").await.status, 200, "oversized");
    assert_eq!(refused(&site, "security_event"), bad.len() + 1);
    // Taken, and without effect: it names nobody here, or what is long past.
    for harmless in [
        json!({"sub_id": of_email}),
        json!({"sub_id": of_another}),
        json!({"events": {REVOKED: {"event_timestamp": now() - 86_400}}}),
        json!({"events": {"urn:of-tomorrow": {}}}),
    ] {
        assert_eq!(tell(&site, &sign(harmless.clone())).await.status, 202, "{harmless}");
        assert_eq!(ada.get(&quic, "wiki", "/").await.status, 200, "{harmless}");
    }
    let form = ada.exchange_form(&good);
    assert_eq!(quic.send(exchange(form)).await.unwrap().refusal(), (401, "identity_token_invalid"));
    assert_eq!(log_out(&site, &good).await.status, 400, "an event is no logout token");

    assert_eq!(tell(&site, &good).await.status, 202);
    assert_eq!(ada.get(&quic, "wiki", "/").await.refusal(), (407, "session_revoked"));
    let (again, again_quic) = site.signed_in("ada").await;
    assert_eq!(tell(&site, &good).await.status, 202, "replayed: acknowledged");
    assert_eq!(again.get(&again_quic, "wiki", "/").await.status, 200, "and nothing more");
    site.is_sound().await;
}
