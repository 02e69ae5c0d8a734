//! Child processes: each in a process group of its own, output kept in files, ended with the value that started it.

use crate::wait::{WAIT, eventually, within};
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use tokio::process::{Child, ChildStdin, Command};

/// A running child and where its output goes.
pub struct Process {
    name: String,
    child: Child,
    group: Option<Pid>,
    out: PathBuf,
    err: PathBuf,
    /// Kept open while the child is wanted: helpers of ours end when it closes.
    _stdin: Option<ChildStdin>,
}

/// What a command that ended left behind.
#[derive(Debug)]
pub struct Output {
    /// Exit status; 128 and more for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A command with an environment of its own: nothing of the caller's but the search path. Should the test itself be
/// killed, the command dies with it.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut wrapped = bare_command("setpriv");
    wrapped.args(["--pdeathsig", "KILL", "--"]).arg(program);
    wrapped
}

/// The same, run as the operating system's user with this id and no groups.
pub fn command_as(uid: &str, program: impl AsRef<OsStr>) -> Command {
    let mut wrapped = bare_command("setpriv");
    wrapped.args(["--pdeathsig", "KILL", "--clear-groups"]);
    wrapped.args([&format!("--reuid={uid}"), &format!("--regid={uid}"), "--"]).arg(program);
    wrapped
}

/// The same for a program that ends by itself once its standard input is closed, and has children of its own to end.
pub fn bare_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C.UTF-8");
    command
}

impl Process {
    /// Starts `command`; its output goes to `logs/<name>.out` and `.err`.
    pub fn spawn(name: &str, command: &mut Command, logs: &Path) -> Self {
        let (out, err) = (logs.join(format!("{name}.out")), logs.join(format!("{name}.err")));
        let append = |path: &Path| File::options().create(true).append(true).open(path).unwrap();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(append(&out))
            .stderr(append(&err))
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({:?}): {error}", command.as_std().get_program()));
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let _stdin = child.stdin.take();
        Self { name: name.into(), child, group, out, err, _stdin }
    }

    /// Its process id while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// All it has written to standard output.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.out).unwrap_or_default()).into_owned()
    }

    /// All it has written to standard error.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.err).unwrap_or_default()).into_owned()
    }

    /// The first line of standard output, once it is whole; panics if the process ends without one.
    pub async fn first_line(&mut self) -> String {
        let deadline = tokio::time::Instant::now() + WAIT;
        loop {
            if let Some((line, _)) = self.stdout().split_once('\n') {
                return line.to_owned();
            }
            let ended = self.child.try_wait().unwrap();
            let late = tokio::time::Instant::now() > deadline;
            assert!(ended.is_none() && !late, "{} gave no first line; {ended:?}\n{}", self.name, self.stderr());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// The JSON line that says it is ready.
    pub async fn ready(&mut self) -> serde_json::Value {
        let line = self.first_line().await;
        let ready: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{}: {error}: {line}", self.name));
        assert_eq!(ready["event"], "ready", "{}", self.name);
        ready
    }

    /// Waits until standard error holds `text`.
    pub async fn logged(&self, text: &str) {
        eventually(&format!("{} logs {text:?}", self.name), async || self.stderr().contains(text).then_some(())).await;
    }

    /// Has it ended?
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub async fn output(&mut self) -> Output {
        let status = within(WAIT * 2, &format!("{} ends", self.name), self.child.wait()).await.unwrap();
        Output { code: code_of(status), stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Asks it to end (SIGTERM) and waits.
    pub async fn stop(&mut self) -> Output {
        self.signal(Signal::TERM);
        self.output().await
    }

    /// Ends it as a power cut would (SIGKILL) and waits.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait().await;
    }

    fn signal(&self, signal: Signal) {
        // A child that was waited for has no id any more, so a group that is not ours is never signalled.
        if let (Some(group), Some(_)) = (self.group, self.child.id()) {
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(group) = self.group
            && matches!(self.child.try_wait(), Ok(None))
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Runs `command` to its end with `input` on standard input.
pub async fn run_with(command: &mut Command, input: &[u8]) -> Output {
    use tokio::io::AsyncWriteExt as _;
    let name = format!("{:?}", command.as_std());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let feed = async {
        let _ = stdin.write_all(input).await; // a program that reads nothing closes it first
        drop(stdin);
    };
    let (output, ()) = within(WAIT * 2, &name, async { tokio::join!(child.wait_with_output(), feed) }).await;
    let output = output.unwrap();
    Output {
        code: code_of(output.status),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs `command` to its end.
pub async fn run(command: &mut Command) -> Output {
    run_with(command, b"").await
}

impl Output {
    /// Panics unless it ended well.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}\nstdout: {}\nstderr: {}", self.stdout, self.stderr))
    }
}

fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// Ends a process that a child of ours left behind, by its id.
pub fn end(id: u32) {
    if let Some(pid) = Pid::from_raw(id.cast_signed()) {
        let _ = rustix::process::kill_process(pid, Signal::TERM);
    }
}
