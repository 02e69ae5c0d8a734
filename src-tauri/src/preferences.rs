//! What the person prefers, in a file of the desktop's own. Nothing in it is secret.

use crate::model::Preferences;
use postern_protocol::{Code, Problem};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

const FILE: &str = "preferences.json";
const MAX_FILE: u64 = 256 * 1024;
/// Nobody has more favourites than an organisation has apps.
const MOST_FAVOURITES: usize = 1000;

/// The file.
pub(crate) struct PreferencesFile {
    path: PathBuf,
}

impl PreferencesFile {
    /// In this directory.
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Self { path: dir.join(FILE) }
    }

    /// As kept; what cannot be read is as good as none, since nothing in it protects anything.
    pub(crate) fn read(&self) -> Preferences {
        match self.try_read() {
            Ok(preferences) => preferences,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Preferences::default(),
            Err(error) => {
                tracing::warn!(file = %self.path.display(), %error, "preferences are set back");
                Preferences::default()
            }
        }
    }

    fn try_read(&self) -> io::Result<Preferences> {
        let mut text = Vec::new();
        // Of a pipe or a device nobody knows whether it ever ends.
        if !fs::metadata(&self.path)?.is_file() {
            return Err(io::Error::other("not a file"));
        }
        fs::File::open(&self.path)?.take(MAX_FILE).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Replaces them whole.
    pub(crate) fn write(&self, preferences: &Preferences) -> Result<(), Problem> {
        // An organisation without any counts too: what is written must be read again.
        if preferences.favourites.values().map(|apps| apps.len().max(1)).sum::<usize>() > MOST_FAVOURITES {
            return Err(Problem::new(Code::RequestInvalid).detail(format!("{MOST_FAVOURITES} favourites are the most")));
        }
        self.try_write(preferences)
            .map_err(|error| Problem::new(Code::StateDir).detail(format!("{}: {error}", self.path.display())))
    }

    fn try_write(&self, preferences: &Preferences) -> io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(dir)?;
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(&serde_json::to_vec_pretty(preferences)?)?;
        file.persist(&self.path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Theme;
    use crate::organisations::OrganisationId;

    #[test]
    fn preferences_outlive_the_program_and_bad_ones_do_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let file = PreferencesFile::in_dir(&dir.path().join("new"));
        assert_eq!(file.read(), Preferences::default());
        let dark = Preferences { theme: Theme::Dark, ..Preferences::default() };
        file.write(&dark).unwrap();
        assert_eq!(file.read(), dark);
        let empty = |n: usize| (OrganisationId::try_from(format!("o{n}")).unwrap(), Vec::new());
        let many = Preferences { favourites: (0..=MOST_FAVOURITES).map(empty).collect(), ..Preferences::default() };
        assert_eq!(file.write(&many).unwrap_err().code, Code::RequestInvalid);
        for bad in ["", "[]", "{\"theme\":\"pink\"}", "{\"selected\":\"../..\"}", &"[".repeat(100_000)] {
            fs::write(&file.path, bad).unwrap();
            assert_eq!(file.read(), Preferences::default(), "{}", bad.chars().take(30).collect::<String>());
        }
    }
}
