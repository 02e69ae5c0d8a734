//! An agent in the background: started by `postern login` or `postern agent start`, it outlives the terminal and logs to a file.

use super::client;
use super::output::Output;
use super::service;
use crate::service::Service;
use crate::state_dir::StateDir;
use crate::system::{self, LogSink};
use parking_lot::RwLock;
use postern_protocol::problem::printable;
use postern_protocol::{Code, Problem};
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

const LOG: &str = "agent.log";
const OLD_LOG: &str = "agent.log.1";
/// A log of this size is put aside: with the one before it, the most that logs take.
const MAX_LOG: u64 = 4 * 1024 * 1024;
/// How long an agent may take to be ready. It waits for nothing but the keyring.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long an agent may take to end: calls under way have five seconds.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// The directory's lock is free when the agent has ended, whoever waits for its process.
const STOP_POLL: Duration = Duration::from_millis(50);
/// Files are stamped by a coarser clock.
const CLOCK_STEP: Duration = Duration::from_secs(1);
/// A service that has not answered by then is looked at: it may have ended.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How much of a failed agent's log is shown.
const SHOWN_LINES: usize = 10;
const SHOWN_BYTES: u64 = 8 * 1024;

/// What a started agent says first.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Started {
    Ready {},
    Failed { problem: Box<Problem> },
}

/// Starts an agent if none runs with this state directory. `true`: there was none.
pub(super) async fn ensure(state_dir: &Path, config: Option<&Path>, output: &Output) -> Result<bool, Problem> {
    match client(state_dir)?.status().await {
        Err(problem) if problem.code == Code::AgentNotRunning => {}
        other => return other.map(|_| false),
    }
    match launch(state_dir, config).await {
        Ok(()) => {
            output.progress("The agent runs in the background.");
            Ok(true)
        }
        // Another login was faster.
        Err(problem) if problem.code == Code::AgentRunning => client(state_dir)?.status().await.map(|_| false),
        Err(problem) => Err(problem),
    }
}

/// The same as a command of its own.
pub(super) async fn ensure_told(state_dir: &Path, config: Option<&Path>, output: &Output) -> Result<(), Problem> {
    if !ensure(state_dir, config, output).await? {
        output.progress("The agent runs already.");
    }
    Ok(())
}

/// Starts it through the service if there is one, else as a program of its own.
async fn launch(state_dir: &Path, config: Option<&Path>) -> Result<(), Problem> {
    match service::installed(state_dir, config).await {
        Some(service) => start_service(&service, state_dir).await,
        None => start(state_dir, config).await,
    }
}

/// Has the service manager start the agent, and waits until it answers.
pub(super) async fn start_service(service: &Service, state_dir: &Path) -> Result<(), Problem> {
    let before = SystemTime::now();
    if let Err(problem) = service.start().await {
        // One that ends at once may be a failure of the manager's: why it ended is in its own words.
        let log = state_dir.join(LOG);
        let spoke = log.metadata().and_then(|meta| meta.modified()).is_ok_and(|at| at + CLOCK_STEP >= before);
        return Err(if spoke { Problem::new(Code::AgentNotRunning).detail(last_words(&log)) } else { problem });
    }
    let client = client(state_dir)?;
    let begun = Instant::now();
    let mut looked = begun;
    loop {
        match client.status().await {
            Err(problem) if problem.code == Code::AgentNotRunning => {}
            other => return other.map(|_| ()),
        }
        let ended = service.tells_process() && looked.elapsed() > LOOK_AGAIN && {
            looked = Instant::now();
            service.process().await.is_none()
        };
        if ended || begun.elapsed() > START_LIMIT {
            return Err(Problem::new(Code::AgentNotRunning).detail(last_words(&state_dir.join(LOG))));
        }
        tokio::time::sleep(STOP_POLL).await;
    }
}

/// Starts it as a program of its own.
pub(super) async fn start(state_dir: &Path, config: Option<&Path>) -> Result<(), Problem> {
    let failed = |error: io::Error| Problem::new(Code::AgentNotRunning).detail(format!("cannot start it: {error}"));
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(["agent", "run", "--detached"]).arg("--state-dir").arg(state_dir);
    if let Some(config) = config {
        command.arg("--config").arg(std::path::absolute(config).map_err(failed)?);
    }
    // Its standard error is this terminal until it has its own log.
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    system::set_apart(&mut command);
    let mut agent = tokio::process::Command::from(command).spawn().map_err(failed)?;
    let mut first = String::new();
    if let Some(stdout) = agent.stdout.take() {
        let mut line = BufReader::new(stdout.take(64 * 1024));
        let read = tokio::time::timeout(START_LIMIT, line.read_line(&mut first)).await;
        read.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)?;
    }
    match serde_json::from_str(&first) {
        Ok(Started::Ready {}) => Ok(()),
        Ok(Started::Failed { problem }) => Err(*problem),
        Err(_) => Err(Problem::new(Code::AgentNotRunning).detail(last_words(&state_dir.join(LOG)))),
    }
}

/// Asks the agent to end and waits until another could start.
pub(super) async fn stop(state_dir: &Path, output: &Output) -> Result<(), Problem> {
    end(state_dir).await?;
    output.progress("The agent has stopped. To start it again: postern agent start");
    Ok(())
}

pub(super) async fn end(state_dir: &Path) -> Result<(), Problem> {
    let failed = |error: io::Error| Problem::new(Code::Internal).detail(format!("cannot stop the agent: {error}"));
    system::ask_to_end(&client(state_dir)?).await?;
    let gone = async {
        while StateDir::open(state_dir).is_err_and(|problem| problem.code == Code::AgentRunning) {
            tokio::time::sleep(STOP_POLL).await;
        }
    };
    tokio::time::timeout(STOP_LIMIT, gone).await.map_err(|_| failed(io::ErrorKind::TimedOut.into()))
}

/// The end of a log, on one line: a problem's detail has no more.
fn last_words(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(SHOWN_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(SHOWN_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(SHOWN_LINES).collect();
    let lines: Vec<_> = lines.into_iter().rev().map(printable).collect();
    format!("it ended at once; the end of {}: {}", log.display(), lines.join(" | "))
}

/// In the agent: its own log, and nothing more to do with the terminal.
pub(super) fn detach(state: &StateDir) -> Result<LogFile, Problem> {
    let path = state.file(LOG);
    let sink = LogSink::open(&path).map_err(|error| Problem::new(Code::StateDir).detail(format!("{LOG}: {error}")))?;
    system::leave_terminal();
    Ok(LogFile { path, old: state.file(OLD_LOG), sink: RwLock::new(sink) })
}

/// The log of an agent in the background.
pub(super) struct LogFile {
    path: PathBuf,
    old: PathBuf,
    sink: RwLock<LogSink>,
}

impl LogFile {
    /// Puts a full log aside, replacing the one put aside before, and begins another.
    pub(super) fn renew_when_full(&self) -> io::Result<()> {
        if fs::symlink_metadata(&self.path)?.len() < MAX_LOG {
            return Ok(());
        }
        fs::rename(&self.path, &self.old)?;
        *self.sink.write() = LogSink::open(&self.path)?;
        Ok(())
    }

    /// Writes a line.
    pub(super) fn write_all(&self, line: &[u8]) -> io::Result<()> {
        self.sink.read().write_all(line)
    }
}
