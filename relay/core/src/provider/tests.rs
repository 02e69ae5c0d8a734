//! The provider's tokens: what a real provider signs passes, every known trick does not.

use super::*;
use crate::fixture::{NOW, PROVIDER, key, pkcs8};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proptest::prelude::*;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// A provider with one key of each kind.
struct Provider {
    ec: EncodingKey,
    rsa: EncodingKey,
    ed: EncodingKey,
    keys: Vec<Value>,
}

static IDP: LazyLock<Provider> = LazyLock::new(|| {
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let ed = key(&PKCS_ED25519);
    let okp = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": URL_SAFE_NO_PAD.encode(ed.public_key_raw()) });
    let (ec, rsa, ed) = (
        EncodingKey::from_ec_der(&pkcs8(&PKCS_ECDSA_P256_SHA256)),
        EncodingKey::from_rsa_pem(rsa.serialize_pem().as_bytes()).unwrap(),
        EncodingKey::from_ed_der(&ed.serialize_der()),
    );
    let public = |key, algorithm, id: &str| {
        let mut jwk = Jwk::from_encoding_key(key, algorithm).unwrap();
        (jwk.common.key_id, jwk.common.key_algorithm) = (Some(id.into()), None);
        serde_json::to_value(jwk).unwrap()
    };
    let keys = vec![public(&ec, Algorithm::ES256, "ec"), public(&rsa, Algorithm::RS256, "rsa"), okp];
    Provider { ec, rsa, ed, keys }
});

fn jwks() -> Jwks {
    Jwks::parse(json!({ "keys": IDP.keys }).to_string().as_bytes()).unwrap()
}

fn rules() -> ProviderRules {
    ProviderRules {
        issuer: PROVIDER.into(),
        client_id: "postern".into(),
        resource: Some("https://relay.corp.example".into()),
        groups_claim: "groups".into(),
        max_age: Duration::from_secs(900),
    }
}

fn id_claims() -> Value {
    json!({
        "iss": PROVIDER, "sub": "alice", "aud": "postern", "iat": NOW.seconds() - 10, "exp": NOW.seconds() + 600,
        "nonce": "n-0S6_WzA2Mj", "email": "alice@corp.example", "email_verified": true, "name": "Alice",
        "groups": ["staff", "admins", "staff"], "acr": "urn:mfa", "amr": ["pwd", "otp"], "auth_time": NOW.seconds() - 60,
    })
}

fn access_claims() -> Value {
    json!({
        "iss": PROVIDER, "sub": "ci-runner", "aud": "https://relay.corp.example", "client_id": "ci-runner",
        "iat": NOW.seconds(), "exp": NOW.seconds() + 600, "jti": "1",
    })
}

fn header(typ: Option<&str>, algorithm: Algorithm, kid: Option<&str>) -> Header {
    let mut header = Header::new(algorithm);
    header.typ = typ.map(String::from);
    header.kid = kid.map(String::from);
    header
}

fn signed(typ: Option<&str>, claims: &Value) -> String {
    encode(&header(typ, Algorithm::ES256, Some("ec")), claims, &IDP.ec).unwrap()
}

fn check(token: &str, kind: TokenKind) -> Result<Identity, TokenFault> {
    verify(token, kind, &jwks(), &rules(), NOW)
}

/// An ID token with these claims changed; `null` takes one away.
fn id_with(changes: &Value) -> Result<Identity, TokenFault> {
    let mut claims = id_claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    check(&signed(Some("JWT"), &claims), TokenKind::Id)
}

fn is_invalid(result: &Result<Identity, TokenFault>) -> bool {
    matches!(result, Err(TokenFault::Invalid(_)))
}

#[test]
fn an_id_token_tells_who() {
    let identity = id_with(&json!({})).unwrap();
    assert_eq!(identity.key, PrincipalKey::new(PROVIDER, "alice").unwrap());
    assert_eq!(identity.groups, ["admins", "staff"]);
    assert_eq!(identity.nonce.as_deref(), Some("n-0S6_WzA2Mj"));
    assert_eq!(identity.amr, ["pwd", "otp"]);
    assert_eq!(identity.auth_time, Some(NOW.minus(Duration::from_secs(60))));
    assert!(check(&signed(None, &id_claims()), TokenKind::Id).is_ok());
    for (algorithm, kid, key) in
        [(Algorithm::RS256, "rsa", &IDP.rsa), (Algorithm::PS512, "rsa", &IDP.rsa), (Algorithm::EdDSA, "ed", &IDP.ed)]
    {
        let token = encode(&header(None, algorithm, Some(kid)), &id_claims(), key).unwrap();
        assert!(check(&token, TokenKind::Id).is_ok(), "{algorithm:?}");
    }
}

