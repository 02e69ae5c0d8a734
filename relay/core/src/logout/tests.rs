//! Logout tokens: the provider's pass, and nothing else does.

use super::*;
use crate::fixture::{NOW, PROVIDER, pkcs8};
use crate::provider::{ProviderRules, TokenKind};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, encode};
use proptest::prelude::*;
use rcgen::PKCS_ECDSA_P256_SHA256;
use serde_json::{Value, json};
use std::sync::LazyLock;

static KEY: LazyLock<EncodingKey> = LazyLock::new(|| EncodingKey::from_ec_der(&pkcs8(&PKCS_ECDSA_P256_SHA256)));
static JWKS: LazyLock<Jwks> = LazyLock::new(|| {
    let mut jwk = Jwk::from_encoding_key(&KEY, Algorithm::ES256).unwrap();
    jwk.common.key_id = Some("ec".into());
    Jwks::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap()
});

fn rules(untyped: bool) -> LogoutRules {
    LogoutRules { issuer: PROVIDER.into(), client_id: "postern".into(), untyped }
}

fn claims() -> Value {
    json!({
        "iss": PROVIDER, "aud": "postern", "sub": "alice", "sid": "s-1", "jti": "j-1",
        "iat": NOW.seconds() - 1, "exp": NOW.seconds() + 120, "events": { EVENT: {} },
    })
}

/// The claims with these changed; `null` takes one away.
fn with(changes: &Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

fn signed(typ: Option<&str>, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::ES256);
    (header.typ, header.kid) = (typ.map(String::from), Some("ec".into()));
    encode(&header, claims, &KEY).unwrap()
}

fn check(changes: &Value) -> Result<Logout, TokenFault> {
    verify(&signed(Some("logout+jwt"), &with(changes)), &JWKS, &rules(false), NOW)
}

#[test]
fn a_logout_token_tells_which_sessions_end() {
    let logout = check(&json!({})).unwrap();
    assert_eq!(logout.principal, Some(PrincipalKey::new(PROVIDER, "alice").unwrap()));
    assert_eq!((logout.provider_session.as_deref(), logout.jti.as_str()), (Some("s-1"), "j-1"));
    assert_eq!(logout.until, NOW.plus(Duration::from_secs(180)), "its end and the permitted skew");
    assert_eq!(check(&json!({ "sub": null })).unwrap().principal, None);
    assert_eq!(check(&json!({ "sid": null })).unwrap().provider_session, None);
    assert!(check(&json!({ "aud": ["postern", "other"] })).is_ok());
    assert!(verify(&signed(Some("application/logout+jwt"), &claims()), &JWKS, &rules(false), NOW).is_ok());
}

#[test]
fn a57_what_is_not_exactly_a_logout_token_is_refused() {
    let now = NOW.seconds();
    for bad in [
        json!({ "iss": "https://evil.example" }),
        json!({ "iss": null }),
        json!({ "aud": "other" }),
        json!({ "aud": null }),
        json!({ "aud": [] }),
        json!({ "jti": null }),
        json!({ "jti": "" }),
        json!({ "jti": 7 }),
        json!({ "jti": "x".repeat(513) }),
        json!({ "sub": null, "sid": null }),
        json!({ "sub": "" }),
        json!({ "sub": "a\u{1b}[2J" }),
        json!({ "sub": ["alice"] }),
        json!({ "sid": 7 }),
        json!({ "iat": null }),
        json!({ "iat": now + 61 }),
        json!({ "iat": now.to_string() }),
        json!({ "exp": null }),
        json!({ "exp": (now + 60).to_string() }),
        json!({ "exp": now - 60 }),
        json!({ "iat": now - 660 }),
        json!({ "nbf": now + 61 }),
        json!({ "nonce": "n" }),
        json!({ "nonce": 7 }),
        json!({ "events": null }),
        json!({ "events": [] }),
        json!({ "events": {} }),
        json!({ "events": EVENT }),
        json!({ "events": { EVENT: true } }),
        json!({ "events": { EVENT: null } }),
        json!({ "events": { EVENT: [] } }),
        json!({ "events": { EVENT: {}, "https://schemas.openid.net/secevent/caep/event-type/session-revoked": {} } }),
        json!({ "events": { "https://schemas.openid.net/event/backchannel-logout": {} } }),
    ] {
        assert!(check(&bad).is_err(), "{bad}");
    }
    let long = json!({ "x": "y".repeat(MAX_EVENT_BYTES) });
    assert!(check(&long).is_err(), "oversized");
}

