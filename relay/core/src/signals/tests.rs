//! Security events: what a transmitter signs as the specifications have it passes, and nothing else does.

use super::*;
use crate::fixture::{NOW, PROVIDER, pkcs8};
use crate::principal::PrincipalKey;
use crate::provider::{ProviderRules, TokenKind};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, encode};
use postern_protocol::DeviceId;
use proptest::prelude::*;
use rcgen::PKCS_ECDSA_P256_SHA256;
use serde_json::json;
use std::sync::LazyLock;

const TRANSMITTER: &str = "https://signals.corp.example";

static KEY: LazyLock<EncodingKey> = LazyLock::new(|| EncodingKey::from_ec_der(&pkcs8(&PKCS_ECDSA_P256_SHA256)));
static JWKS: LazyLock<Jwks> = LazyLock::new(|| {
    let mut jwk = Jwk::from_encoding_key(&KEY, Algorithm::ES256).unwrap();
    jwk.common.key_id = Some("ec".into());
    Jwks::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap()
});

fn rules() -> SignalRules {
    SignalRules { issuer: TRANSMITTER.into(), audience: "urn:postern".into(), provider: PROVIDER.into() }
}

fn ada() -> Value {
    json!({ "format": "iss_sub", "iss": PROVIDER, "sub": "ada" })
}

fn device() -> DeviceId {
    DeviceId::from_key_hash(&[7; 32])
}

fn claims(kind: &str, sub_id: &Value, event: &Value) -> Value {
    json!({
        "iss": TRANSMITTER, "aud": "urn:postern", "iat": NOW.seconds() - 5, "jti": "j-1",
        "sub_id": sub_id, "events": { format!("{CAEP}{kind}"): event },
    })
}

fn signed(typ: Option<&str>, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::ES256);
    (header.typ, header.kid) = (typ.map(String::from), Some("ec".into()));
    encode(&header, claims, &KEY).unwrap()
}

fn check(claims: &Value) -> Result<Signal, SignalFault> {
    verify(&signed(Some("secevent+jwt"), claims), &JWKS, &rules(), NOW)
}

fn effect_of(kind: &str, sub_id: &Value, event: &Value) -> Effect {
    check(&claims(kind, sub_id, event)).unwrap().effect
}

/// A good event with these claims changed; `null` takes one away.
fn with(changes: &Value) -> Result<Signal, SignalFault> {
    let mut claims = claims("session-revoked", &ada(), &json!({}));
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    check(&claims)
}

#[test]
fn each_kind_has_its_effect() {
    let (at, user) = (NOW.minus(Duration::from_secs(5)), Some(PrincipalKey::new(PROVIDER, "ada").unwrap()));
    let all = Sessions { principal: user.clone(), session: None, device: None, or_unknown: true, at };
    assert_eq!(effect_of("session-revoked", &ada(), &json!({})), Effect::End(all.clone()));
    for change in ["revoke", "update", "delete"] {
        let event = json!({ "change_type": change, "credential_type": "password" });
        assert_eq!(effect_of("credential-change", &ada(), &event), Effect::End(all.clone()));
    }
    let new = json!({ "change_type": "create", "credential_type": "fido2-roaming" });
    assert!(matches!(effect_of("credential-change", &ada(), &new), Effect::Nothing(_)));
    let changed = Effect::ClaimsChanged { principal: user.clone().unwrap(), at };
    assert_eq!(effect_of("token-claims-change", &ada(), &json!({ "claims": { "groups": [] } })), changed);
    let opaque = json!({ "format": "opaque", "id": device().as_str() });
    for (status, compliant) in [("not-compliant", false), ("compliant", true)] {
        let event = json!({ "current_status": status, "previous_status": "compliant" });
        let expected = Effect::Compliance { device: device(), compliant, at };
        assert_eq!(effect_of("device-compliance-change", &opaque, &event), expected);
        let complex = json!({ "format": "complex", "user": ada(), "device": opaque });
        assert_eq!(effect_of("device-compliance-change", &complex, &event), expected);
        assert!(matches!(effect_of("device-compliance-change", &ada(), &event), Effect::Nothing(_)));
    }
    for uri in [format!("{SSF}verification"), format!("{SSF}stream-updated"), "urn:other".into()] {
        let mut event = claims("x", &json!({ "format": "opaque", "id": "stream" }), &json!({}));
        event["events"] = json!({ uri: { "state": "x" } });
        assert!(matches!(check(&event).unwrap().effect, Effect::Nothing(_)));
    }
}