#[test]
fn an_access_token_tells_who() {
    for typ in ["at+jwt", "application/at+jwt", "AT+JWT"] {
        let identity = check(&signed(Some(typ), &access_claims()), TokenKind::Access).unwrap();
        assert_eq!(identity.client_id.as_deref(), Some("ci-runner"));
        assert_eq!(identity.groups, Vec::<String>::new(), "no claim, no groups");
    }
    let closed = ProviderRules { resource: None, ..rules() };
    let token = signed(Some("at+jwt"), &access_claims());
    assert!(is_invalid(&verify(&token, TokenKind::Access, &jwks(), &closed, NOW)));
}

#[test]
fn a06_unsigned_and_confused_algorithms_are_refused() {
    let payload = URL_SAFE_NO_PAD.encode(id_claims().to_string());
    for alg in ["none", "None", "NONE", "nOnE", "HS256"] {
        let head = URL_SAFE_NO_PAD.encode(json!({ "alg": alg, "kid": "rsa" }).to_string());
        for signature in ["", "AAAA"] {
            assert!(is_invalid(&check(&format!("{head}.{payload}.{signature}"), TokenKind::Id)), "{alg}");
        }
    }
    // HS256 keyed with each public form an attacker can get hold of.
    let modulus = IDP.keys[1]["n"].as_str().unwrap();
    for secret in
        [modulus.as_bytes().to_vec(), URL_SAFE_NO_PAD.decode(modulus).unwrap(), IDP.keys[1].to_string().into()]
    {
        for kid in [Some("rsa"), None] {
            let head = header(None, Algorithm::HS256, kid);
            let token = encode(&head, &id_claims(), &EncodingKey::from_secret(&secret)).unwrap();
            assert!(is_invalid(&check(&token, TokenKind::Id)));
        }
    }
    // The right key under another key's name or algorithm.
    let token = encode(&header(None, Algorithm::RS256, Some("ec")), &id_claims(), &IDP.rsa).unwrap();
    assert!(is_invalid(&check(&token, TokenKind::Id)));
    let declared = json!({ "keys": [{ "alg": "RS512", "kty": "RSA", "kid": "rsa", "n": modulus, "e": "AQAB" }] });
    let declared = Jwks::parse(declared.to_string().as_bytes()).unwrap();
    let token = encode(&header(None, Algorithm::RS256, Some("rsa")), &id_claims(), &IDP.rsa).unwrap();
    assert!(is_invalid(&verify(&token, TokenKind::Id, &declared, &rules(), NOW)), "the key says RS512 only");
}

#[test]
fn a06_a_kid_is_a_name_and_never_a_path_query_or_key() {
    for kid in ["../../../../etc/passwd", "/dev/null", "' OR 1=1 --", "ec\0", "EC", "", "https://evil.example/jwks"] {
        let token = encode(&header(None, Algorithm::ES256, Some(kid)), &id_claims(), &IDP.ec).unwrap();
        assert_eq!(check(&token, TokenKind::Id), Err(TokenFault::UnknownKey), "{kid}");
    }
}

#[test]
fn a11_a_header_cannot_bring_its_own_key() {
    let mallory = EncodingKey::from_ec_der(&pkcs8(&PKCS_ECDSA_P256_SHA256));
    for kid in [Some("ec"), None] {
        let mut head = header(None, Algorithm::ES256, kid);
        head.jwk = Some(Jwk::from_encoding_key(&mallory, Algorithm::ES256).unwrap());
        head.jku = Some("https://evil.example/jwks".into());
        head.x5u = Some("http://169.254.169.254/".into());
        assert!(is_invalid(&check(&encode(&head, &id_claims(), &mallory).unwrap(), TokenKind::Id)));
        // With the provider's own signature such a header changes nothing: it is not looked at.
        assert!(check(&encode(&head, &id_claims(), &IDP.ec).unwrap(), TokenKind::Id).is_ok());
    }
}

#[test]
fn a07_times_are_numbers_and_present() {
    let (past, future) = (NOW.seconds() - 10, NOW.seconds() + 600);
    for bad in [
        json!({ "exp": future.to_string() }),
        json!({ "exp": null }),
        json!({ "exp": [future] }),
        json!({ "exp": -1 }),
        json!({ "exp": true }),
        json!({ "iat": null }),
        json!({ "iat": past.to_string() }),
        json!({ "iat": {} }),
        json!({ "nbf": past.to_string() }),
        json!({ "nbf": future }),
        json!({ "iat": future }),
        json!({ "exp": 1e300 }),
        json!({ "auth_time": "1" }),
        json!({ "auth_time": NOW.seconds() + 61 }),
    ] {
        assert!(is_invalid(&id_with(&bad)), "{bad}");
    }
    // Canaille writes fractions.
    assert!(id_with(&json!({ "auth_time": 1_899_999_000.25, "iat": 1_899_999_990.5 })).is_ok());
}

