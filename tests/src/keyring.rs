//! A real Secret Service: gnome-keyring on a message bus of its own.

use crate::process::{Process, bare_command};
use crate::world::World;

/// A bus with a keyring on it.
pub struct Keyring {
    bus: String,
    data: std::path::PathBuf,
    process: Process,
}

impl Keyring {
    /// A keyring that is unlocked.
    pub async fn unlocked(world: &World) -> Self {
        Self::start(world, "printf pw | gnome-keyring-daemon --unlock --components=secrets >/dev/null").await
    }

    /// A keyring whose collection exists and is locked, with nobody there to answer its prompt.
    pub async fn locked(world: &World) -> Self {
        let mut once = Self::unlocked(world).await;
        once.process.close_stdin();
        once.process.output().await;
        Self::start(world, "gnome-keyring-daemon --start --components=secrets >/dev/null").await
    }

    async fn start(world: &World, daemon: &str) -> Self {
        let data = world.directory("keyring");
        let mut bus = bare_command("dbus-run-session");
        // `cat` ends when our end of its input closes, and the bus and the keyring with it.
        bus.args(["--", "sh", "-c", &format!("{daemon}; echo \"$DBUS_SESSION_BUS_ADDRESS\"; exec cat")])
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
        self.process.close_stdin();
        self.process.output().await;
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
