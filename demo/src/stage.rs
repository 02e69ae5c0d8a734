//! The stage: provider, relay, apps and agent in a temporary directory, all of which goes when the stage is struck.

use crate::apps::Apps;
use crate::failure::{Because as _, Failure, check};
use crate::identity::Verifier;
use crate::keyring::Keyring;
use crate::process::{Process, Ready, run};
use crate::settings;
use std::ffi::OsString;
use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::process::Command;

/// Everything that was started, in order.
pub(crate) struct Stage {
    running: Vec<Process>,
    /// The person may close it at any time.
    desktop: Option<Process>,
    bin: PathBuf,
    dir: TempDir,
}

/// What is where, once everything runs.
pub(crate) struct Scene {
    /// The provider's issuer.
    pub(crate) provider: String,
    /// The relay's issuer.
    pub(crate) relay: String,
    /// What a person types after `postern login`.
    pub(crate) address: String,
    /// The authority of the relay's public certificate.
    pub(crate) authority: PathBuf,
    /// The relay's configuration.
    pub(crate) relay_toml: PathBuf,
    /// The audit log.
    pub(crate) audit: PathBuf,
    /// The agent's state directory.
    pub(crate) state: PathBuf,
    /// The agent's HTTP listener.
    pub(crate) http_port: u16,
    /// Is there a keyring for the agent's secrets?
    pub(crate) keyring: bool,
    /// The sample apps.
    pub(crate) apps: Apps,
    /// Where the programs are.
    pub(crate) bin: PathBuf,
    bus: Option<String>,
    home: PathBuf,
    runtime: PathBuf,
}

const PROGRAMS: [&str; 3] = ["postern", "postern-relay", "postern-demo-provider"];

