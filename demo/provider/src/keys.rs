//! Randomness, hashes and the one signing key, made anew at each start.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Serialize;
use serde_json::Value;

/// RS256, the one algorithm that every OpenID client must know (OpenID Connect Discovery §3).
pub(crate) struct SigningKey {
    key: EncodingKey,
    public: Jwk,
    verify: DecodingKey,
}

impl SigningKey {
    /// A new key of 2048 bits. `None`: the crypto library refused, which it has no reason to.
    pub(crate) fn generate() -> Option<Self> {
        let pair = KeyPair::generate(KeySize::Rsa2048).ok()?;
        let der: Pkcs8V1Der<'_> = pair.as_der().ok()?;
        let pem =
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der.as_ref()));
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).ok()?;
        let mut public = Jwk::from_encoding_key(&key, Algorithm::RS256).ok()?;
        public.common.key_id = Some(public.thumbprint(ThumbprintHash::SHA256).ok()?);
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        let verify = DecodingKey::from_jwk(&public).ok()?;
        Some(Self { key, public, verify })
    }

    /// The key set at `jwks_uri`.
    pub(crate) fn jwks(&self) -> JwkSet {
        JwkSet { keys: vec![self.public.clone()] }
    }

    /// A token of type `typ` with these claims.
    pub(crate) fn sign(&self, typ: &str, claims: &impl Serialize) -> Option<String> {
        let mut header = Header::new(Algorithm::RS256);
        header.typ = Some(typ.into());
        header.kid.clone_from(&self.public.common.key_id);
        jsonwebtoken::encode(&header, claims, &self.key).ok()
    }

    /// The claims of an ID token of ours, expired or not: a logout hint may be old.
    pub(crate) fn hint(&self, token: &str) -> Option<Value> {
        let mut rules = Validation::new(Algorithm::RS256);
        rules.validate_exp = false;
        rules.validate_aud = false;
        rules.required_spec_claims.clear();
        let token = jsonwebtoken::decode::<Value>(token, &self.verify, &rules).ok()?;
        (token.header.typ.as_deref() == Some("JWT")).then_some(token.claims)
    }
}

/// 256 random bits as text. `None`: no randomness, so nothing may be issued.
pub(crate) fn secret() -> Option<String> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// A code for people to type: eight consonants, so that it forms no word, 34 bits.
pub(crate) fn user_code() -> Option<String> {
    const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
    let mut code = String::new();
    while code.len() < 9 {
        let mut byte = [0; 1];
        aws_lc_rs::rand::fill(&mut byte).ok()?;
        // 240 is the largest multiple of 20 in a byte: taking more would favour the first letters.
        let [byte] = byte;
        if let (true, Some(&letter)) = (byte < 240, LETTERS.get(usize::from(byte % 20))) {
            code.push(char::from(letter));
        }
        if code.len() == 4 {
            code.push('-');
        }
    }
    Some(code)
}

/// SHA-256. Secrets are stored and compared by it, so a comparison's timing tells nothing of them.
pub(crate) fn sha256(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

/// The S256 challenge of a verifier (RFC 7636 §4.2).
pub(crate) fn s256(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(sha256(verifier))
}

/// The left half of a token's hash (OpenID Connect Core §3.1.3.6).
pub(crate) fn at_hash(token: &str) -> String {
    let hash = sha256(token);
    let (half, _) = hash.split_at(16);
    URL_SAFE_NO_PAD.encode(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s256_is_that_of_rfc_7636_appendix_b() {
        assert_eq!(s256("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn user_codes_are_eight_consonants_in_two_halves() {
        let code = user_code().unwrap();
        let (left, right) = code.split_once('-').unwrap();
        assert!(left.len() == 4 && right.len() == 4 && !code.contains(['A', 'E', 'I', 'O', 'U', 'Y']), "{code}");
    }
}
