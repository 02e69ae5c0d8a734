//! Saves the agent's diagnostic bundle among the person's downloads.

use postern_client::place;
use postern_protocol::{Code, Problem};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use tauri::{AppHandle, Manager as _};
use time::OffsetDateTime;
use time::macros::format_description;

/// Writes it under a new name and says where it is.
pub(crate) fn save(app: &AppHandle, bundle: &[u8]) -> Result<String, Problem> {
    let path = app.path();
    let dir = path.download_dir().or_else(|_| path.home_dir());
    let dir = dir.map_err(|error| failed(&error.to_string()))?;
    let path = save_in(&dir, OffsetDateTime::now_utc(), bundle).map_err(|error| failed(&error.to_string()))?;
    Ok(path.display().to_string())
}

fn save_in(dir: &Path, now: OffsetDateTime, bundle: &[u8]) -> io::Result<PathBuf> {
    fs::create_dir_all(dir)?;
    let stamp =
        now.format(format_description!("[year][month][day]-[hour][minute][second]")).map_err(io::Error::other)?;
    for number in 1..100 {
        let again = if number == 1 { String::new() } else { format!("-{number}") };
        let path = dir.join(format!("postern-diagnostics-{stamp}{again}.json"));
        // Never over what is there, nor through a link.
        match place::private(OpenOptions::new().write(true).create_new(true)).open(&path) {
            Ok(mut file) => return file.write_all(bundle).map(|()| path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn failed(why: &str) -> Problem {
    Problem::new(Code::StateDir).detail(format!("the bundle could not be saved: {why}"))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_bundle_replaces_nothing_and_is_the_persons_alone() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::UNIX_EPOCH;
        let precious = dir.path().join("precious");
        symlink(&precious, dir.path().join("postern-diagnostics-19700101-000000.json")).unwrap();
        let first = save_in(dir.path(), now, b"one").unwrap();
        let second = save_in(dir.path(), now, b"two").unwrap();
        assert!(!precious.exists());
        assert_eq!((fs::read(&first).unwrap(), fs::read(&second).unwrap()), (b"one".to_vec(), b"two".to_vec()));
        assert_eq!(fs::metadata(first).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
