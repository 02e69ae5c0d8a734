//! A keyring of the demo's own: gnome-keyring on a private message bus, so that the person's keyring stays untouched.

use crate::failure::Failure;
use crate::process::Process;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// The programs that make it.
const PROGRAMS: [&str; 3] = ["dbus-run-session", "dbus-send", "gnome-keyring-daemon"];

/// The daemon must be unlocked before anything asks for the service: else the bus starts a locked one. It stays a
/// child of the script, because one that went to the background may outlive its bus. `cat` ends when the pipe from
/// us closes, however we end, and the keyring and the bus end with it.
const SCRIPT: &str = r#"
printf demo | gnome-keyring-daemon --foreground --unlock --components=secrets >/dev/null & keyring=$!
there() { dbus-send --session --print-reply --dest=org.freedesktop.DBus / \
    org.freedesktop.DBus.NameHasOwner string:org.freedesktop.secrets | grep -q true; }
tries=0
until there || [ $((tries += 1)) -gt 200 ]; do sleep 0.05; done
echo "$DBUS_SESSION_BUS_ADDRESS"
cat
kill "$keyring"
wait
"#;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::run;

    #[tokio::test]
    async fn keeps_a_secret_and_leaves_nothing_running() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = Keyring::start(dir.path(), dir.path(), dir.path()).await.unwrap();
        let keyring = keyring.expect("gnome-keyring and dbus-daemon are installed, as cargo xtask test does");
        let tool = |verb: &[&str]| {
            let mut tool = Command::new("secret-tool");
            tool.args(verb).args(["demo", "yes"]).env("DBUS_SESSION_BUS_ADDRESS", &keyring.bus);
            tool
        };
        run(&mut tool(&["store", "--label=x"]), b"canary").await.unwrap().ok("store").unwrap();
        assert_eq!(run(&mut tool(&["lookup"]), b"").await.unwrap().ok("lookup").unwrap(), "canary");
        let (bus, lookup) = (keyring.bus.clone(), ["lookup", "demo", "yes"]);
        keyring.process.stop().await;
        let gone =
            run(Command::new("secret-tool").args(lookup).env("DBUS_SESSION_BUS_ADDRESS", bus), b"").await.unwrap();
        assert!(!gone.success);
    }
}
