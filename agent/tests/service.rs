//! The agent as a background service, under a real systemd user manager of the test's own, and where none runs.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, clippy::panic, reason = "a test says what it leaves out")]

use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const POSTERN: &str = env!("CARGO_BIN_EXE_postern");
const SYSTEMD: &str = "/usr/lib/systemd/systemd";
const LIMIT: Duration = Duration::from_secs(20);

/// A person's home, with a state directory whose name no unit may misread.
struct Home {
    dir: TempDir,
    state: PathBuf,
    /// Where `systemctl` is looked for.
    path: String,
}

impl Home {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let state = dir.path().join("my \"state\" 100%n $HOME\\t");
        for made in [&state, &dir.path().join("run")] {
            fs::create_dir(made).unwrap();
            fs::set_permissions(made, Permissions::from_mode(0o700)).unwrap();
        }
        fs::write(state.join("config.toml"), "keyring = false\n").unwrap();
        Self { dir, state, path: std::env::var("PATH").unwrap() }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", self.dir.path())
            .env("XDG_RUNTIME_DIR", self.dir.path().join("run"))
            .stdin(Stdio::null());
        command
    }

    /// Runs `postern agent ...`; what it told.
    fn agent(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {told}");
        told
    }

    fn output(&self, args: &[&str]) -> Output {
        self.command(POSTERN).arg("--state-dir").arg(&self.state).arg("agent").args(args).output().unwrap()
    }

    fn state(&self) -> Value {
        serde_json::from_str(&self.agent(&["status", "--json"])).unwrap()
    }

    /// The process that systemd says the service is.
    fn main_process(&self, name: &str) -> u32 {
        let show = ["--user", "show", "--property=MainPID", "--value", name];
        let output = self.command("systemctl").args(show).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }
}

/// Stops whatever agent is left.
impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.output(&["stop"]);
    }
}

/// A systemd user manager of its own, which ends with the test.
struct Manager(Child);

impl Manager {
    /// Under a `/run` of its own, since it only starts where the system was booted with systemd. `None` where namespaces
    /// are not to be had.
    fn start(home: &Home) -> Option<Self> {
        let script = format!("mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec {SYSTEMD} --user");
        let mut unshare = home.command("unshare");
        if !rustix::process::geteuid().is_root() {
            unshare.arg("--map-root-user");
        }
        let log = fs::File::create(home.dir.path().join("systemd.log")).unwrap();
        unshare.args(["--mount", "sh", "-c", &script]).stdout(Stdio::null()).stderr(log);
        let mut manager = Self(unshare.spawn().ok()?);
        let ready = || {
            let output = home.command("systemctl").args(["--user", "show-environment"]).output();
            output.is_ok_and(|output| output.status.success())
        };
        let begun = Instant::now();
        while !ready() {
            if manager.0.try_wait().unwrap().is_some() || begun.elapsed() > LIMIT {
                return None;
            }
            sleep(Duration::from_millis(50));
        }
        Some(manager)
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(process) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "{what}");
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn systemd_runs_it_restarts_it_and_lets_it_go() {
    let home = Home::new();
    let Some(_manager) = Manager::start(&home) else {
        eprintln!("left out: no systemd user manager can be run here");
        return;
    };
    // An agent that was started otherwise is handed over.
    home.agent(&["start"]);
    assert!(home.agent(&["start"]).contains("runs already"));
    assert_eq!(home.state()["service"], "not_installed");
    let told = home.agent(&["install"]);
    assert!(told.contains("Installed as") && told.contains("runs in the background"), "{told}");
    let state = home.state();
    assert_eq!((&state["running"], &state["service"]), (&Value::Bool(true), &Value::from("installed")));
    let name = format!("{}.service", state["name"].as_str().unwrap());
    let first = home.main_process(&name);
    assert!(first > 0, "the service is the agent");
    let enabled = home.command("systemctl").args(["--user", "is-enabled", &name]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&enabled.stdout).trim(), "enabled");
    assert!(home.agent(&["install"]).contains("runs already"), "nothing changes the second time");
    assert_eq!(home.main_process(&name), first);

    // It comes back after a crash, and does not after it was stopped.
    let process = rustix::process::Pid::from_raw(first.cast_signed()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    eventually("it is restarted", || home.main_process(&name) != first && home.state()["running"] == true);
    home.agent(&["stop"]);
    eventually("it has stopped", || home.main_process(&name) == 0);
    sleep(Duration::from_secs(3));
    assert_eq!(home.main_process(&name), 0, "longer than it would wait to restart");
    home.agent(&["start"]);
    assert!(home.main_process(&name) > 0, "started through the service");

    assert!(home.agent(&["uninstall"]).contains("Removed"));
    let state = home.state();
    assert_eq!((&state["running"], &state["service"]), (&Value::Bool(false), &Value::from("not_installed")));
    assert!(!Path::new(state["definition"].as_str().unwrap()).exists());
    assert!(home.agent(&["uninstall"]).contains("Not installed"));
}

/// A configuration that is broken is told at once, in the agent's own words.
#[test]
fn an_agent_that_cannot_start_says_why() {
    let home = Home::new();
    let Some(_manager) = Manager::start(&home) else {
        eprintln!("left out: no systemd user manager can be run here");
        return;
    };
    fs::write(home.state.join("config.toml"), "keyrng = false\n").unwrap();
    let output = home.output(&["install"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("there is no key keyrng"), "{told}");
    home.agent(&["uninstall"]);
}

/// A stand-in for `systemctl`, which finds no manager: what `systemctl --user` says in a bare shell or container.
#[test]
fn where_no_manager_runs_it_starts_now_and_at_the_next_login() {
    let mut home = Home::new();
    let (bin, calls) = (home.dir.path().join("bin"), home.dir.path().join("calls"));
    fs::create_dir(&bin).unwrap();
    let stand_in = bin.join("systemctl");
    fs::write(&stand_in, format!("#!/bin/sh\necho \"$*\" >>'{}'\nexit 1\n", calls.display())).unwrap();
    fs::set_permissions(&stand_in, Permissions::from_mode(0o700)).unwrap();
    home.path = format!("{}:{}", bin.display(), home.path);
    let told = home.agent(&["install"]);
    assert!(told.contains("from your next login on") && told.contains("runs in the background"), "{told}");
    let state = home.state();
    assert_eq!((&state["running"], &state["service"]), (&Value::Bool(true), &Value::from("installed")));
    let name = format!("{}.service", state["name"].as_str().unwrap());
    let wanted = home.dir.path().join(".config/systemd/user/default.target.wants").join(name);
    assert!(fs::read_to_string(&wanted).unwrap().contains("100%%n"), "what systemd follows at the next login");
    let told = home.agent(&["uninstall"]);
    assert!(told.contains("Removed") && told.contains("goes on"), "{told}");
    assert!(wanted.symlink_metadata().is_err());
    let calls = fs::read_to_string(calls).unwrap();
    assert!(calls.lines().all(|call| call == "--user show-environment"), "nothing else is asked of it: {calls}");
}

/// Where there is no systemctl at all, installing says so and the agent starts without.
#[test]
fn a_system_without_a_manager_says_so() {
    let mut home = Home::new();
    home.path = home.dir.path().display().to_string();
    let output = home.output(&["install"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("code: service_failed"));
    assert_eq!(home.state()["service"], "unsupported");
    home.agent(&["start"]);
    assert_eq!(home.state()["running"], true);
}
