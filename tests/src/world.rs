//! A world of its own for each test: a temporary directory, the binaries under test, the logs of what ran.

use crate::process::{Output, command, run};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::process::Command;

/// Where a test lives. Make it first, so that it goes last and can print what the others logged.
pub struct World {
    dir: TempDir,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// An empty world.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("postern-test-").tempdir().unwrap();
        // Processes of other users (PostgreSQL's, an attacker's) must be able to pass; what needs a lock has its own.
        set_mode(dir.path(), 0o755);
        for name in ["logs", "home", "run"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        set_mode(&dir.path().join("run"), 0o700);
        Self { dir }
    }

    /// A path in the world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A new directory in the world.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// A file in the world with this content.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Where the output of processes is kept.
    pub fn logs(&self) -> PathBuf {
        self.path("logs")
    }

    /// A command of one of our binaries, with a home of this world and without any keyring or display.
    pub fn command(&self, name: &str) -> Command {
        let mut command = command(binary(name));
        command.env("HOME", self.path("home")).env("XDG_RUNTIME_DIR", self.path("run")).current_dir(self.dir.path());
        command
    }

    /// Runs `postern` with these arguments.
    pub async fn postern(&self, arguments: &[&str]) -> Output {
        run(self.command("postern").args(arguments)).await
    }

    /// Runs `postern-relay` with these arguments.
    pub async fn postern_relay(&self, arguments: &[&str]) -> Output {
        run(self.command("postern-relay").args(arguments)).await
    }

    /// All that processes of this world have written, by file name.
    pub fn all_logs(&self) -> Vec<(String, String)> {
        let files = std::fs::read_dir(self.logs()).unwrap().map(|entry| entry.unwrap().path());
        let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
        files.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), read(&path))).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for (name, text) in self.all_logs() {
            let lines: Vec<_> = text.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(60)..).unwrap_or_default();
            eprintln!("---- {name} (last {} of {} lines)\n{}", tail.len(), lines.len(), tail.join("\n"));
        }
    }
}

/// The path of one of our binaries: in `POSTERN_BIN_DIR`, else beside the test in its target directory.
pub fn binary(name: &str) -> PathBuf {
    let dir = std::env::var_os("POSTERN_BIN_DIR").map_or_else(own_target, PathBuf::from);
    let path = dir.join(name);
    assert!(
        path.is_file(),
        "{} is missing: build it first (cargo build -p postern-agent -p postern-relay), or name the directory that \
         holds it in POSTERN_BIN_DIR",
        path.display()
    );
    path
}

/// `target/debug`, seen from `target/debug/deps/<test>-<hash>`.
fn own_target() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_path_buf()
}

/// Are we root, so that a process of another user can be started?
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The permission bits of a file.
pub fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Sets the permission bits of a file.
pub fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}
