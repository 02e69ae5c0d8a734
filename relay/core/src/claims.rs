//! The claims of a provider's token, read strictly: no name twice, every value of the type it must have.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// A JSON object in which no name stands twice (RFC 7519 §4 lets a receiver refuse that).
pub(crate) struct Claims(Map<String, Value>);

/// Why a claim cannot be used; names the claim, never its value.
pub(crate) type Fault = String;

impl Claims {
    /// Is the claim there at all, even as `null`?
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// An object, if it is there.
    pub(crate) fn object(&self, name: &str) -> Result<Option<&Map<String, Value>>, Fault> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(members)),
            Some(_) => Err(format!("{name} is not an object")),
        }
    }

    /// A string of 1 to `max` bytes.
    pub(crate) fn text(&self, name: &str, max: usize) -> Result<Option<&str>, Fault> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if (1..=max).contains(&text.len()) => Ok(Some(text)),
            Some(Value::String(_)) => Err(format!("{name} is empty or longer than {max} bytes")),
            Some(_) => Err(format!("{name} is not a string")),
        }
    }

    /// A string for people: what is not a usable string is left out rather than refused.
    pub(crate) fn display(&self, name: &str, max: usize) -> Option<String> {
        self.text(name, max).ok().flatten().map(postern_protocol::problem::printable)
    }

    /// Whole seconds of a NumericDate: a JSON number, maybe with a fraction, never a string (CVE-2026-25537).
    pub(crate) fn seconds(&self, name: &str) -> Result<Option<u64>, Fault> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let whole = value.as_u64().or_else(|| value.as_f64().and_then(whole_seconds));
        whole.map(Some).ok_or_else(|| format!("{name} is not a positive number"))
    }

    /// One string or a list of strings, at most `count` of them and `max` bytes each; absent: none.
    pub(crate) fn strings(&self, name: &str, count: usize, max: usize) -> Result<Vec<String>, Fault> {
        let entries = match self.0.get(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(entries)) => entries.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        if entries.len() > count {
            return Err(format!("{name} holds more than {count} entries"));
        }
        let text = |entry: &Value| match entry {
            Value::String(text) if (1..=max).contains(&text.len()) => Ok(text.clone()),
            _ => Err(format!("{name} holds something else than strings of 1 to {max} bytes")),
        };
        entries.iter().map(text).collect()
    }

    /// Is the claim one that the provider keeps elsewhere (OpenID Connect Core §5.6.2)?
    pub(crate) fn has_elsewhere(&self, name: &str) -> bool {
        self.0.get("_claim_names").is_some_and(|names| names.get(name).is_some())
    }

    /// Does the claim say no? Providers write `false` and `"false"`.
    pub(crate) fn denies(&self, name: &str) -> bool {
        match self.0.get(name) {
            None | Some(Value::Bool(true)) => false,
            Some(Value::String(text)) => !text.eq_ignore_ascii_case("true"),
            Some(_) => true,
        }
    }
}

/// The whole seconds of a NumericDate with a fraction, up to the end of the year 9999.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked first")]
fn whole_seconds(value: f64) -> Option<u64> {
    (0.0..253_402_300_800.0).contains(&value).then_some(value as u64)
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Claims;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object without repeated names")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Claims, A::Error> {
                let mut map = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if map.insert(name, value).is_some() {
                        return Err(A::Error::custom("a claim stands twice"));
                    }
                }
                Ok(Claims(map))
            }
        }
        deserializer.deserialize_map(Object)
    }
}
