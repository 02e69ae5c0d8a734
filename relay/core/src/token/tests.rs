//! Session tokens: what the relay signed for this purpose, and nothing else.

use super::*;
use crate::fixture::{AUDIENCE, NOW, bearer, device, grant, pkcs8, session_signer, signer};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use rcgen::PKCS_ED25519;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::sync::LazyLock;

static KEY: LazyLock<Vec<u8>> = LazyLock::new(|| pkcs8(&PKCS_ED25519));

fn verifier() -> TokenVerifier {
    signer(&KEY).verifier()
}

/// A good token's claims.
fn claims() -> Value {
    let grant = grant(&device(), "alice", &["staff"]);
    let token = signer(&KEY).sign(&grant, NOW, Duration::from_secs(300), 1).unwrap();
    let payload = token.expose_secret().split('.').nth(1).unwrap().to_owned();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn signed(typ: &str, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::EdDSA);
    header.typ = Some(typ.into());
    encode(&header, claims, &EncodingKey::from_ed_der(&KEY)).unwrap()
}

#[test]
fn what_is_signed_comes_back() {
    let grant = grant(&device(), "alice", &["staff", "wiki-editors"]);
    let token = signer(&KEY).sign(&grant, NOW, Duration::from_secs(300), 9).unwrap();
    let session = verifier().verify(token.expose_secret()).unwrap();
    assert_eq!(*session.grant(), grant);
    assert_eq!((session.not_before(), session.expires()), (NOW, NOW.plus(Duration::from_secs(300))));
}

#[test]
fn a07_times_must_be_numbers_and_present() {
    assert!(verifier().verify(&signed("at+jwt", &claims())).is_ok());
    for name in ["exp", "nbf", "iat"] {
        for bad in [json!("1900000300"), json!(null), json!(-1), json!(1.5), json!([1])] {
            let mut claims = claims();
            claims[name] = bad;
            assert_eq!(verifier().verify(&signed("at+jwt", &claims)).unwrap_err(), Code::TokenInvalid, "{name}");
        }
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        assert!(verifier().verify(&signed("at+jwt", &claims)).is_err(), "{name}");
    }
}

#[test]
fn a08_a_token_of_another_issuer_or_audience_is_refused() {
    for (name, other) in [("iss", "https://evil.example"), ("aud", "urn:postern:evil.example"), ("aud", "")] {
        let mut claims = claims();
        claims[name] = json!(other);
        assert!(verifier().verify(&signed("at+jwt", &claims)).is_err(), "{name}");
    }
    let mut several = claims();
    several["aud"] = json!([AUDIENCE, "urn:postern:evil.example"]);
    assert!(verifier().verify(&signed("at+jwt", &several)).is_err());
}

#[test]
fn a09_other_kinds_of_token_are_refused_on_typ_even_with_the_right_key() {
    for typ in ["JWT", "logout+jwt", "secevent+jwt", "postern-identity+jwt", "AT+JWT", ""] {
        assert!(verifier().verify(&signed(typ, &claims())).is_err(), "{typ}");
    }
}

#[test]
fn a06_a_token_of_another_algorithm_is_refused() {
    let (public, payload) = (signer(&KEY).public, URL_SAFE_NO_PAD.encode(claims().to_string()));
    let none = format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"at+jwt"}"#));
    let mut header = Header::new(Algorithm::HS256);
    header.typ = Some(TYP.into());
    let hmac = encode(&header, &claims(), &EncodingKey::from_secret(&public)).unwrap();
    for token in [none, hmac, payload, String::new(), "..".into(), "a.b.c.d".into()] {
        assert_eq!(verifier().verify(&token).unwrap_err(), Code::TokenInvalid);
    }
}

#[test]
fn a14_another_relays_key_is_refused() {
    let token = signer(&pkcs8(&PKCS_ED25519));
    let token = token.sign(&grant(&device(), "alice", &[]), NOW, Duration::from_secs(300), 1).unwrap();
    assert!(verifier().verify(token.expose_secret()).is_err());
    assert!(TokenSigner::from_pkcs8(&pkcs8(&rcgen::PKCS_ECDSA_P256_SHA256), verifier().rules).is_err());
}

#[test]
fn a_repeated_claim_is_refused() {
    let text = claims().to_string().replacen('{', "{\"sub\":\"mallory\",", 1);
    let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","typ":"at+jwt"}"#);
    let message = format!("{head}.{}", URL_SAFE_NO_PAD.encode(text));
    let signature = Ed25519KeyPair::from_pkcs8(&KEY).unwrap().sign(message.as_bytes());
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()));
    assert!(verifier().verify(&token).is_err());
}

#[test]
fn more_groups_than_fit_are_an_error_and_never_cut() {
    let device = device();
    let mut large = grant(&device, "alice", &[]);
    large.groups = (0..MAX_GROUPS + 1).map(|n| n.to_string()).collect();
    let sign = |grant: &SessionGrant| session_signer().sign(grant, NOW, Duration::from_secs(300), 1).map(drop);
    assert_eq!(sign(&large), Err(TokenError::TooLarge));
    large.groups = vec!["x".repeat(MAX_GROUP_BYTES); 100];
    assert_eq!(sign(&large), Err(TokenError::TooLarge));
}

#[test]
fn a55_a_signer_shows_no_secret() {
    let token = bearer(&grant(&device(), "alice", &[]));
    let session = session_signer().verifier().verify(&token).unwrap();
    assert!(!format!("{session:?}").contains(token.rsplit('.').next().unwrap()));
    let secret = session_signer().sign(session.grant(), NOW, Duration::from_secs(1), 1).unwrap();
    assert!(!format!("{secret:?}").contains("eyJ"));
}

proptest! {
    /// A30: whatever stands where a token belongs is refused without a panic.
    #[test]
    fn a30_fuzzed_tokens_never_panic(text in ".*", at in 0usize..900, with in "[ -~]") {
        static GOOD: LazyLock<String> = LazyLock::new(|| signed("at+jwt", &claims()));
        prop_assert!(verifier().verify(&text).is_err());
        let at = at % GOOD.len();
        let damaged = format!("{}{with}{}", &GOOD[..at], &GOOD[at + 1..]);
        prop_assert_eq!(verifier().verify(&damaged).is_ok(), damaged == *GOOD);
    }
}
