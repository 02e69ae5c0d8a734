//! Whom an event is about: subject identifiers of RFC 9493 and complex subjects of SSF 1.0 §3.

use crate::limits::{MAX_CLAIM_BYTES, MAX_ISSUER_BYTES, MAX_SUBJECT_BYTES};
use crate::principal::PrincipalKey;
use postern_protocol::DeviceId;
use serde_json::{Map, Value};

/// As far as the relay knows them. Nobody is identified by an e-mail address or telephone number: those change hands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// A principal of the provider.
    pub user: Option<PrincipalKey>,
    /// A session: the provider's, or one of the relay's by its id.
    pub session: Option<String>,
    /// A device of the relay, by its id.
    pub device: Option<DeviceId>,
    /// A session or a device: which of them, the kind of event tells.
    pub opaque: Option<String>,
    /// It names a user or session of another issuer than the provider, or a device by another name than ours: nobody
    /// here, whatever else it names.
    pub foreign: bool,
}

impl Subject {
    /// Reads `sub_id`. What is well formed and identifies nobody here is left out; what is not is an error.
    pub(super) fn read(members: &Map<String, Value>, provider: &str) -> Result<Self, String> {
        let mut subject = Self::default();
        match format(members)? {
            "complex" => {
                for (role, member) in members {
                    let Value::Object(member) = member else {
                        if role == "format" {
                            continue;
                        }
                        return Err("a member of sub_id is not an object".into());
                    };
                    match (role.as_str(), Name::read(member)?) {
                        ("user", Some(Name::Issued(issuer, id))) if issuer == provider => {
                            subject.user = Some(principal(issuer, id)?);
                        }
                        ("session", Some(Name::Issued(issuer, id))) if issuer == provider => {
                            subject.session = Some(id.to_owned());
                        }
                        ("user" | "session", Some(Name::Issued(..))) => subject.foreign = true,
                        ("session", Some(Name::Opaque(id))) => subject.session = Some(id.to_owned()),
                        // Of a device of another's count no more than that it is not one of ours is known.
                        ("device", name) => match name {
                            Some(Name::Opaque(id)) if let Ok(id) = id.parse() => subject.device = Some(id),
                            _ => subject.foreign = true,
                        },
                        _ => {}
                    }
                }
            }
            _ => match Name::read(members)? {
                Some(Name::Issued(issuer, id)) if issuer == provider => subject.user = Some(principal(issuer, id)?),
                Some(Name::Opaque(id)) => subject.opaque = Some(id.to_owned()),
                _ => {}
            },
        }
        Ok(subject)
    }
}

/// A simple subject of a format that can identify somebody here.
enum Name<'a> {
    /// `iss_sub`.
    Issued(&'a str, &'a str),
    /// `opaque`.
    Opaque(&'a str),
}

impl<'a> Name<'a> {
    fn read(members: &'a Map<String, Value>) -> Result<Option<Self>, String> {
        match format(members)? {
            "iss_sub" => {
                let issuer = text(members, "iss", MAX_ISSUER_BYTES)?;
                Ok(Some(Self::Issued(issuer, text(members, "sub", MAX_CLAIM_BYTES)?)))
            }
            "opaque" => Ok(Some(Self::Opaque(text(members, "id", MAX_CLAIM_BYTES)?))),
            "complex" => Err("sub_id holds a complex subject in another".into()),
            _ => Ok(None),
        }
    }
}

fn format(members: &Map<String, Value>) -> Result<&str, String> {
    text(members, "format", 64)
}

fn text<'a>(members: &'a Map<String, Value>, name: &str, max: usize) -> Result<&'a str, String> {
    match members.get(name) {
        Some(Value::String(text)) if (1..=max).contains(&text.len()) => Ok(text),
        _ => Err(format!("sub_id lacks {name}, or it is not a text of 1 to {max} bytes")),
    }
}

fn principal(issuer: &str, subject: &str) -> Result<PrincipalKey, String> {
    if subject.len() > MAX_SUBJECT_BYTES {
        return Err("sub_id: sub is too long".into());
    }
    PrincipalKey::new(issuer, subject).map_err(|why| why.to_string())
}
