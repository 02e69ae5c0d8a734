//! The state directory: the user's alone, used by one agent at a time, its files replaced whole or not at all.

use crate::system;
use postern_client::place;
use postern_protocol::{Code, Problem, local};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Held while an agent runs.
const LOCK_NAME: &str = "agent.lock";

/// A state directory that this process holds.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    lock: File,
}

impl Drop for StateDir {
    /// A child process that is about to start holds every open file for a moment: closing alone would not unlock.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl StateDir {
    /// Makes the directory if it is absent, checks that it is the user's alone and takes its lock.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        let failed = |error: io::Error| unusable(format!("{}: {error}", path.display()));
        place::make(path).map_err(failed)?;
        place::check(path)?;
        let path = path.canonicalize().map_err(failed)?;
        let lock = open_private(&path.join(LOCK_NAME), OpenOptions::new().write(true).create(true))
            .map_err(|error| unusable(format!("{LOCK_NAME}: {error}")))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, lock }),
            Err(TryLockError::WouldBlock) => {
                Err(Problem::new(Code::AgentRunning).detail(format!("state directory {}", path.display())))
            }
            Err(TryLockError::Error(error)) => Err(unusable(format!("{LOCK_NAME}: {error}"))),
        }
    }

    /// The directory, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The path of the local API's socket.
    pub fn socket(&self) -> PathBuf {
        self.file(local::SOCKET_NAME)
    }

    /// Replaces the file: whoever reads it sees the old bytes or the new ones, also after a crash.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Problem> {
        let replace = || -> io::Result<()> {
            // Made under a random name with mode 0600 and without following links; the rename replaces a link by the file.
            let mut file = tempfile::Builder::new().prefix(&format!(".{name}.")).tempfile_in(&self.path)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(self.file(name)).map_err(|error| error.error)?;
            system::sync_directory(&self.path)
        };
        replace().map_err(|error| unusable(format!("{name}: {error}")))
    }

    /// The file's bytes, at most `max`; `None` if there is no such file.
    pub fn read(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, Problem> {
        match read_regular(&self.file(name), max) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unusable(format!("{name}: {error}"))),
        }
    }

    /// Removes the file, if it is there.
    pub fn remove(&self, name: &str) -> Result<(), Problem> {
        match std::fs::remove_file(self.file(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unusable(format!("{name}: {error}"))),
            _ => Ok(()),
        }
    }
}

/// The bytes of a regular file, at most `max`. Follows no symbolic link, waits for no pipe.
pub(crate) fn read_regular(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let file = open_private(path, OpenOptions::new().read(true))?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= max) {
        Ok(bytes)
    } else {
        Err(io::Error::other(format!("is larger than {max} bytes")))
    }
}

/// Opens for the user alone where it creates, and refuses a symbolic link in the last place.
pub(crate) fn open_private(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    system::open_no_follow(path, place::private(options))
}

/// A file with a secret: regular, the user's, and nobody else's to read.
pub(crate) fn read_secret_file(path: &Path, max: u64) -> Result<zeroize::Zeroizing<Vec<u8>>, String> {
    let shown = path.display();
    let meta = path.symlink_metadata().map_err(|error| format!("{shown}: {error}"))?;
    place::check_file(path, &meta)?;
    read_regular(path, max).map(zeroize::Zeroizing::new).map_err(|error| format!("{shown}: {error}"))
}

fn unusable(detail: impl Into<String>) -> Problem {
    Problem::new(Code::StateDir).detail(detail)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn makes_a_private_directory_and_one_agent_holds_it() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("deep/er");
        let held = StateDir::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(StateDir::open(&path).unwrap_err().code, Code::AgentRunning);
        drop(held);
        assert!(StateDir::open(&path).is_ok());
    }

    #[test]
    fn refuses_what_others_can_use() {
        let base = tempfile::tempdir().unwrap();
        let open = base.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o750)).unwrap();
        let problem = StateDir::open(&open).unwrap_err();
        assert_eq!(problem.code, Code::StateDir);
        assert!(problem.detail.unwrap().contains("chmod 700"));
        let file = base.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(StateDir::open(&file).unwrap_err().code, Code::StateDir);
    }

    /// A21: a link planted where the agent writes is replaced or refused; what it points at stays as it was.
    #[test]
    fn a21_planted_links_are_never_written_through() {
        let base = tempfile::tempdir().unwrap();
        let victim = base.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let path = base.path().join("state");
        let dir = StateDir::open(&path).unwrap();
        symlink(&victim, dir.file("session.json")).unwrap();
        assert!(dir.read("session.json", 100).is_err(), "a link is not followed for reading either");
        dir.write("session.json", b"new").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(dir.read("session.json", 100).unwrap().unwrap(), b"new");
        assert_eq!(mode(&dir.file("session.json")), 0o600);
        drop(dir);
        fs::remove_file(path.join(LOCK_NAME)).unwrap();
        symlink(&victim, path.join(LOCK_NAME)).unwrap();
        assert_eq!(StateDir::open(&path).unwrap_err().code, Code::StateDir);
        let link = base.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(StateDir::open(&link).unwrap_err().code, Code::StateDir);
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn reading_is_bounded_and_absence_is_no_error() {
        let base = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&base.path().join("s")).unwrap();
        assert!(dir.read("x", 3).unwrap().is_none());
        dir.write("x", b"1234").unwrap();
        assert!(dir.read("x", 3).is_err());
        assert_eq!(dir.read("x", 4).unwrap().unwrap(), b"1234");
        dir.remove("x").unwrap();
        dir.remove("x").unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [LOCK_NAME], "no temporary file is left behind");
    }

    #[test]
    fn a_secret_file_is_nobody_elses() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("secret");
        fs::write(&path, "s3cret").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read_secret_file(&path, 100).unwrap_err().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_secret_file(&path, 100).unwrap().as_slice(), b"s3cret");
    }
}
