//! Keys, tokens and certificates of any shape: what honest parties make, and what attackers would.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// A key that signs tokens, and its JWK.
pub struct TokenKey {
    /// JOSE name of the algorithm.
    pub algorithm: &'static str,
    /// The `kid` it is published under.
    pub id: String,
    secret: Secret,
}

enum Secret {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Hmac(Vec<u8>),
    None,
}

impl TokenKey {
    /// RS256 with 2048 bits.
    pub fn rsa(id: &str) -> Self {
        let pair = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        Self { algorithm: "RS256", id: id.into(), secret: Secret::Rsa(pair) }
    }

    /// ES256.
    pub fn p256(id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { algorithm: "ES256", id: id.into(), secret: Secret::P256(pair) }
    }

    /// EdDSA.
    pub fn ed25519(id: &str) -> Self {
        Self { algorithm: "EdDSA", id: id.into(), secret: Secret::Ed25519(Ed25519KeyPair::generate().unwrap()) }
    }

    /// HS256 with these bytes as the shared secret.
    pub fn hmac(id: &str, secret: &[u8]) -> Self {
        Self { algorithm: "HS256", id: id.into(), secret: Secret::Hmac(secret.to_vec()) }
    }

    /// `none`: no signature at all.
    pub fn none(id: &str) -> Self {
        Self { algorithm: "none", id: id.into(), secret: Secret::None }
    }

    /// The public key as a provider publishes it.
    pub fn jwk(&self) -> Value {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.secret {
            Secret::Rsa(pair) => {
                let public = pair.public_key();
                let (n, e) = (public.modulus().big_endian_without_leading_zero(), public.exponent());
                json!({"kty": "RSA", "n": b64(n), "e": b64(e.big_endian_without_leading_zero())})
            }
            Secret::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..])})
            }
            Secret::Ed25519(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key().as_ref())}),
            Secret::Hmac(_) | Secret::None => json!({"kty": "oct", "k": ""}),
        };
        jwk["kid"] = self.id.clone().into();
        jwk["alg"] = self.algorithm.into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// The public key's bytes in the forms an attacker would try as an HMAC secret.
    pub fn public_bytes(&self) -> Vec<u8> {
        match &self.secret {
            Secret::Rsa(pair) => pair.public_key().as_ref().to_vec(),
            Secret::P256(pair) => pair.public_key().as_ref().to_vec(),
            Secret::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
            Secret::Hmac(_) | Secret::None => Vec::new(),
        }
    }

    /// A compact JWS over `claims`; `header` is added to `alg` and `kid`, and a null takes a member away.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let header = merge(json!({"alg": self.algorithm, "kid": self.id}), header);
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", encode(&header), encode(claims));
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(self.signature(input.as_bytes())))
    }

    fn signature(&self, input: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.secret {
            Secret::Rsa(pair) => {
                let mut bytes = vec![0; pair.public_modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, input, &mut bytes).unwrap();
                bytes
            }
            Secret::P256(pair) => pair.sign(&random, input).unwrap().as_ref().to_vec(),
            Secret::Ed25519(pair) => pair.sign(input).as_ref().to_vec(),
            Secret::Hmac(secret) => {
                let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
                aws_lc_rs::hmac::sign(&key, input).as_ref().to_vec()
            }
            Secret::None => Vec::new(),
        }
    }
}

/// `base` with the members of `changes`; a null takes a member away.
pub fn merge(mut base: Value, changes: &Value) -> Value {
    for (key, value) in changes.as_object().into_iter().flatten() {
        match value {
            Value::Null => drop(base.as_object_mut().unwrap().remove(key)),
            _ => base[key] = value.clone(),
        }
    }
    base
}

/// Seconds since the Unix epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Random bytes in base64url.
pub fn random(length: usize) -> String {
    let mut bytes = vec![0; length];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The claims of a compact JWS, unverified.
#[track_caller]
pub fn claims_of(token: &str) -> Value {
    part_of(token, 1)
}

/// The header of a compact JWS, unverified.
#[track_caller]
pub fn header_of(token: &str) -> Value {
    part_of(token, 0)
}

#[track_caller]
fn part_of(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap_or_else(|| panic!("not a JWS: {token}"));
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}
