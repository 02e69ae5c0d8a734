//! The program `postern` as a shell sees it: exit status, standard output and error, and the agent's life.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

const POSTERN: &str = env!("CARGO_BIN_EXE_postern");

/// A state directory with a configuration that needs no keyring.
fn state_dir() -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    fs::write(dir.path().join("config.toml"), "keyring = false\n").unwrap();
    dir
}

fn postern(state_dir: &Path, args: &[&str]) -> Output {
    Command::new(POSTERN).args(args).env("POSTERN_STATE_DIR", state_dir).stdin(Stdio::null()).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// An agent in the foreground; ended when dropped.
struct Agent {
    process: Child,
    ready: String,
}

impl Agent {
    fn run(mut command: Command, state_dir: &Path) -> Self {
        command.args(["agent", "run"]).env("POSTERN_STATE_DIR", state_dir);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        Self { process, ready }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Stops the agent that a test left in the background.
struct StopsAgent<'a>(&'a Path);

impl Drop for StopsAgent<'_> {
    fn drop(&mut self) {
        postern(self.0, &["agent", "stop"]);
    }
}

#[test]
fn wrong_usage_is_status_2_and_help_is_0() {
    let dir = state_dir();
    for args in
        [&["nonsense"][..], &["connect"], &["status", "--state-dir"], &["login", "--no-browser", "--device-code"]]
    {
        let output = postern(dir.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
    for args in [&["--help"][..], &["login", "--help"], &["--version"]] {
        assert_eq!(postern(dir.path(), args).status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn without_an_agent_each_command_says_so() {
    let dir = state_dir();
    for args in [&["status"][..], &["apps"], &["logout"], &["connect", "db"], &["agent", "stop"]] {
        let output = postern(dir.path(), args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(stderr(&output).contains("code: agent_not_running"), "{}", stderr(&output));
    }
    let json = postern(dir.path(), &["status", "--json"]);
    let problem: serde_json::Value = serde_json::from_slice(&json.stderr).unwrap();
    assert_eq!(problem["code"], "agent_not_running");
}

#[test]
fn mistakes_are_told_one_a_line_and_a_sign_out_of_nobody_as_such() {
    let dir = state_dir();
    fs::write(dir.path().join("config.toml"), "keyring = 7\nhttp_port = 70000\nrelay = \"http://x; y\"\n").unwrap();
    let output = postern(dir.path(), &["agent", "run"]);
    let (told, mistake) =
        (stderr(&output), format!("  {}:", dir.path().canonicalize().unwrap().join("config.toml").display()));
    assert_eq!(told.lines().filter(|line| line.starts_with(&mistake)).count(), 3, "{told}");
    assert!(told.contains("\n  code: config_invalid"), "{told}");
    fs::write(dir.path().join("config.toml"), "keyring = false\n").unwrap();
    let _agent = Agent::run(Command::new(POSTERN), dir.path());
    assert_eq!(postern(dir.path(), &["logout"]).stdout, b"Nobody was signed in.\n");
}

/// The doctor works without an agent and with one, and says by its exit status whether something failed.
#[test]
fn the_doctor_examines_with_and_without_an_agent() {
    let dir = state_dir();
    let alone = postern(dir.path(), &["doctor", "--json"]);
    assert_eq!(alone.status.code(), Some(1), "no agent runs: {}", stderr(&alone));
    let told: serde_json::Value = serde_json::from_slice(&alone.stdout).unwrap();
    assert_eq!(
        (&told["findings"][0]["check"], &told["findings"][0]["code"]),
        (&"agent".into(), &"agent_not_running".into())
    );
    assert_eq!(told["findings"].as_array().unwrap().len(), 9);
    let new = postern(&dir.path().join("new"), &["doctor", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&new.stdout).unwrap();
    assert_eq!(told["findings"][1]["check"], "keyring");
    assert_ne!(told["findings"][1]["result"], "skipped", "where no agent ever ran, its keyring is looked at too");

    let _agent = Agent::run(Command::new(POSTERN), dir.path());
    let file = dir.path().join("bundle.json");
    let bundle = postern(dir.path(), &["doctor", "--bundle", file.to_str().unwrap()]);
    assert!(bundle.status.success(), "{}", stderr(&bundle));
    let shown = String::from_utf8(bundle.stdout).unwrap();
    assert!(shown.contains("Agent            ok       The agent runs") && !shown.contains('\x1b'), "{shown}");
    assert!(shown.contains("Session          warning  Nobody is signed in. [not_signed_in]"), "{shown}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let document: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(document["findings"].as_array().unwrap().len(), 9);
    assert!(document["log"].as_array().unwrap().iter().any(|line| line["text"].as_str().unwrap().contains("is ready")));
}

/// A21: a bundle is never written over a file, nor through a link that somebody planted.
#[test]
fn a21_a_bundle_is_written_to_a_new_file_alone() {
    let dir = state_dir();
    let (victim, link, dangling) = (dir.path().join("victim"), dir.path().join("link"), dir.path().join("dangling"));
    fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, &link).unwrap();
    std::os::unix::fs::symlink(dir.path().join("made"), &dangling).unwrap();
    for file in [&victim, &link, &dangling, &dir.path().join("no/such/directory")] {
        let output = postern(dir.path(), &["doctor", "--bundle", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("code: request_invalid"), "{}", stderr(&output));
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert!(!dir.path().join("made").exists());
}

#[test]
fn the_agent_says_when_it_is_ready_and_ends_in_order() {
    let dir = state_dir();
    let mut agent = Agent::run(Command::new(POSTERN), dir.path());
    let ready: serde_json::Value = serde_json::from_str(&agent.ready).unwrap();
    assert_eq!(ready["event"], "ready");
    assert!(ready["http_port"].as_u64().unwrap() > 0);
    let socket = PathBuf::from(ready["socket"].as_str().unwrap());
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

    let status = postern(dir.path(), &["status", "--json"]);
    assert!(status.status.success(), "{}", stderr(&status));
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["state"], "signed_out");

    let second = postern(dir.path(), &["agent", "run"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("code: agent_running"), "{}", stderr(&second));

    let mut api = UnixStream::connect(&socket).unwrap();
    api.write_all(b"GET /v1/logs HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n").unwrap();
    let mut logs = String::new();
    api.read_to_string(&mut logs).unwrap();
    assert!(logs.contains("the agent is ready state_dir="), "{logs}");

    assert!(postern(dir.path(), &["agent", "stop"]).status.success());
    assert!(agent.process.wait().unwrap().success());
    assert!(!socket.exists());
}

/// A socket that a killed agent left behind hinders neither commands nor the next agent.
#[test]
fn a_killed_agent_hinders_nobody() {
    let dir = state_dir();
    let mut agent = Agent::run(Command::new(POSTERN), dir.path());
    agent.process.kill().unwrap();
    agent.process.wait().unwrap();
    assert!(stderr(&postern(dir.path(), &["status"])).contains("agent_not_running"));
    let next = Agent::run(Command::new(POSTERN), dir.path());
    assert!(next.ready.contains("ready"), "{}", next.ready);
    assert!(postern(dir.path(), &["status"]).status.success());
}

#[test]
fn login_starts_an_agent_that_stays() {
    let dir = state_dir();
    let _stops = StopsAgent(dir.path());
    // Nothing listens on port 1, so the sign-in fails; that the agent runs does not depend on it.
    let login = postern(dir.path(), &["login", "127.0.0.1:1", "--no-browser"]);
    assert_eq!(login.status.code(), Some(1), "{}", stderr(&login));
    assert!(login.stdout.is_empty());
    assert!(stderr(&login).contains("code: relay_unreachable"), "{}", stderr(&login));
    assert!(postern(dir.path(), &["status"]).status.success());
    let log = fs::metadata(dir.path().join("agent.log")).unwrap();
    assert_eq!(log.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_full_log_is_put_aside() {
    let dir = state_dir();
    let _stops = StopsAgent(dir.path());
    let (log, old) = (dir.path().join("agent.log"), dir.path().join("agent.log.1"));
    fs::write(&log, "x".repeat(5_000_000)).unwrap();
    postern(dir.path(), &["login", "127.0.0.1:1", "--no-browser"]);
    assert_eq!(fs::metadata(old).unwrap().len(), 5_000_000);
    assert!(fs::read_to_string(log).unwrap().contains("ready"));
}

#[test]
fn an_agent_that_cannot_start_says_why_through_login() {
    let dir = state_dir();
    fs::write(dir.path().join("config.toml"), "kyering = false\n").unwrap();
    let login = postern(dir.path(), &["login", "relay.example", "--no-browser"]);
    assert_eq!(login.status.code(), Some(1));
    assert!(
        stderr(&login).contains("code: config_invalid") && stderr(&login).contains("kyering"),
        "{}",
        stderr(&login)
    );
}

#[test]
fn a_wrong_ca_file_is_told_before_anything_starts() {
    let dir = state_dir();
    let (key, binary) = (dir.path().join("key.pem"), dir.path().join("binary.pem"));
    fs::write(&key, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    fs::write(&binary, [0xff, 0, 0xfe]).unwrap();
    for file in [Path::new("/nonexistent/ca.pem"), &key, &binary, Path::new("/dev/zero")] {
        let login = postern(dir.path(), &["login", "relay.example", "--ca", file.to_str().unwrap()]);
        assert_eq!(login.status.code(), Some(1));
        let told = stderr(&login);
        assert!(told.contains(file.to_str().unwrap()) && told.contains("code: config_invalid"), "{told}");
    }
    assert!(!dir.path().join("agent.sock").exists());
}

#[test]
fn a_directory_that_others_can_use_is_refused() {
    let dir = state_dir();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    for args in [&["status"][..], &["agent", "run"], &["login", "relay.example"]] {
        let output = postern(dir.path(), args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(stderr(&output).contains("code: state_dir"), "{}", stderr(&output));
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let dir = state_dir();
    let _agent = Agent::run(Command::new(POSTERN), dir.path());
    let mut status = Command::new(POSTERN);
    status.args(["status"]).env("POSTERN_STATE_DIR", dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut status = status.spawn().unwrap();
    drop(status.stdout.take());
    let output = status.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
}

/// A15: a real other user, here root towards an agent of nobody's, is refused though the file system lets it in.
#[test]
fn a15_a_real_other_user_is_refused() {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // The build directory may be closed to that user.
    let place = TempDir::new().unwrap();
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    let program = place.path().join("postern");
    fs::copy(POSTERN, &program).unwrap();
    let dir = state_dir();
    for path in [dir.path().to_owned(), dir.path().join("config.toml")] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    let agent = Agent::run(command, dir.path());
    let ready: serde_json::Value = serde_json::from_str(&agent.ready).unwrap();
    let mut stream = UnixStream::connect(ready["socket"].as_str().unwrap()).unwrap();
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: agent\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("peer_refused"), "{answer}");

    // A18: the same over the listener of http apps.
    let port = u16::try_from(ready["http_port"].as_u64().unwrap()).unwrap();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nhost: localhost:{port}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("peer_refused"), "{answer}");
}
