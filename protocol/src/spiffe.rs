//! The one identity a device certificate carries: `spiffe://<trust-domain>/device/<device-id>`.

use crate::id::DeviceId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A SPIFFE trust domain: lower-case letters, digits, `.`, `-`, `_`, 1 to 255 bytes (SPIFFE-ID §2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Box<str>);

impl TrustDomain {
    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a SPIFFE identity was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpiffe {
    /// The trust domain holds a forbidden character or has a forbidden length.
    #[error("a trust domain holds 1 to 255 lower-case letters, digits, dots, hyphens and underscores")]
    TrustDomain,
    /// The URI is not `spiffe://<trust-domain>/device/<device-id>`.
    #[error("a device identity reads spiffe://<trust-domain>/device/<device-id>")]
    Form,
}

impl FromStr for TrustDomain {
    type Err = InvalidSpiffe;
    fn from_str(text: &str) -> Result<Self, InvalidSpiffe> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        if (1..=255).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidSpiffe::TrustDomain)
        }
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = InvalidSpiffe;
    fn try_from(text: String) -> Result<Self, InvalidSpiffe> {
        text.parse()
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> String {
        domain.0.into()
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A device's SPIFFE identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    /// Who vouches for the device.
    pub trust_domain: TrustDomain,
    /// Which device.
    pub device: DeviceId,
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffe;
    fn from_str(uri: &str) -> Result<Self, InvalidSpiffe> {
        let rest = uri.strip_prefix("spiffe://").ok_or(InvalidSpiffe::Form)?;
        let (domain, path) = rest.split_once('/').ok_or(InvalidSpiffe::Form)?;
        let device = path.strip_prefix("device/").ok_or(InvalidSpiffe::Form)?;
        Ok(Self { trust_domain: domain.parse()?, device: device.parse().map_err(|_| InvalidSpiffe::Form)? })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/device/{}", self.trust_domain, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "spiffe://corp.example/device/00112233445566778899aabbccddeeff";

    #[test]
    fn round_trips() {
        assert_eq!(ID.parse::<SpiffeId>().unwrap().to_string(), ID);
    }

    #[test]
    fn refuses_every_other_form() {
        for bad in [
            "",
            "https://corp.example/device/00112233445566778899aabbccddeeff",
            "spiffe://Corp.example/device/00112233445566778899aabbccddeeff",
            "spiffe://corp.example:1/device/00112233445566778899aabbccddeeff",
            "spiffe://corp.example/device/00112233445566778899aabbccddeeff/",
            "spiffe://corp.example/device/00112233445566778899aabbccddeeff?x",
            "spiffe://corp.example/user/00112233445566778899aabbccddeeff",
            "spiffe:///device/00112233445566778899aabbccddeeff",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_prints_the_same(uri in "spiffe://[a-z.]{1,9}/device/[0-9a-f]{31,33}") {
            if let Ok(id) = uri.parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string(), uri);
            }
        }
    }
}