#[test]
fn a_subject_is_read_as_narrowly_as_it_is_understood() {
    let sessions = |sub_id: Value| match effect_of("session-revoked", &sub_id, &json!({})) {
        Effect::End(sessions) => {
            (sessions.principal.map(|key| key.subject().to_owned()), sessions.session, sessions.device)
        }
        _ => (None, None, None),
    };
    let opaque = |id: &str| json!({ "format": "opaque", "id": id });
    assert_eq!(sessions(opaque("s-1")), (None, Some("s-1".into()), None));
    let complex =
        json!({ "format": "complex", "user": ada(), "session": opaque("s-1"), "device": opaque(device().as_str()) });
    assert_eq!(sessions(complex), (Some("ada".into()), Some("s-1".into()), Some(device())));
    let issued = json!({ "format": "iss_sub", "iss": PROVIDER, "sub": "s-2" });
    assert_eq!(sessions(json!({ "format": "complex", "session": issued })), (None, Some("s-2".into()), None));
    let foreign = json!({ "format": "iss_sub", "iss": "https://other.example", "sub": "ada" });
    for nobody in [
        json!({ "format": "email", "email": "ada@corp.example" }),
        json!({ "format": "iss_sub", "iss": "https://other.example", "sub": "ada" }),
        json!({ "format": "phone_number", "phone_number": "+1" }),
        json!({ "format": "complex" }),
        json!({ "format": "complex", "user": { "format": "email", "email": "ada@corp.example" } }),
        json!({ "format": "complex", "tenant": opaque("t") }),
        json!({ "format": "complex", "device": opaque("mdm-17") }),
        json!({ "format": "complex", "user": foreign, "device": opaque(device().as_str()) }),
        json!({ "format": "complex", "session": foreign, "user": ada() }),
        json!({ "format": "complex", "user": ada(), "device": opaque("mdm-17") }),
        json!({ "format": "complex", "user": ada(), "device": { "format": "email", "email": "a@corp.example" } }),
        json!({ "format": "aliases", "identifiers": [ada()] }),
    ] {
        assert_eq!(sessions(nobody.clone()), (None, None, None), "{nobody}");
    }
}

#[test]
fn a57_what_is_not_exactly_an_event_is_refused_by_its_code() {
    let now = NOW.seconds();
    for (bad, code) in [
        (json!({ "iss": "https://evil.example" }), "invalid_issuer"),
        (json!({ "iss": PROVIDER }), "invalid_issuer"),
        (json!({ "aud": "other" }), "invalid_audience"),
        (json!({ "aud": null }), "invalid_audience"),
        (json!({ "aud": 7 }), "invalid_request"),
        (json!({ "iat": null }), "invalid_request"),
        (json!({ "iat": now + 61 }), "invalid_request"),
        (json!({ "iat": now - 7 * 86_400 }), "invalid_request"),
        (json!({ "iat": now.to_string() }), "invalid_request"),
        (json!({ "exp": now + 100 }), "invalid_request"),
        (json!({ "sub": "ada" }), "invalid_request"),
        (json!({ "jti": null }), "invalid_request"),
        (json!({ "jti": ["a"] }), "invalid_request"),
        (json!({ "sub_id": null }), "invalid_request"),
        (json!({ "sub_id": "ada" }), "invalid_request"),
        (json!({ "sub_id": {} }), "invalid_request"),
        (json!({ "sub_id": { "format": "iss_sub", "iss": PROVIDER } }), "invalid_request"),
        (json!({ "sub_id": { "format": "iss_sub", "iss": PROVIDER, "sub": "a\u{7}" } }), "invalid_request"),
        (json!({ "sub_id": { "format": "complex", "user": "ada" } }), "invalid_request"),
        (json!({ "sub_id": { "format": "complex", "user": { "format": "complex" } } }), "invalid_request"),
        (json!({ "events": null }), "invalid_request"),
        (json!({ "events": {} }), "invalid_request"),
        (json!({ "events": { "a": {}, "b": {} } }), "invalid_request"),
        (json!({ "events": { format!("{CAEP}session-revoked"): true } }), "invalid_request"),
        (json!({ "events": { format!("{CAEP}session-revoked"): { "event_timestamp": now + 61 } } }), "invalid_request"),
        (
            json!({ "events": { format!("{CAEP}session-revoked"): { "event_timestamp": now * 1000 } } }),
            "invalid_request",
        ),
        (json!({ "events": { format!("{CAEP}session-revoked"): { "event_timestamp": "1" } } }), "invalid_request"),
        (json!({ "events": { format!("{CAEP}session-revoked"): { "event_timestamp": -1 } } }), "invalid_request"),
        (json!({ "events": { format!("{CAEP}credential-change"): {} } }), "invalid_request"),
        (
            json!({ "events": { format!("{CAEP}device-compliance-change"): { "current_status": "ok" } } }),
            "invalid_request",
        ),
        (json!({ "x": "y".repeat(MAX_EVENT_BYTES) }), "invalid_request"),
    ] {
        assert_eq!(with(&bad).map_err(|fault| fault.code()), Err(code), "{bad}");
    }
    let mallory = EncodingKey::from_ec_der(&pkcs8(&PKCS_ECDSA_P256_SHA256));
    let good = claims("session-revoked", &ada(), &json!({}));
    let mut header = Header::new(Algorithm::ES256);
    for (kid, code) in [("ec", "authentication_failed"), ("other", "invalid_key")] {
        (header.typ, header.kid) = (Some("secevent+jwt".into()), Some(kid.into()));
        let forged = encode(&header, &good, &mallory).unwrap();
        assert_eq!(verify(&forged, &JWKS, &rules(), NOW).map_err(|fault| fault.code()), Err(code));
    }
}