#[test]
fn a09_every_other_kind_of_token_is_refused() {
    for typ in [None, Some("JWT"), Some("at+jwt"), Some("secevent+jwt"), Some("postern-identity+jwt"), Some("")] {
        assert!(verify(&signed(typ, &claims()), &JWKS, &rules(false), NOW).is_err(), "{typ:?}");
    }
    for typ in [Some("at+jwt"), Some("secevent+jwt"), Some("")] {
        assert!(verify(&signed(typ, &claims()), &JWKS, &rules(true), NOW).is_err(), "{typ:?}");
    }
    // An ID token, with the switch for old providers on: it lacks the event, and mostly has a nonce.
    let id = with(&json!({ "events": null, "nonce": "n" }));
    assert!(verify(&signed(Some("JWT"), &id), &JWKS, &rules(true), NOW).is_err());
    let id = with(&json!({ "events": null }));
    assert!(verify(&signed(Some("JWT"), &id), &JWKS, &rules(true), NOW).is_err());
    // And the reverse: no logout token signs anybody in, typed or not.
    let provider = ProviderRules {
        issuer: PROVIDER.into(),
        client_id: "postern".into(),
        resource: Some("postern".into()),
        groups_claim: "groups".into(),
        max_age: Duration::from_secs(900),
    };
    for typ in [None, Some("JWT"), Some("logout+jwt"), Some("at+jwt")] {
        for kind in [TokenKind::Id, TokenKind::Access] {
            assert!(crate::provider::verify(&signed(typ, &claims()), kind, &JWKS, &provider, NOW).is_err(), "{typ:?}");
        }
    }
}

/// Glewlwyd: `typ` JWT, no `exp`.
#[test]
fn an_old_providers_token_passes_by_the_switch_and_for_two_minutes() {
    let old = |age: u64| with(&json!({ "exp": null, "iat": NOW.seconds() - age }));
    for typ in [None, Some("JWT"), Some("logout+jwt")] {
        assert!(verify(&signed(typ, &old(119)), &JWKS, &rules(true), NOW).is_ok());
        assert!(verify(&signed(typ, &old(120)), &JWKS, &rules(true), NOW).is_err());
        assert!(verify(&signed(typ, &old(0)), &JWKS, &rules(false), NOW).is_err());
    }
}

#[test]
fn a_token_is_worth_nothing_once_its_name_may_be_forgotten() {
    let token = signed(Some("logout+jwt"), &with(&json!({ "exp": NOW.seconds() + 100_000 })));
    let until = verify(&token, &JWKS, &rules(false), NOW).unwrap().until;
    assert!(verify(&token, &JWKS, &rules(false), Timestamp::from_millis(until.millis() - 1)).is_ok());
    assert!(verify(&token, &JWKS, &rules(false), until).is_err());
}

#[test]
fn a06_another_key_or_none_does_not_sign() {
    let mallory = EncodingKey::from_ec_der(&pkcs8(&PKCS_ECDSA_P256_SHA256));
    let mut header = Header::new(Algorithm::ES256);
    (header.typ, header.kid) = (Some("logout+jwt".into()), Some("ec".into()));
    assert!(verify(&encode(&header, &claims(), &mallory).unwrap(), &JWKS, &rules(false), NOW).is_err());
    header.crit = Some(vec!["exp".into()]);
    assert!(verify(&encode(&header, &claims(), &KEY).unwrap(), &JWKS, &rules(false), NOW).is_err());
    header = Header::new(Algorithm::HS256);
    (header.typ, header.kid) = (Some("logout+jwt".into()), Some("ec".into()));
    let hmac = EncodingKey::from_secret(b"public");
    assert!(verify(&encode(&header, &claims(), &hmac).unwrap(), &JWKS, &rules(false), NOW).is_err());
}

proptest! {
    /// A30, A57: any text ends in a verdict, and a damaged token in a refusal.
    #[test]
    fn a57_damaged_tokens_are_refused(text in ".*", at in 0usize..900, with in "[ -~]", cut in 0usize..900) {
        static GOOD: LazyLock<String> = LazyLock::new(|| signed(Some("logout+jwt"), &claims()));
        prop_assert!(verify(&text, &JWKS, &rules(true), NOW).is_err());
        let at = at % GOOD.len();
        let damaged = format!("{}{with}{}", &GOOD[..at], &GOOD[at + 1..]);
        prop_assert_eq!(verify(&damaged, &JWKS, &rules(true), NOW).is_ok(), damaged == *GOOD);
        prop_assert!(verify(&GOOD[..cut % GOOD.len()], &JWKS, &rules(true), NOW).is_err());
    }

    /// A30: well signed, but with a value of any type for any claim.
    #[test]
    fn a30_odd_claims_never_panic(
        name in "(iss|sub|aud|sid|exp|iat|nbf|jti|nonce|events)",
        value in prop_oneof![
            Just(json!(null)), Just(json!(true)), Just(json!(-0.0)), Just(json!(1e308)), Just(json!(u64::MAX)),
            Just(json!(i64::MIN)), Just(json!("")), Just(json!([])), Just(json!([[]])), Just(json!({})), Just(json!([null])),
        ],
    ) {
        let mut claims = claims();
        claims[name] = value;
        let _ = verify(&signed(Some("logout+jwt"), &claims), &JWKS, &rules(true), NOW);
    }
}
