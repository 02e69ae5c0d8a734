//! A real Secret Service: gnome-keyring on a message bus of its own.

use crate::process::{Process, bare_command};
use crate::world::World;

/// A bus with a keyring on it.
pub struct Keyring {
    bus: String,
    data: std::path::PathBuf,
    process: Process,
}

const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
  "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:tmpdir=/tmp</listen>
  <auth>EXTERNAL</auth>
  <policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
"#;

/// Tells the bus's address once the daemon serves. `cat` ends when our end of its input closes; the daemon is a child
/// of the shell and of our process group, because one in the background may outlive its bus.
const WHEN_READY: &str = r#"
until dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.NameHasOwner \
    string:org.freedesktop.secrets | grep -q true; do sleep 0.02; done
echo "$DBUS_SESSION_BUS_ADDRESS"
cat
kill 0
"#;

impl Keyring {
    /// A keyring that is unlocked.
    pub async fn unlocked(world: &World) -> Self {
        Self::start(world, "printf pw | gnome-keyring-daemon --foreground --unlock --components=secrets").await
    }

    /// A keyring whose collection exists and is locked, with nobody there to answer its prompt.
    pub async fn locked(world: &World) -> Self {
        Self::unlocked(world).await.stop().await;
        Self::start(world, "gnome-keyring-daemon --foreground --components=secrets </dev/null").await
    }

    async fn start(world: &World, daemon: &str) -> Self {
        let data = world.directory("keyring");
        // A bus that starts nothing by itself: no second daemon, and no prompt that would wait for a person.
        let config = world.file("keyring/bus.conf", BUS);
        let mut bus = bare_command("dbus-run-session");
        bus.arg("--config-file").arg(config);
        bus.args(["--", "sh", "-c", &format!("{daemon} >/dev/null & {WHEN_READY}")])
            .env("HOME", &data)
            .env("XDG_DATA_HOME", &data)
            .env("XDG_RUNTIME_DIR", world.path("run"));
        let name = format!("keyring-{}", world.all_logs().len());
        let mut process = Process::spawn(&name, &mut bus, &world.logs());
        let bus = process.first_line().await;
        Self { bus, data, process }
    }

    /// The environment variable by which a program finds this keyring.
    pub fn variable(&self) -> (String, String) {
        ("DBUS_SESSION_BUS_ADDRESS".into(), self.bus.clone())
    }

    /// What the keyring holds on disk, for searching: nothing of it may be readable.
    pub fn directory(&self) -> &std::path::Path {
        &self.data
    }

    /// Ends keyring and bus.
    pub async fn stop(&mut self) {
        self.process.kill().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{command, run, run_with};

    #[tokio::test]
    async fn keeps_secrets_while_unlocked_and_encrypted_on_disk() {
        let world = World::new();
        let mut keyring = Keyring::unlocked(&world).await;
        let tool = |verb: &[&str]| {
            let mut tool = command("secret-tool");
            tool.args(verb).args(["test", "yes"]).envs([keyring.variable()]);
            tool
        };
        run_with(&mut tool(&["store", "--label=x"]), b"canary-7").await.ok();
        assert_eq!(run(&mut tool(&["lookup"])).await.ok().stdout, "canary-7");
        assert_eq!(crate::secrets::find(keyring.directory(), &["canary-7"]), [""; 0]);
        keyring.stop().await;
    }
}
