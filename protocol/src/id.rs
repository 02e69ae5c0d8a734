//! Names and identifiers. Each parses strictly and prints as it was parsed.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a name or identifier was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct InvalidId {
    what: &'static str,
    why: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[cfg_attr(test, derive(ts_rs::TS), ts(type = "string"))]
        pub struct $name(Box<str>);

        impl $name {
            /// The text of it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.into())),
                    Err(why) => Err(InvalidId { what: $what, why }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// An app's name: one DNS label in lower case (RFC 1035 §2.3.1), so that `http://<app>.localhost` works.
    AppName, "app name", check_label
);
text_id!(
    /// A device's identifier: 32 lower-case hexadecimal digits, derived from its public key.
    DeviceId, "device id", check_hex32
);
text_id!(
    /// A session's identifier: 32 lower-case hexadecimal digits, random.
    SessionId, "session id", check_hex32
);
text_id!(
    /// A decision's identifier: 32 lower-case hexadecimal digits; the first twelve are the time in milliseconds.
    DecisionId, "decision id", check_hex32
);

impl DeviceId {
    /// The identifier of the device that holds the key with this SHA-256 of its SubjectPublicKeyInfo.
    pub fn from_key_hash(spki_sha256: &[u8; 32]) -> Self {
        let (half, _) = spki_sha256.split_at(16);
        Self(hex(half).into())
    }
}

impl SessionId {
    /// From 128 random bits.
    pub fn from_random(bits: u128) -> Self {
        Self(format!("{bits:032x}").into())
    }
}

impl DecisionId {
    /// From the time and random bits, of which 80 are used: ids sort by time.
    pub fn new(now: crate::Timestamp, random: u128) -> Self {
        let time = u128::from(now.millis()) << 80;
        Self(format!("{:032x}", time | (random >> 48)).into())
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn check_label(text: &str) -> Result<(), &'static str> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    match text.as_bytes() {
        [] => Err("is empty; use 1 to 63 lower-case letters, digits and hyphens"),
        bytes if bytes.len() > 63 => Err("is longer than 63 characters"),
        bytes if !bytes.iter().all(|&b| plain(b) || b == b'-') => {
            Err("may hold lower-case letters, digits and hyphens only")
        }
        [b'-', ..] | [.., b'-'] => Err("may not begin or end with a hyphen"),
        _ => Ok(()),
    }
}

fn check_hex32(text: &str) -> Result<(), &'static str> {
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() == 32 && text.bytes().all(lower_hex) {
        Ok(())
    } else {
        Err("must be 32 lower-case hexadecimal digits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn app_names_are_dns_labels() {
        for good in ["a", "grafana", "db-1", "0x", &"a".repeat(63)] {
            assert!(good.parse::<AppName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "a b", "ä", "a\n", &"a".repeat(64)] {
            assert!(bad.parse::<AppName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_refuse_other_forms_in_json_too() {
        assert!(serde_json::from_str::<SessionId>("\"../../etc/passwd\"").is_err());
        assert!(serde_json::from_str::<DeviceId>("\"00112233445566778899AABBCCDDEEFF\"").is_err());
    }

    proptest! {
        #[test]
        fn decision_ids_sort_by_time(a in 0u64..1 << 47, b in 0u64..1 << 47, r: u128, s: u128) {
            let id = |t, r| DecisionId::new(crate::Timestamp::from_millis(t), r);
            prop_assert!(a >= b || id(a, r) < id(b, s));
        }

        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = text.parse::<AppName>();
            let _ = text.parse::<DecisionId>();
        }
    }
}