#[test]
fn old_and_ended_tokens_are_stale() {
    let at = |iat: u64, exp: u64| id_with(&json!({ "iat": iat, "exp": exp }));
    let now = NOW.seconds();
    assert!(matches!(at(now - 901, now + 600), Err(TokenFault::Stale(_))));
    assert!(at(now - 900, now + 600).is_ok());
    assert!(matches!(at(now - 300, now - 60), Err(TokenFault::Stale(_))));
    assert!(at(now - 300, now - 59).is_ok(), "within the permitted skew");
    assert!(at(now + 60, now + 600).is_ok(), "within the permitted skew");
    assert!(is_invalid(&at(now + 61, now + 600)));
}

#[test]
fn a08_tokens_for_others_are_refused() {
    for bad in [
        json!({ "aud": "other" }),
        json!({ "aud": ["other"] }),
        json!({ "aud": null }),
        json!({ "aud": [] }),
        json!({ "aud": 7 }),
        json!({ "aud": "postern2" }),
        json!({ "aud": "Postern" }),
        json!({ "azp": "other" }),
        json!({ "aud": ["postern", "other"] }),
        json!({ "aud": ["postern", "other"], "azp": "other" }),
        json!({ "aud": [{ "postern": 1 }, "postern"] }),
        json!({ "iss": "https://evil.example" }),
        json!({ "iss": format!("{PROVIDER}/") }),
        json!({ "iss": null }),
        json!({ "aud": "https://relay.corp.example" }),
    ] {
        assert!(is_invalid(&id_with(&bad)), "{bad}");
    }
    assert!(id_with(&json!({ "aud": ["postern", "other"], "azp": "postern" })).is_ok());
    let mut other = access_claims();
    other["aud"] = json!("postern");
    assert!(is_invalid(&check(&signed(Some("at+jwt"), &other), TokenKind::Access)));
}

#[test]
fn a09_one_kind_of_token_does_not_pass_for_another() {
    for typ in ["at+jwt", "logout+jwt", "secevent+jwt", "postern-identity+jwt", "dpop+jwt", ""] {
        assert!(is_invalid(&check(&signed(Some(typ), &id_claims()), TokenKind::Id)), "{typ}");
    }
    let mut both = access_claims();
    both["aud"] = json!(["postern", "https://relay.corp.example"]);
    both["azp"] = json!("postern");
    for typ in [None, Some("JWT"), Some("logout+jwt")] {
        assert!(is_invalid(&check(&signed(typ, &both), TokenKind::Access)), "{typ:?}");
    }
    // Glewlwyd gives its logout tokens the typ of an ID token.
    let events = json!({ "events": { "http://schemas.openid.net/event/backchannel-logout": {} } });
    assert!(is_invalid(&id_with(&events)));
}

#[test]
fn a10_identity_is_issuer_and_subject_alone() {
    let one = id_with(&json!({ "sub": "1001", "email": "boss@corp.example" })).unwrap();
    let two = id_with(&json!({ "sub": "1002", "email": "boss@corp.example" })).unwrap();
    assert_ne!(one.key, two.key);
    assert_eq!(one.key, id_with(&json!({ "sub": "1001", "email": "new@corp.example" })).unwrap().key);
    for unverified in [json!(false), json!("false"), json!("False"), json!("no"), json!(0), json!(null)] {
        let identity = id_with(&json!({ "email_verified": unverified })).unwrap();
        assert_eq!(identity.email.is_some(), unverified.is_null(), "{unverified}");
        assert_eq!(identity.key.subject(), "alice");
    }
    for bad in [json!({ "sub": null }), json!({ "sub": "" }), json!({ "sub": 1 }), json!({ "sub": "x".repeat(256) })] {
        assert!(is_invalid(&id_with(&bad)));
    }
}

#[test]
fn groups_are_those_of_this_token_or_none() {
    assert_eq!(id_with(&json!({ "groups": null })).unwrap().groups, Vec::<String>::new());
    assert_eq!(id_with(&json!({ "groups": "staff" })).unwrap().groups, ["staff"]);
    let overage = json!({ "groups": null, "_claim_names": { "groups": "src1" } });
    assert!(is_invalid(&id_with(&overage)), "Entra's overage would pass by every forbid for a group");
    let many: Vec<String> = (0..=MAX_GROUPS).map(|n| n.to_string()).collect();
    for bad in [json!(7), json!([7]), json!([""]), json!({ "staff": true }), json!(many), json!(["x".repeat(513)])] {
        assert!(is_invalid(&id_with(&json!({ "groups": bad }))), "{bad}");
    }
}

