//! How an ID token is bound to a device key: the nonce of the sign-in is a hash of the key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Random bytes that keep the device key from being guessed from the nonce. 32 bytes, base64url in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Salt([u8; 32]);

impl Salt {
    /// From 32 random bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<String> for Salt {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| "salt is not base64url")?;
        bytes.try_into().map(Self).map_err(|_| "salt is not 32 bytes")
    }
}

impl From<Salt> for String {
    fn from(salt: Salt) -> String {
        URL_SAFE_NO_PAD.encode(salt.0)
    }
}

/// The OIDC `nonce` of a sign-in: base64url(SHA-256(SubjectPublicKeyInfo in DER || salt)).
pub fn nonce(spki_der: &[u8], salt: &Salt) -> String {
    let digest = Sha256::new().chain_update(spki_der).chain_update(salt.0).finalize();
    URL_SAFE_NO_PAD.encode(digest)
}

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A certificate's or key's thumbprint as RFC 8705 §3.1 writes it: base64url(SHA-256(DER)).
pub fn thumbprint(der: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(sha256(der))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonce_depends_on_key_and_salt() {
        let (salt, other) = (Salt::new([1; 32]), Salt::new([2; 32]));
        assert_ne!(nonce(b"key", &salt), nonce(b"key", &other));
        assert_ne!(nonce(b"key", &salt), nonce(b"yek", &salt));
        assert_eq!(nonce(b"key", &salt).len(), 43);
    }

    #[test]
    fn salt_round_trips_and_refuses_other_lengths() {
        let json = serde_json::to_string(&Salt::new([7; 32])).unwrap();
        assert_eq!(serde_json::from_str::<Salt>(&json).unwrap(), Salt::new([7; 32]));
        assert!(serde_json::from_str::<Salt>("\"AAAA\"").is_err());
    }
}
