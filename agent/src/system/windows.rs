//! Windows. It has no signals, no modes of files and no way to lead standard error elsewhere while a program runs.

use postern_client::{Client, place};
use postern_protocol::Problem;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};

/// `FILE_FLAG_OPEN_REPARSE_POINT`: a link is opened itself.
const NO_FOLLOW: u32 = 0x0020_0000;
/// `DETACHED_PROCESS` and `CREATE_NEW_PROCESS_GROUP`: neither the console's end nor its Ctrl-C reaches it.
const APART: u32 = 0x0000_0008 | 0x0000_0200;

/// What this machine is called.
pub(crate) fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

/// Files have the access list of the directory that they are made in.
pub(crate) fn keep_private() {}

/// Refuses a symbolic link in the last place.
pub(crate) fn open_no_follow(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.custom_flags(NO_FOLLOW).open(path)?;
    if file.metadata()?.is_symlink() {
        return Err(io::Error::other("is a symbolic link"));
    }
    Ok(file)
}

/// Directories cannot be brought to disk singly; NTFS keeps a journal of renames.
pub(crate) fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Nothing of Postern's is started by a link here.
pub(crate) fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The system's words that a process should end: those of its console, and the machine's shutdown.
pub(crate) struct AskedToEnd {
    key: CtrlC,
    pause_key: CtrlBreak,
    closed: CtrlClose,
    shutdown: CtrlShutdown,
}

impl AskedToEnd {
    /// Hears them from here on.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { key: ctrl_c()?, pause_key: ctrl_break()?, closed: ctrl_close()?, shutdown: ctrl_shutdown()? })
    }

    pub(crate) async fn heard(&mut self) {
        tokio::select! {
            _ = self.key.recv() => {}
            _ = self.pause_key.recv() => {}
            _ = self.closed.recv() => {}
            _ = self.shutdown.recv() => {}
        }
    }
}

/// Asks a running agent to end: by a call, for want of signals.
pub(crate) async fn ask_to_end(agent: &Client) -> Result<(), Problem> {
    agent.stop().await
}

/// Before an agent is started: what it takes to outlive the console.
pub(crate) fn set_apart(agent: &mut Command) {
    agent.creation_flags(APART);
}

/// It was started apart, see [`set_apart`].
pub(crate) fn leave_terminal() {}

/// A pipe that nobody reads fails each write, which nobody minds.
pub(crate) fn let_go_of_stdout() {}

/// The log's file.
pub(crate) struct LogSink(File);

impl LogSink {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        open_no_follow(path, place::private(OpenOptions::new().create(true).append(true))).map(Self)
    }

    pub(crate) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.0).write_all(bytes)
    }
}
