//! A keyring of the demo's own: gnome-keyring on a private message bus, so that the person's keyring stays untouched.

use crate::failure::Failure;
use crate::process::Process;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// The programs that make it.
const PROGRAMS: [&str; 2] = ["dbus-run-session", "gnome-keyring-daemon"];

/// The daemon must be unlocked before anything asks for the service: else the bus starts a locked one. `cat` ends
/// when the pipe from us closes, however we end, and the bus and the keyring end with it.
const SCRIPT: &str = "printf demo | gnome-keyring-daemon --unlock --components=secrets >/dev/null; \
                      echo \"$DBUS_SESSION_BUS_ADDRESS\"; exec cat";

/// A bus with an unlocked keyring on it.
pub(crate) struct Keyring {
    /// The bus's address.
    pub(crate) bus: String,
    /// What to end.
    pub(crate) process: Process,
}

impl Keyring {
    /// `None` where the programs are not installed.
    pub(crate) async fn start(dir: &Path, home: &Path, runtime: &Path) -> Result<Option<Self>, Failure> {
        if PROGRAMS.iter().any(|program| find(program).is_none()) {
            return Ok(None);
        }
        let mut command = Command::new("dbus-run-session");
        command.args(["--", "sh", "-c", SCRIPT]);
        command.env("HOME", home).env("XDG_DATA_HOME", home).env("XDG_RUNTIME_DIR", runtime);
        command.env_remove("DBUS_SESSION_BUS_ADDRESS").env_remove("GNOME_KEYRING_CONTROL").env_remove("DISPLAY");
        let mut process = Process::start("keyring", &mut command, dir.join("keyring.log"))?;
        let bus = process.line("the address of its bus").await?;
        Ok(Some(Self { bus, process: process.ending_with_stdin() }))
    }
}

/// The program of this name on the search path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}
