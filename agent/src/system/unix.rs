//! Unix.

use postern_client::Client;
use postern_protocol::{Code, Problem};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal as Word, kill_process};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What this machine is called.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Whatever this process makes from here on is its user's alone.
pub(crate) fn keep_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Refuses a symbolic link in the last place, and waits for no pipe's other end.
pub(crate) fn open_no_follow(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits();
    options.custom_flags(flags.cast_signed()).open(path)
}

/// Brings renames in a directory to disk.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes or replaces a symbolic link.
pub(crate) fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// The system's words that a process should end: SIGTERM and SIGINT.
pub(crate) struct AskedToEnd {
    terminate: Signal,
    interrupt: Signal,
}

impl AskedToEnd {
    /// Hears them from here on.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(crate) async fn heard(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Asks a running agent to end.
pub(crate) async fn ask_to_end(agent: &Client) -> Result<(), Problem> {
    let failed = |error: io::Error| Problem::new(Code::Internal).detail(format!("cannot stop the agent: {error}"));
    let agent = Pid::from_raw(agent.process().await?).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    kill_process(agent, Word::TERM).map_err(|error| failed(error.into()))
}

/// Before an agent is started: what it takes to outlive the terminal. Here it does the rest itself, see [`leave_terminal`].
pub(crate) fn set_apart(agent: &mut Command) {
    // The root directory keeps no disk busy.
    agent.current_dir("/");
}

/// In the agent: a session of its own, so that neither the terminal's end nor its Ctrl-C reaches it.
pub(crate) fn leave_terminal() {
    // Fails only for the leader of a process group, whom a shell has taken out of the terminal's way.
    let _ = rustix::process::setsid();
}

/// In the agent, once nobody reads its standard output any more.
pub(crate) fn let_go_of_stdout() {
    if let Ok(null) = OpenOptions::new().write(true).open("/dev/null") {
        // Kept, the pipe would only ever fail.
        let _ = rustix::stdio::dup2_stdout(null);
    }
}

/// The log's file: standard error leads there, so that a panic's words do too.
pub(crate) struct LogSink;

impl LogSink {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let no_symlink = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let log = OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(no_symlink).open(path)?;
        rustix::stdio::dup2_stderr(log)?;
        Ok(Self)
    }

    pub(crate) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        io::stderr().lock().write_all(bytes)
    }
}
