//! The organisations of this person: one state directory each, the first being the agent's own default.

use postern_client::place;
use postern_protocol::{Code, Problem};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The directory of further organisations, in the default state directory.
const FURTHER: &str = "organisations";
const DEFAULT: &str = "default";
const MAX_LENGTH: usize = 40;
/// More would be a mistake.
const MOST: usize = 20;

/// Names an organisation between shell and pages: `default`, or the name of a further one's directory. Lower-case letters,
/// digits and hyphens, so that it never leads out of its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(type = "string"))]
#[serde(try_from = "String", into = "String")]
pub(crate) struct OrganisationId(String);

impl Default for OrganisationId {
    fn default() -> Self {
        Self(DEFAULT.into())
    }
}

impl TryFrom<String> for OrganisationId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.is_empty() || text.len() > MAX_LENGTH || !text.bytes().all(good) {
            return Err("an organisation is named by lower-case letters, digits and hyphens".into());
        }
        Ok(Self(text))
    }
}

impl From<OrganisationId> for String {
    fn from(id: OrganisationId) -> Self {
        id.0
    }
}

impl fmt::Display for OrganisationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl OrganisationId {
    /// Is it the one that is always there?
    pub(crate) fn is_default(&self) -> bool {
        self.0 == DEFAULT
    }
}

/// Where the organisations are.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    default: PathBuf,
}

impl Places {
    /// `POSTERN_STATE_DIR`, else the agent's own default.
    pub(crate) fn find() -> Result<Self, Problem> {
        let default = match std::env::var_os("POSTERN_STATE_DIR") {
            Some(given) => std::path::absolute(given).map_err(|error| unusable(&error))?,
            None => place::default_path()?,
        };
        Ok(Self { default })
    }

    /// The state directory of an organisation, whether or not it exists.
    pub(crate) fn of(&self, id: &OrganisationId) -> PathBuf {
        if id.is_default() { self.default.clone() } else { self.default.join(FURTHER).join(&id.0) }
    }

    /// The organisations there are, the default one first.
    pub(crate) fn all(&self) -> Vec<OrganisationId> {
        let mut further: Vec<_> = fs::read_dir(self.default.join(FURTHER))
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| OrganisationId::try_from(entry.file_name().into_string().ok()?).ok())
            .filter(|id| !id.is_default())
            .collect();
        further.sort();
        further.truncate(MOST - 1);
        std::iter::once(OrganisationId::default()).chain(further).collect()
    }

    /// Makes a directory for one more.
    pub(crate) fn add(&self) -> Result<OrganisationId, Problem> {
        let there = self.all();
        if there.len() >= MOST {
            return Err(Problem::new(Code::RequestInvalid).detail(format!("{MOST} organisations are the most")));
        }
        let fresh = (2..).map(|number| OrganisationId(format!("organisation-{number}"))).find(|id| !there.contains(id));
        let id = fresh.unwrap_or_default();
        make(&self.default)?;
        make(&self.of(&id))?;
        Ok(id)
    }

    /// Removes a further organisation's directory. Its agent must have ended.
    pub(crate) fn remove(&self, id: &OrganisationId) -> Result<(), Problem> {
        if id.is_default() {
            return Err(
                Problem::new(Code::RequestInvalid).detail("the first organisation stays; sign out of it instead")
            );
        }
        let dir = self.of(id);
        place::check(&dir)?;
        fs::remove_dir_all(&dir).map_err(|error| unusable(&error))
    }
}

/// Makes a state directory, as the agent would.
pub(crate) fn make(dir: &Path) -> Result<(), Problem> {
    place::make(dir).map_err(|error| unusable(&error))?;
    place::check(dir)
}

fn unusable(error: &io::Error) -> Problem {
    Problem::new(Code::StateDir).detail(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Result<OrganisationId, String> {
        OrganisationId::try_from(text.to_owned())
    }

    #[test]
    fn a17_a_name_never_leads_elsewhere() {
        for text in ["", "..", ".", "a/b", "/etc", "A", "ä", "a b", "a\0", &"x".repeat(41)] {
            assert!(id(text).is_err(), "{text:?}");
        }
        assert!(id("organisation-2").is_ok());
    }

    #[test]
    fn organisations_come_and_go_with_their_directories() {
        let home = tempfile::tempdir().unwrap();
        let places = Places { default: home.path().join("postern") };
        assert_eq!(places.all(), [OrganisationId::default()]);
        let second = places.add().unwrap();
        let third = places.add().unwrap();
        assert_eq!(places.all(), [OrganisationId::default(), second.clone(), third.clone()]);
        assert!(place::check(&places.of(&third)).is_ok(), "the person's alone");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("/", places.of(&id("root").unwrap())).unwrap();
            assert_eq!(places.all().len(), 3, "no link is followed");
            assert_eq!(places.remove(&id("root").unwrap()).unwrap_err().code, Code::StateDir);
        }
        places.remove(&second).unwrap();
        assert_eq!(places.all(), [OrganisationId::default(), third]);
        assert_eq!(places.remove(&OrganisationId::default()).unwrap_err().code, Code::RequestInvalid);
    }
}
