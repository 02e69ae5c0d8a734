//! Child processes: each in a group of its own, ended with the value that started it, and no other process ever.

use crate::failure::{Because as _, Failure, within};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use std::ffi::OsStr;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long a program may take to say that it is ready.
const READY: Duration = Duration::from_secs(30);
/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(60);
/// How long a program may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(10);

/// A program that runs until it is stopped.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    group: Option<Pid>,
    log: PathBuf,
    stdin: Option<ChildStdin>,
    stdout: Option<Lines<BufReader<ChildStdout>>>,
    ends_with_stdin: bool,
}

/// The JSON line by which a program says that it is ready.
#[derive(Deserialize)]
pub(crate) struct Ready {
    event: String,
    /// Provider and relay: the `iss` of their tokens.
    #[serde(default)]
    pub(crate) issuer: String,
    /// Relay: its public listener.
    pub(crate) public: Option<SocketAddr>,
    /// Agent: the port of its HTTP listener.
    pub(crate) http_port: Option<u16>,
}

/// What a command that ended left behind.
pub(crate) struct Output {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Process {
    /// Starts `command`; standard error goes to `log`.
    pub(crate) fn start(name: &'static str, command: &mut Command, log: PathBuf) -> Result<Self, Failure> {
        let errors = File::create(&log).because(format!("cannot write {}", log.display()))?;
        let program = Path::new(command.as_std().get_program()).display().to_string();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .because(format!("cannot start {name} ({program})"))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let stdout = child.stdout.take().map(|out| BufReader::new(out).lines());
        Ok(Self { name, group, log, stdin: child.stdin.take(), stdout, ends_with_stdin: false, child })
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// Marks a program that ends by itself, and tidily, when its standard input closes.
    #[must_use]
    pub(crate) fn ending_with_stdin(mut self) -> Self {
        self.ends_with_stdin = true;
        self
    }

    /// The next line of its standard output.
    pub(crate) async fn line(&mut self, what: &str) -> Result<String, Failure> {
        let stdout = self.stdout.as_mut().because("standard output is closed")?;
        let line = within(READY, &format!("{}: {what}", self.name), stdout.next_line()).await?;
        line.because(self.name)?.because(format!("ended before {what}: {}", self.last_words(8)))
    }

    /// The JSON line that says it is ready.
    pub(crate) async fn ready(&mut self) -> Result<Ready, Failure> {
        let line = self.line("its ready line").await?;
        let ready: Ready = serde_json::from_str(&line).because(format!("{} said {line:?}", self.name))?;
        crate::failure::check(ready.event == "ready", || format!("{} said {line}", self.name))?;
        Ok(ready)
    }

    /// Waits for its end, which nobody asked for.
    pub(crate) async fn ended(&mut self) -> Failure {
        match self.child.wait().await {
            Ok(status) => Failure::new(format!("{} ended by itself: {status}", self.name)),
            Err(error) => Failure::new(format!("{}: {error}", self.name)),
        }
    }

    /// Waits for a successful end, however long the person before the screen takes.
    pub(crate) async fn finish(&mut self) -> Result<(), Failure> {
        let status = self.child.wait().await.because(self.name)?;
        crate::failure::check(status.success(), || format!("{} failed: {}", self.name, self.last_words(6)))
    }

    /// The end of its log.
    pub(crate) fn last_words(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<_> = text.lines().collect();
        let tail = all.get(all.len().saturating_sub(lines)..).unwrap_or_default();
        format!("{} (end of its log)\n{}", self.name, tail.join("\n"))
    }

    /// Asks it to stop; kills it if it does not.
    pub(crate) async fn stop(mut self) {
        self.stdin = None;
        if self.ends_with_stdin && tokio::time::timeout(STOP, self.child.wait()).await.is_ok() {
            return;
        }
        self.signal(Signal::TERM);
        if tokio::time::timeout(STOP, self.child.wait()).await.is_err() {
            self.signal(Signal::KILL);
            let _ = self.child.wait().await;
        }
    }

    fn signal(&self, signal: Signal) {
        // A child that was waited for has no id any more: a group that is not ours is never signalled.
        if let (Some(group), Some(_)) = (self.group, self.child.id()) {
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::KILL);
        }
    }
}

/// Runs `command` to its end with `input` on its standard input.
pub(crate) async fn run(command: &mut Command, input: &[u8]) -> Result<Output, Failure> {
    let name = shown(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .because(format!("cannot start {name}"))?;
    let mut stdin = child.stdin.take().because("standard input is closed")?;
    let feed = async {
        let _ = stdin.write_all(input).await; // a program that reads nothing closes it first
        drop(stdin);
    };
    let work = async { tokio::join!(child.wait_with_output(), feed) };
    let (output, ()) = within(COMMAND, &name, work).await?;
    let output = output.because(name)?;
    Ok(Output {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

impl Output {
    /// Standard output, if the command ended well.
    pub(crate) fn ok(self, what: &str) -> Result<String, Failure> {
        let Self { success, stdout, stderr } = self;
        crate::failure::check(success, || format!("{what} failed:\n{}{}", stdout, stderr.trim_end()))?;
        Ok(stdout)
    }
}

/// The file name of the program and its arguments.
fn shown(command: &Command) -> String {
    let command = command.as_std();
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args()).map(OsStr::to_string_lossy);
    words.collect::<Vec<_>>().join(" ")
}