#[test]
fn a09_other_tokens_are_no_events_and_events_are_no_other_tokens() {
    let good = claims("session-revoked", &ada(), &json!({}));
    for typ in [None, Some("JWT"), Some("at+jwt"), Some("logout+jwt"), Some("")] {
        assert!(verify(&signed(typ, &good), &JWKS, &rules(), NOW).is_err(), "{typ:?}");
    }
    let mut both = good;
    (both["iss"], both["aud"], both["sub"], both["exp"]) =
        (PROVIDER.into(), "postern".into(), "ada".into(), (NOW.seconds() + 60).into());
    let provider = ProviderRules {
        issuer: PROVIDER.into(),
        client_id: "postern".into(),
        resource: Some("postern".into()),
        groups_claim: "groups".into(),
        max_age: Duration::from_secs(900),
    };
    let logout = crate::logout::LogoutRules { issuer: PROVIDER.into(), client_id: "postern".into(), untyped: true };
    for typ in [None, Some("JWT"), Some("secevent+jwt"), Some("at+jwt"), Some("logout+jwt")] {
        let token = signed(typ, &both);
        assert!(crate::provider::verify(&token, TokenKind::Id, &JWKS, &provider, NOW).is_err(), "{typ:?}");
        assert!(crate::provider::verify(&token, TokenKind::Access, &JWKS, &provider, NOW).is_err(), "{typ:?}");
        assert!(crate::logout::verify(&token, &JWKS, &logout, NOW).is_err(), "{typ:?}");
    }
}

#[test]
fn the_time_of_an_event_is_its_own_and_never_later_than_now() {
    let at = |event: Value| match effect_of("session-revoked", &ada(), &event) {
        Effect::End(sessions) => sessions.at,
        other => panic!("{other:?}"),
    };
    assert_eq!(at(json!({ "event_timestamp": 1_800_000_000 })), Timestamp::from_seconds(1_800_000_000));
    assert_eq!(at(json!({ "event_timestamp": 1_800_000_000.5 })), Timestamp::from_millis(1_800_000_000_500));
    assert_eq!(at(json!({ "event_timestamp": NOW.seconds() + 30 })), NOW);
}

proptest! {
    /// A30, A57: any text ends in a verdict, and a damaged event in a refusal.
    #[test]
    fn a57_damaged_events_are_refused(text in ".*", at in 0usize..900, with in "[ -~]", cut in 0usize..900) {
        static GOOD: LazyLock<String> =
            LazyLock::new(|| signed(Some("secevent+jwt"), &claims("session-revoked", &ada(), &json!({}))));
        prop_assert!(verify(&text, &JWKS, &rules(), NOW).is_err());
        let _ = claimed_issuer(&text);
        let at = at % GOOD.len();
        let damaged = format!("{}{with}{}", &GOOD[..at], &GOOD[at + 1..]);
        let _ = claimed_issuer(&damaged);
        prop_assert_eq!(verify(&damaged, &JWKS, &rules(), NOW).is_ok(), damaged == *GOOD);
        prop_assert!(verify(&GOOD[..cut % GOOD.len()], &JWKS, &rules(), NOW).is_err());
    }

    /// A30: well signed, but with a value of any type for any claim or member.
    #[test]
    fn a30_odd_claims_never_panic(
        place in 0usize..9,
        value in prop_oneof![
            Just(json!(null)), Just(json!(true)), Just(json!(-0.0)), Just(json!(1e308)), Just(json!(u64::MAX)),
            Just(json!(i64::MIN)), Just(json!("")), Just(json!([])), Just(json!([[]])), Just(json!({})), Just(json!([null])),
        ],
    ) {
        let mut claims = claims("device-compliance-change", &ada(), &json!({ "current_status": "compliant" }));
        let uri = format!("{CAEP}device-compliance-change");
        match place {
            0 => claims["iss"] = value,
            1 => claims["aud"] = value,
            2 => claims["iat"] = value,
            3 => claims["jti"] = value,
            4 => claims["sub_id"] = value,
            5 => claims["sub_id"]["format"] = value,
            6 => claims["events"] = value,
            7 => claims["events"][uri]["event_timestamp"] = value,
            _ => claims["events"][uri]["current_status"] = value,
        }
        let _ = check(&claims);
    }
}
