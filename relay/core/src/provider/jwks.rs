//! The provider's key set (RFC 7517): only keys that verify signatures we accept, each with the algorithms it may be used with.

use super::TokenFault;
use crate::claims::Claims;
use crate::limits::{MAX_JWKS_BYTES, MAX_JWKS_KEYS};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode};
use serde::Deserialize;
use serde_json::Value;

use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};

/// A parsed key set.
#[derive(Clone, Debug, Default)]
pub struct Jwks {
    keys: Vec<Key>,
}

#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl Jwks {
    /// Parses a key set. Keys of unknown kinds or for other uses are passed over, as RFC 7517 §5 asks.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        if json.len() > MAX_JWKS_BYTES {
            return Err(format!("the key set is larger than {MAX_JWKS_BYTES} bytes"));
        }
        let document: Document = serde_json::from_slice(json).map_err(|e| format!("the key set is not valid: {e}"))?;
        if document.keys.len() > MAX_JWKS_KEYS {
            return Err(format!("the key set holds more than {MAX_JWKS_KEYS} keys"));
        }
        let keys: Vec<Key> = document.keys.into_iter().filter_map(Key::parse).collect();
        if keys.is_empty() {
            return Err("the key set holds no key that verifies an accepted signature".into());
        }
        Ok(Self { keys })
    }

    /// The claims of a token whose signature one of the keys verifies. Times, audience and issuer are the caller's to
    /// check: the library would read the clock.
    pub(crate) fn verified(&self, token: &str, header: &Header) -> Result<Claims, TokenFault> {
        let mut validation = Validation::new(header.alg);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let verified =
            self.candidates(header)?.into_iter().find_map(|key| decode::<Claims>(token, key, &validation).ok());
        let invalid = || TokenFault::Invalid("the signature is not valid, or the claims are malformed".into());
        verified.map(|data| data.claims).ok_or_else(invalid)
    }

    /// The keys that may have signed a token with this header. `kid` is compared and nothing else: it names no
    /// file and no address, and `jku`, `x5u` and `jwk` are not looked at (A06, A11).
    fn candidates(&self, header: &Header) -> Result<Vec<&DecodingKey>, TokenFault> {
        if let Some(id) = &header.kid
            && !self.keys.iter().any(|key| key.id.as_ref() == Some(id))
        {
            return Err(TokenFault::UnknownKey);
        }
        let named = |key: &&Key| header.kid.is_none() || key.id == header.kid;
        let fits = |key: &&Key| key.algorithms.contains(&header.alg);
        let found: Vec<&DecodingKey> = self.keys.iter().filter(named).filter(fits).map(|key| &key.key).collect();
        match found.len() {
            0 => Err(TokenFault::Invalid("no key of the provider is for this algorithm".into())),
            // Without a name there must be no choice; with one, a provider may have named a few keys alike.
            1 => Ok(found),
            2..=4 if header.kid.is_some() => Ok(found),
            _ => Err(TokenFault::Invalid("the token does not tell which of the provider's keys signed it".into())),
        }
    }
}

impl Key {
    fn parse(value: Value) -> Option<Self> {
        let declared = value.get("alg").and_then(Value::as_str).map(String::from);
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let signs = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
        let operations = jwk.common.key_operations.as_deref();
        if !signs || operations.is_some_and(|allowed| !allowed.contains(&KeyOperations::Verify)) {
            return None;
        }
        // The kind of key decides the algorithms, never the token: HS256 with an RSA key has no entry (A06).
        let mut algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => vec![RS256, RS384, RS512, PS256, PS384, PS512],
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => vec![ES256],
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P384 => vec![ES384],
            AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => vec![EdDSA],
            _ => return None,
        };
        if let Some(declared) = declared {
            algorithms.retain(|algorithm| format!("{algorithm:?}") == declared);
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        (!algorithms.is_empty()).then_some(Self { id: jwk.common.key_id, algorithms, key })
    }
}