#[test]
fn a55_what_people_see_drives_no_terminal() {
    let identity = id_with(&json!({ "name": "A\u{1b}[2J\r\nB", "email": "a\u{202e}b@corp.example" })).unwrap();
    for shown in [identity.name.unwrap(), identity.email.unwrap()] {
        assert!(!shown.contains(['\u{1b}', '\r', '\n', '\u{202e}']));
    }
    assert!(is_invalid(&id_with(&json!({ "sub": "alice\u{1b}[2J" }))));
}

#[test]
fn what_must_be_understood_is_not_and_a_claim_stands_once() {
    let mut head = header(None, Algorithm::ES256, Some("ec"));
    head.crit = Some(vec!["b64".into()]);
    assert!(is_invalid(&check(&encode(&head, &id_claims(), &IDP.ec).unwrap(), TokenKind::Id)));

    let token = encode(&header(None, Algorithm::ES256, Some("ec")), &Twice(id_claims()), &IDP.ec).unwrap();
    assert!(is_invalid(&check(&token, TokenKind::Id)));
}

/// Claims with a second `sub` before them.
struct Twice(Value);

impl serde::Serialize for Twice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("sub", "mallory")?;
        for (name, value) in self.0.as_object().unwrap() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[test]
fn a_key_set_is_bounded_and_holds_only_keys_that_verify() {
    let parse = |keys: Value| Jwks::parse(json!({ "keys": keys }).to_string().as_bytes());
    let (ec, mut encryption, mut signing) = (&IDP.keys[0], IDP.keys[0].clone(), IDP.keys[0].clone());
    encryption["use"] = json!("enc");
    signing["key_ops"] = json!(["sign"]);
    let unknown = json!({ "kty": "AKP", "alg": "ML-DSA-44", "kid": "pq", "pub": "AA" });
    let secret = json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "hmac" });
    assert!(parse(json!([unknown, secret, encryption, signing, ec])).is_ok());
    for useless in [json!([]), json!([unknown]), json!([secret]), json!([encryption]), json!([signing])] {
        assert!(parse(useless).is_err());
    }
    assert!(parse(json!(vec![ec.clone(); 101])).is_err());
    assert!(Jwks::parse(&vec![b' '; MAX_JWKS]).is_err());
    assert!(Jwks::parse(b"<html>").is_err());

    // Without a name there must be no choice.
    let nameless = encode(&header(None, Algorithm::ES256, None), &id_claims(), &IDP.ec).unwrap();
    assert!(check(&nameless, TokenKind::Id).is_ok(), "one key is for ES256");
    let mut twin = ec.clone();
    twin["kid"] = json!("ec2");
    let two = parse(json!([ec, twin])).unwrap();
    assert!(is_invalid(&verify(&nameless, TokenKind::Id, &two, &rules(), NOW)));
}

const MAX_JWKS: usize = crate::limits::MAX_JWKS_BYTES + 1;

proptest! {
    /// A30: whatever a provider or a thief sends ends in a verdict.
    #[test]
    fn a30_fuzzed_tokens_and_key_sets_never_panic(text in ".*", at in 0usize..900, with in "[ -~]", junk: Vec<u8>) {
        static GOOD: LazyLock<String> = LazyLock::new(|| signed(Some("JWT"), &id_claims()));
        prop_assert!(check(&text, TokenKind::Id).is_err());
        let at = at % GOOD.len();
        let damaged = format!("{}{with}{}", &GOOD[..at], &GOOD[at + 1..]);
        prop_assert_eq!(check(&damaged, TokenKind::Id).is_ok(), damaged == *GOOD);
        let _ = Jwks::parse(&junk);
    }

    /// A30: well signed, but with a value of any type for any claim.
    #[test]
    fn a30_odd_claims_never_panic(
        name in "(iss|sub|aud|azp|exp|iat|nbf|groups|amr|acr|auth_time|email|email_verified|name|nonce|events)",
        value in prop_oneof![
            Just(json!(null)), Just(json!(true)), Just(json!(-0.0)), Just(json!(1e308)), Just(json!(u64::MAX)),
            Just(json!(i64::MIN)), Just(json!("")), Just(json!([])), Just(json!([[]])), Just(json!({})), Just(json!([null])),
        ],
    ) {
        let mut claims = id_claims();
        claims[name] = value;
        let _ = check(&signed(Some("JWT"), &claims), TokenKind::Id);
    }
}
