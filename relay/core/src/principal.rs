//! Who: a principal is the pair (issuer, subject) and nothing else, least of all an e-mail address.

use crate::limits::{MAX_ISSUER_BYTES, MAX_SUBJECT_BYTES};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A principal's identity. Prints and parses as `issuer#subject`; an issuer has no `#` (OpenID Connect
/// Core §2: no fragment), so the form has one reading.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct PrincipalKey {
    issuer: Arc<str>,
    subject: Arc<str>,
}

/// Why a pair is not a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPrincipal {
    /// The issuer is empty, too long, or holds `#` or a control character.
    #[error("the issuer must be 1 to 512 bytes without '#' and control characters")]
    Issuer,
    /// The subject is empty, too long or holds a control character.
    #[error("the subject must be 1 to 255 bytes without control characters")]
    Subject,
    /// The text is not `issuer#subject`.
    #[error("write a principal as issuer#subject, as the audit log shows it")]
    Form,
}

impl PrincipalKey {
    /// The principal that `issuer` calls `subject`.
    pub fn new(issuer: &str, subject: &str) -> Result<Self, InvalidPrincipal> {
        let plain = |text: &str, max: usize| (1..=max).contains(&text.len()) && !text.chars().any(char::is_control);
        if !plain(issuer, MAX_ISSUER_BYTES) || issuer.contains('#') {
            return Err(InvalidPrincipal::Issuer);
        }
        if !plain(subject, MAX_SUBJECT_BYTES) {
            return Err(InvalidPrincipal::Subject);
        }
        Ok(Self { issuer: issuer.into(), subject: subject.into() })
    }

    /// The provider.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The provider's name for the principal.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl fmt::Display for PrincipalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.issuer, self.subject)
    }
}

impl FromStr for PrincipalKey {
    type Err = InvalidPrincipal;
    fn from_str(text: &str) -> Result<Self, InvalidPrincipal> {
        let (issuer, subject) = text.split_once('#').ok_or(InvalidPrincipal::Form)?;
        Self::new(issuer, subject)
    }
}

/// The form in JSON.
#[derive(Serialize, Deserialize)]
struct Raw {
    issuer: String,
    subject: String,
}

impl TryFrom<Raw> for PrincipalKey {
    type Error = InvalidPrincipal;
    fn try_from(raw: Raw) -> Result<Self, InvalidPrincipal> {
        Self::new(&raw.issuer, &raw.subject)
    }
}

impl From<PrincipalKey> for Raw {
    fn from(key: PrincipalKey) -> Self {
        Self { issuer: (*key.issuer).into(), subject: (*key.subject).into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_could_be_read_twice() {
        assert_eq!(PrincipalKey::new("https://a#b", "c"), Err(InvalidPrincipal::Issuer));
        assert_eq!(PrincipalKey::new("https://a", ""), Err(InvalidPrincipal::Subject));
        assert_eq!(PrincipalKey::new("https://a", "x\x1b[2J"), Err(InvalidPrincipal::Subject));
        assert!(serde_json::from_str::<PrincipalKey>(r#"{"issuer":"","subject":"a"}"#).is_err());
    }

    proptest! {
        #[test]
        fn prints_as_it_parses_and_never_collides(a in "[a-z:/]{1,8}", b in "[a-z#]{1,4}", c in "[a-z:/]{1,8}", d in "[a-z#]{1,4}") {
            let one = PrincipalKey::new(&a, &b).unwrap();
            let two = PrincipalKey::new(&c, &d).unwrap();
            prop_assert_eq!(one == two, one.to_string() == two.to_string());
            prop_assert_eq!(one.to_string().parse::<PrincipalKey>().unwrap(), one);
        }

        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = text.parse::<PrincipalKey>();
        }
    }
}
