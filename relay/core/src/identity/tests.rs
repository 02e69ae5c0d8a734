//! Assertions: verifiable with the published key, short, and good for nothing else.

use super::*;
use crate::fixture::{ISSUER, NOW, PROVIDER, device, pkcs8, session, session_signer};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode};
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use serde_json::Value;

fn signer() -> AssertionSigner {
    AssertionSigner::from_pkcs8(&pkcs8(&PKCS_ECDSA_P256_SHA256), ISSUER.into()).unwrap()
}

/// As an upstream verifies it, from the published key set.
fn read(signer: &AssertionSigner, assertion: &str) -> Value {
    let set: JwkSet = serde_json::from_str(&signer.jwks_json()).unwrap();
    let header = jsonwebtoken::decode_header(assertion).unwrap();
    assert_eq!(header.typ.as_deref(), Some("postern-identity+jwt"));
    let key = DecodingKey::from_jwk(set.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut rules = Validation::new(Algorithm::ES256);
    rules.set_audience(&["wiki"]);
    rules.set_issuer(&[ISSUER]);
    rules.validate_exp = false;
    decode::<Value>(assertion, &key, &rules).unwrap().claims
}

#[test]
fn an_upstream_can_verify_who_calls() {
    let (signer, device) = (signer(), device());
    let session = session(&device, "alice", &["staff"]);
    let assertion = signer.sign(&session, &"wiki".parse().unwrap(), NOW, Duration::from_secs(30)).unwrap();
    let claims = read(&signer, &assertion);
    assert_eq!((&claims["sub"], &claims["idp"]), (&"alice".into(), &PROVIDER.into()));
    assert_eq!(claims["groups"], serde_json::json!(["staff"]));
    assert_eq!(claims["dev"], device.id().as_str());
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 30);
}

#[test]
fn it_lives_a_minute_at_most_and_no_longer_than_the_session() {
    let signer = signer();
    let session = session(&device(), "alice", &[]);
    let app = "wiki".parse().unwrap();
    let expires = |now| {
        let assertion = signer.sign(&session, &app, now, Duration::from_secs(86_400)).unwrap();
        Timestamp::from_seconds(read(&signer, &assertion)["exp"].as_u64().unwrap())
    };
    assert_eq!(expires(NOW), NOW.plus(MAX_LIFETIME));
    assert_eq!(expires(session.expires().minus(Duration::from_secs(5))), session.expires());
}

#[test]
fn a14_the_key_set_holds_one_public_key_and_no_private_part() {
    let set: Value = serde_json::from_str(&signer().jwks_json()).unwrap();
    let keys = set["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!((&keys[0]["kty"], &keys[0]["alg"], &keys[0]["use"]), (&"EC".into(), &"ES256".into(), &"sig".into()));
    assert!(keys[0].get("d").is_none());
    assert!(AssertionSigner::from_pkcs8(&pkcs8(&PKCS_ED25519), ISSUER.into()).is_err());
}

#[test]
fn a14_an_assertion_is_no_session_token_and_the_reverse() {
    let (signer, device) = (signer(), device());
    let session = session(&device, "alice", &[]);
    let assertion = signer.sign(&session, &"wiki".parse().unwrap(), NOW, Duration::from_secs(30)).unwrap();
    assert!(session_signer().verifier().verify(&assertion).is_err());
    let set: JwkSet = serde_json::from_str(&signer.jwks_json()).unwrap();
    let key = DecodingKey::from_jwk(&set.keys[0]).unwrap();
    let token = crate::fixture::bearer(session.grant());
    assert!(decode::<Value>(&token, &key, &Validation::new(Algorithm::ES256)).is_err());
}
