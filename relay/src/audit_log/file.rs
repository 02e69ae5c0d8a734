//! The audit log's file: appended to in whole lines or not at all, and found again exactly as it was left.

use super::tail::{goes_on_from, last_line};
use postern_protocol::Timestamp;
use postern_relay_core::audit::{Chain, ChainError, Checkpoint};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuditFileError {
    /// The file cannot be opened, read or written.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
    /// Its last line is not one that this log wrote.
    #[error("{}: the last line cannot be continued: {}; begin a new log: postern-relay audit rotate", .0.display(), .1)]
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
    /// Bytes of an unfinished last line, which a crash left: they were taken away.
    pub(super) torn: u64,
    /// The log is shorter than, or other than, the relay remembers it; how.
    pub(super) tampered: Option<String>,
}

impl LogFile {
    /// Opens or makes the file. `remembered` is a line that must be in it, and from which it must go on unbroken.
    pub(super) fn open(
        path: &Path,
        genesis: Chain,
        remembered: Option<&Checkpoint>,
    ) -> Result<(Self, Found), AuditFileError> {
        let io = |error| AuditFileError::Io(path.to_owned(), error);
        let file = options().create(true).open(path).map_err(io)?;
        let (mut log, torn) = Self::resume(path, file, genesis)?;
        let tampered = match (remembered, &mut log.file) {
            (Some(remembered), Some(file)) => compare(file, log.length, &log.chain, remembered).map_err(io)?,
            _ => None,
        };
        Ok((log, Found { torn, tampered }))
    }

    /// Goes on where the file ends; returns how many bytes of an unfinished last line were taken away.
    fn resume(path: &Path, mut file: File, genesis: Chain) -> Result<(Self, u64), AuditFileError> {
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
        let path = path.to_owned();
        let (partial, dirty, failing) = (false, false, false);
        Ok((Self { path, file: Some(file), chain, genesis, length, partial, dirty, failing }, size - length))
    }

    /// Moves the file aside, under a name that tells when, and begins a new one. Returns the name.
    pub(super) fn rotate(&mut self, now: Timestamp) -> Result<PathBuf, AuditFileError> {
        let aside = aside(&self.path, now)?;
        self.file = None;
        std::fs::rename(&self.path, &aside).map_err(|error| AuditFileError::Io(aside.clone(), error))?;
        let (fresh, _) = Self::open(&self.path, self.genesis.clone(), None)?;
        *self = fresh;
        Ok(aside)
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

    /// Waits until everything written is on the disk. A disk that fails here may have lost what it took: Linux tells so
    /// once and then forgets, so the file is opened and its end looked at anew before the next write.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.as_ref().filter(|_| self.dirty) {
            if let Err(error) = file.sync_data() {
                tracing::error!(%error, "the disk did not take the audit log: everything is denied until it does");
                self.file = None;
                self.failing = true;
                return Err(error);
            }
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

/// How the log differs from what the relay remembers of it, if it does.
fn compare(file: &mut File, length: u64, end: &Chain, remembered: &Checkpoint) -> io::Result<Option<String>> {
    let Checkpoint { seq, head } = remembered;
    if end.seq() < *seq {
        return Ok(Some(format!(
            "the log ends at line {}, but the relay remembers line {seq} with hash {head}",
            end.seq()
        )));
    }
    let same = goes_on_from(file, length, remembered, end)?;
    Ok((!same).then(|| format!("the log is not the one of which the relay remembers line {seq} with hash {head}")))
}

/// A name beside `path` that nothing has: `audit.20261123T140000Z.jsonl`.
pub(super) fn aside(path: &Path, now: Timestamp) -> Result<PathBuf, AuditFileError> {
    let time: String = now.to_string().split('.').next().unwrap_or_default().replace(['-', ':'], "") + "Z";
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map(|extension| format!(".{}", extension.to_string_lossy())).unwrap_or_default();
    let aside = path.with_file_name(format!("{stem}.{time}{extension}"));
    if aside.exists() {
        return Err(AuditFileError::Io(aside, io::ErrorKind::AlreadyExists.into()));
    }
    Ok(aside)
}