impl Stage {
    /// A temporary directory, and the programs found.
    pub(crate) fn empty(bin: Option<&Path>) -> Result<Self, Failure> {
        let own = std::env::current_exe().because("cannot find this program")?;
        let bin = bin.or(own.parent()).because("cannot find this program's directory")?;
        let bin = bin.canonicalize().because(format!("--bin-dir {}", bin.display()))?;
        for program in PROGRAMS {
            let file = bin.join(program);
            check(file.is_file(), || format!("{} is missing; run: cargo xtask demo", file.display()))?;
        }
        let dir = tempfile::Builder::new()
            .prefix("postern-demo-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .because("cannot make a temporary directory")?;
        Ok(Self { running: Vec::new(), desktop: None, bin, dir })
    }

    /// Starts everything; for measuring, with the app `plain` and limits out of the way.
    pub(crate) async fn raise(&mut self, measuring: bool) -> Result<Scene, Failure> {
        let [home, runtime, relay_dir, state] =
            ["home", "run", "relay", "agent"].map(|name| self.dir.path().join(name));
        for dir in [&home, &runtime] {
            DirBuilder::new().mode(0o700).create(dir).because(dir.display())?;
        }
        let apps = Apps::start().await?;
        let provider = self.start_provider(&home, &runtime).await?;
        let limits = if measuring { "requests_per_second = 1000000\nburst = 1000000" } else { "" };
        let toml = settings::relay_toml(&provider, &apps.table(measuring), limits);
        let (relay, address) = self.start_relay(&relay_dir, &toml, (&home, &runtime)).await?;
        let authority = relay_dir.join("keys/server-ca.crt");
        let pem = std::fs::read(&authority).because(authority.display())?;
        apps.believe(Verifier::new(&relay, &pem).because("the relay's authority")?);

        let keyring = Keyring::start(self.dir.path(), &home, &runtime).await?;
        let bus = keyring.map(|Keyring { bus, process }| {
            self.running.push(process);
            bus
        });
        DirBuilder::new().mode(0o700).create(&state).because(state.display())?;
        let configuration = settings::agent_toml(&address, &authority);
        std::fs::write(state.join("config.toml"), configuration).because("the agent's config.toml")?;
        let http_port = self.start_agent(&state, bus.as_deref(), (&home, &runtime)).await?;
        Ok(Scene {
            provider,
            relay,
            address,
            authority,
            relay_toml: relay_dir.join("relay.toml"),
            audit: relay_dir.join("state/audit.jsonl"),
            state,
            http_port,
            keyring: bus.is_some(),
            apps,
            bin: self.bin.clone(),
            bus,
            home,
            runtime,
        })
    }

    /// Waits until one of the programs ends by itself, which none should.
    pub(crate) async fn fell(&mut self) -> Failure {
        let mut ends: Vec<_> = self.running.iter_mut().map(|process| Box::pin(process.ended())).collect();
        std::future::poll_fn(|context| {
            let ended = ends.iter_mut().find_map(|end| match end.as_mut().poll(context) {
                std::task::Poll::Ready(failure) => Some(failure),
                std::task::Poll::Pending => None,
            });
            ended.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        })
        .await
    }

    /// Stops one program before the rest, as its service manager would.
    pub(crate) async fn stop_one(&mut self, name: &str) {
        if let Some(at) = self.running.iter().position(|process| process.is(name)) {
            self.running.remove(at).stop().await;
        }
    }

    /// The ends of all logs.
    pub(crate) fn last_words(&self) -> Vec<String> {
        self.running.iter().map(|process| process.last_words(15)).collect()
    }

    /// Opens the desktop, if it was built and there is a display; says whether it did.
    pub(crate) fn open_desktop(&mut self, scene: &Scene) -> bool {
        let display = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
        let program = self.bin.join("postern-desktop");
        if !display || !program.is_file() {
            return false;
        }
        // The person's own environment has the display; settings and bus are the demo's, where theirs may run already.
        let mut command = Command::new(program);
        command.envs(scene.desktop_settings());
        self.desktop = Process::start("desktop", &mut command, scene.log("desktop")).ok();
        self.desktop.is_some()
    }

    /// Ends everything, last started first, and removes the directory.
    pub(crate) async fn stop(mut self) {
        if let Some(desktop) = self.desktop.take() {
            desktop.stop().await;
        }
        while let Some(process) = self.running.pop() {
            process.stop().await;
        }
    }

    async fn start_provider(&mut self, home: &Path, runtime: &Path) -> Result<String, Failure> {
        let mut command = command(&self.bin, "postern-demo-provider", home, runtime);
        command.args(["--resource", settings::RESOURCE]);
        Ok(self.start("provider", &mut command).await?.issuer)
    }

    async fn start_relay(
        &mut self,
        dir: &Path,
        toml: &str,
        (home, runtime): (&Path, &Path),
    ) -> Result<(String, String), Failure> {
        let relay = || command(&self.bin, "postern-relay", home, runtime);
        run(relay().arg("init").arg(dir), b"").await?.ok("postern-relay init")?;
        let configuration = dir.join("relay.toml");
        std::fs::write(&configuration, toml).because("relay.toml")?;
        std::fs::write(dir.join("policy.cedar"), settings::policy()).because("policy.cedar")?;
        run(relay().arg("check").arg("--config").arg(&configuration), b"").await?.ok("postern-relay check")?;
        let mut serve = relay();
        serve.arg("serve").arg("--config").arg(&configuration);
        let ready = self.start("relay", &mut serve).await?;
        let public = ready.public.because("the relay named no public address")?;
        Ok((ready.issuer, public.to_string()))
    }

    async fn start_agent(
        &mut self,
        state: &Path,
        bus: Option<&str>,
        (home, runtime): (&Path, &Path),
    ) -> Result<u16, Failure> {
        let mut command = command(&self.bin, "postern", home, runtime);
        command.args(["agent", "run", "--state-dir"]).arg(state);
        command.envs(bus.map(|bus| ("DBUS_SESSION_BUS_ADDRESS", bus)));
        let ready = self.start("agent", &mut command).await?;
        ready.http_port.because("the agent named no http_port")
    }

    async fn start(&mut self, name: &'static str, command: &mut Command) -> Result<Ready, Failure> {
        let log = self.dir.path().join(format!("{name}.log"));
        self.running.push(Process::start(name, command, log)?);
        let process = self.running.last_mut().because(name)?;
        process.ready().await
    }
}

impl Scene {
    /// A `postern` command that speaks to the agent.
    pub(crate) fn postern(&self, arguments: &[&str]) -> Command {
        let mut command = command(&self.bin, "postern", &self.home, &self.runtime);
        command.args(arguments).arg("--state-dir").arg(&self.state);
        command
    }

    /// A command of the relay's administrator.
    pub(crate) fn postern_relay(&self, arguments: &[&str]) -> Command {
        let mut command = command(&self.bin, "postern-relay", &self.home, &self.runtime);
        command.args(arguments).arg("--config").arg(&self.relay_toml);
        command
    }

    /// What the desktop is told by its environment: where the demo's agent is, and to keep everything with the demo.
    pub(crate) fn desktop_settings(&self) -> Vec<(&'static str, OsString)> {
        let home = || self.home.clone().into_os_string();
        let mut settings = vec![("POSTERN_STATE_DIR", self.state.clone().into_os_string())];
        settings.extend(["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"].map(|name| (name, home())));
        settings.extend(self.bus.as_ref().map(|bus| ("DBUS_SESSION_BUS_ADDRESS", bus.into())));
        settings
    }

    /// The log of a command started by hand.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.home.with_file_name(format!("{name}.log"))
    }
}

/// With nothing of the person's own environment but the search path: no keyring, configuration or proxy of theirs.
fn command(bin: &Path, program: &str, home: &Path, runtime: &Path) -> Command {
    let mut command = Command::new(bin.join(program));
    let kept = ["PATH", "LANG", "LC_ALL", "TERM", "POSTERN_LOG", "RUST_BACKTRACE"];
    command.env_clear().envs(kept.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.env("HOME", home).env("XDG_RUNTIME_DIR", runtime).current_dir(home);
    command
}
