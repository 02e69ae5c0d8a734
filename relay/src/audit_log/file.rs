//! The audit log's file: appended to in whole lines or not at all, and found again exactly as it was left.

use postern_relay_core::audit::{Chain, ChainError, Checkpoint};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuditFileError {
    /// The file cannot be opened, read or written.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
    /// Its last line is not one that this log wrote.
    #[error("{}: the last line cannot be continued: {}; move the file away, and a new log begins", .0.display(), .1)]
    Chain(PathBuf, ChainError),
    /// It is not as the relay left it.
    #[error("{}: the file was removed or changed while the relay wrote it", .0.display())]
    Changed(PathBuf),
}

/// The open log.
pub(super) struct LogFile {
    path: PathBuf,
    /// `None` after a failure: it is opened anew before the next write.
    file: Option<File>,
    chain: Chain,
    genesis: Chain,
    /// Bytes of whole lines.
    length: u64,
    /// A write failed half-way and could not be taken back yet.
    partial: bool,
    dirty: bool,
    failing: bool,
}

/// What was found at the end of the log.
pub(super) struct Found {
    /// Bytes of an unfinished last line, taken away.
    torn: u64,
    /// Lines.
    seq: u64,
}

impl Found {
    /// What an auditor must be told of it.
    pub(super) fn describe(&self, remembered: Option<&Checkpoint>) -> Vec<String> {
        let mut told = Vec::new();
        if self.torn > 0 {
            told.push(format!("{} bytes of an unfinished last line were taken away", self.torn));
        }
        if let Some(remembered) = remembered.filter(|remembered| remembered.seq > self.seq) {
            let (found, seq, head) = (self.seq, remembered.seq, &remembered.head);
            told.push(format!("the log ends at line {found}, but the relay remembers line {seq} with hash {head}"));
        }
        told
    }
}

impl LogFile {
    /// Opens or makes the file; an unfinished last line, left by a crash, is taken away.
    pub(super) fn open(path: &Path, genesis: Chain) -> Result<(Self, Found), AuditFileError> {
        let io = |error| AuditFileError::Io(path.to_owned(), error);
        let file = options().create(true).open(path).map_err(io)?;
        Self::resume(path, file, genesis)
    }

    fn resume(path: &Path, mut file: File, genesis: Chain) -> Result<(Self, Found), AuditFileError> {
        let io = |error| AuditFileError::Io(path.to_owned(), error);
        let size = file.metadata().map_err(io)?.len();
        let (length, last) = last_line(&mut file, size).map_err(io)?;
        let chain = match last {
            Some(line) => Chain::resume(&line).map_err(|error| AuditFileError::Chain(path.to_owned(), error))?,
            None => genesis.clone(),
        };
        if length < size {
            file.set_len(length).map_err(io)?;
        }
        let found = Found { torn: size - length, seq: chain.seq() };
        let path = path.to_owned();
        let (partial, dirty, failing) = (false, false, false);
        Ok((Self { path, file: Some(file), chain, genesis, length, partial, dirty, failing }, found))
    }

    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Appends what `lines` makes of the chain. After an error nothing of it is in the file.
    pub(super) fn append(&mut self, lines: impl FnOnce(&Chain) -> (String, Chain)) -> Result<(), AuditFileError> {
        let (text, next) = lines(&self.chain);
        match self.try_append(text.as_bytes()) {
            Ok(()) => {
                self.length += text.len() as u64;
                self.chain = next;
                self.dirty = true;
                if std::mem::take(&mut self.failing) {
                    tracing::info!(file = %self.path.display(), "the audit log can be written again");
                }
                Ok(())
            }
            Err(error) => {
                self.file = None;
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "the audit log cannot be written: everything is denied until it can");
                }
                Err(error)
            }
        }
    }

    /// Waits until everything written is on the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.as_ref().filter(|_| self.dirty) {
            file.sync_data()?;
            self.dirty = false;
        }
        Ok(())
    }

    fn try_append(&mut self, text: &[u8]) -> Result<(), AuditFileError> {
        if self.file.is_none() {
            self.reopen()?;
        }
        let Some(file) = &mut self.file else { return Err(AuditFileError::Changed(self.path.clone())) };
        let io = |error| AuditFileError::Io(self.path.clone(), error);
        let meta = file.metadata().map_err(io)?;
        // A removed file would swallow records; one that others write to has lost its order.
        if meta.nlink() == 0 || meta.len() != self.length {
            return Err(AuditFileError::Changed(self.path.clone()));
        }
        file.write_all(text).map_err(|error| {
            self.partial = file.set_len(self.length).is_err();
            AuditFileError::Io(self.path.clone(), error)
        })
    }

    /// Opens the file again. It must end with the very line that was written last.
    fn reopen(&mut self) -> Result<(), AuditFileError> {
        let io = |error| AuditFileError::Io(self.path.clone(), error);
        let file = options().open(&self.path).map_err(io)?;
        if std::mem::take(&mut self.partial) {
            file.set_len(self.length).map_err(io)?;
        }
        let (again, _) = Self::resume(&self.path, file, self.genesis.clone())?;
        if again.chain != self.chain || again.length != self.length {
            return Err(AuditFileError::Changed(self.path.clone()));
        }
        self.file = again.file;
        Ok(())
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(0o600);
    options
}

/// A line is never longer than this.
const MAX_LINE: usize = 1024 * 1024;

/// The last whole line, and where it ends. Reads from the end, for the log is long.
fn last_line(file: &mut File, size: u64) -> io::Result<(u64, Option<String>)> {
    const STEP: u64 = 64 * 1024;
    let mut tail: Vec<u8> = Vec::new();
    let mut start = size;
    loop {
        let breaks: Vec<usize> =
            tail.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
        let (end, begin) = match (breaks.as_slice(), start) {
            ([.., before, last], _) => (*last, before + 1),
            ([last], 0) => (*last, 0),
            ([], 0) => return Ok((0, None)),
            _ if tail.len() > MAX_LINE => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no audit log"));
            }
            _ => {
                let step = STEP.min(start);
                start -= step;
                let mut more = Vec::new();
                file.seek(SeekFrom::Start(start))?;
                (&mut *file).take(step).read_to_end(&mut more)?;
                more.extend_from_slice(&tail);
                tail = more;
                continue;
            }
        };
        let line = tail.get(begin..end).unwrap_or_default();
        let length = start + end as u64 + 1;
        return Ok((length, Some(String::from_utf8_lossy(line).into_owned())));
    }
}
