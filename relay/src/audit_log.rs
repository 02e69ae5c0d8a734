//! The audit log's writer: one thread, one file, one queue. What is not in the file did not happen: a caller goes on
//! only after its record was written, and while nothing can be written nothing is allowed.
//!
//! Records that wait together are written together. A written record survives the relay; to survive the machine it
//! waits for the disk at most [`SYNC`].

mod file;
mod tail;

pub use file::AuditFileError;

use crate::clock::Clock;
use file::LogFile;
use postern_protocol::{Code, Problem, Timestamp};
use postern_relay_core::audit::{Chain, Checkpoint, CheckpointSigner, Event, Outcome, Record};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// Records that may wait. A full queue denies.
const QUEUE: usize = 4096;
/// Most records of one write.
const BATCH: usize = 256;
/// Records between two checkpoints, at most.
const CHECKPOINT_RECORDS: u64 = 1000;
/// Time between two checkpoints, if there is anything new.
const CHECKPOINT_TIME: Duration = Duration::from_secs(60);
/// Attempts to end the writer, 10 ms apart.
const CLOSE_ATTEMPTS: u32 = 500;
/// How long a written record may wait for the disk.
const SYNC: Duration = Duration::from_secs(1);

/// The record could not be written: nothing may be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written")]
pub struct AuditUnavailable;

impl AuditUnavailable {
    /// The code of a refusal for this cause.
    pub const fn code(self) -> Code {
        Code::AuditUnavailable
    }
}

impl From<AuditUnavailable> for Problem {
    fn from(unavailable: AuditUnavailable) -> Self {
        Self::new(unavailable.code())
    }
}

/// The audit log of a running relay.
pub struct AuditLog {
    queue: SyncSender<Job>,
    checkpoints: watch::Receiver<Option<Checkpoint>>,
}

enum Job {
    Records(Vec<Record>, oneshot::Sender<()>),
    Rotate(oneshot::Sender<Result<PathBuf, String>>),
    Close(oneshot::Sender<()>),
    /// Says when the next records have come, and waits before it writes them.
    #[cfg(test)]
    Hold(oneshot::Sender<()>, Receiver<()>),
}

impl AuditLog {
    /// Opens the log, goes on where it ended and starts the writer. `remembered` is the newest checkpoint kept
    /// elsewhere: a log that was cut short or rewritten since is recorded as such.
    pub fn open(
        path: &Path,
        signer: CheckpointSigner,
        remembered: Option<&Checkpoint>,
        clock: Clock,
    ) -> Result<Self, AuditFileError> {
        let (file, found) = LogFile::open(path, Chain::genesis(&signer.public()), remembered)?;
        let (queue, jobs) = sync_channel(QUEUE);
        let (publish, checkpoints) = watch::channel(None);
        let now = Instant::now();
        let mut writer = Writer { file, signer, clock, publish, unsigned: 0, signed: now, synced: now };
        if found.torn > 0 {
            let detail = format!("{} bytes of an unfinished last line were taken away", found.torn);
            tracing::warn!(file = %path.display(), "{detail}");
            writer.write(&[plain(Event::Recovery, writer.clock.now(), detail)])?;
        }
        if let Some(detail) = found.tampered {
            tracing::error!(file = %path.display(), "{detail}");
            let mut record = plain(Event::Tampering, writer.clock.now(), detail);
            record.result = Outcome::Deny;
            writer.write(&[record])?;
        }
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || writer.run(&jobs))
            .map_err(|error| AuditFileError::Io(path.to_owned(), error))?;
        Ok(Self { queue, checkpoints })
    }

    /// Writes `record`. Resolves when the line is in the file.
    pub async fn record(&self, record: Record) -> Result<(), AuditUnavailable> {
        self.record_all(vec![record]).await
    }

    /// Writes all of `records`, or none. Resolves when the lines are in the file.
    pub async fn record_all(&self, records: Vec<Record>) -> Result<(), AuditUnavailable> {
        let (done, written) = oneshot::channel();
        self.queue.try_send(Job::Records(records, done)).map_err(|_| AuditUnavailable)?;
        written.await.map_err(|_| AuditUnavailable)
    }

    /// The next records are not written until this is told to go on. The receiver hears when they have come.
    #[cfg(test)]
    pub(crate) fn hold(&self) -> (oneshot::Receiver<()>, SyncSender<()>) {
        let ((came, comes), (go_on, go)) = (oneshot::channel(), sync_channel(1));
        assert!(self.queue.try_send(Job::Hold(came, go)).is_ok());
        (comes, go_on)
    }

    /// The newest checkpoint, for safe keeping elsewhere.
    pub fn checkpoints(&self) -> watch::Receiver<Option<Checkpoint>> {
        self.checkpoints.clone()
    }

    /// Closes the log with a checkpoint, keeps it beside under the name that is returned, and begins a new one.
    pub async fn rotate(&self) -> Result<PathBuf, String> {
        let (done, rotated) = oneshot::channel();
        self.queue.try_send(Job::Rotate(done)).map_err(|_| AuditUnavailable.to_string())?;
        rotated.await.map_err(|_| AuditUnavailable.to_string())?
    }

    /// Writes a last checkpoint and ends the writer. Gives up on a queue that stays full.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        let mut job = Job::Close(done);
        for _ in 0..CLOSE_ATTEMPTS {
            match self.queue.try_send(job) {
                Ok(()) => {
                    let _ended_either_way = closed.await;
                    return;
                }
                Err(TrySendError::Full(back)) => job = back,
                Err(TrySendError::Disconnected(_)) => return,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The state of the writer's thread.
struct Writer {
    file: LogFile,
    signer: CheckpointSigner,
    clock: Clock,
    publish: watch::Sender<Option<Checkpoint>>,
    /// Records since the last checkpoint.
    unsigned: u64,
    signed: Instant,
    synced: Instant,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let (mut closing, mut rotating, mut waiting) = (None, None, Vec::new());
            match jobs.recv_timeout(SYNC) {
                Ok(job) => std::iter::once(job).chain(jobs.try_iter()).take(BATCH).for_each(|job| match job {
                    Job::Records(records, done) => waiting.push((records, done)),
                    Job::Rotate(done) => rotating = Some(done),
                    Job::Close(done) => closing = Some(done),
                    #[cfg(test)]
                    Job::Hold(came, go) => {
                        if let Ok(Job::Records(records, done)) = jobs.recv() {
                            let _test_may_be_over = (came.send(()), go.recv());
                            waiting.push((records, done));
                        }
                    }
                }),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.commit(waiting);
            if let Some(done) = rotating {
                let _nobody_waits = done.send(self.rotate().map_err(|error| error.to_string()));
            }
            self.keep_up(closing.is_some());
            if let Some(done) = closing {
                let _nobody_waits = done.send(());
                break;
            }
        }
    }

    fn rotate(&mut self) -> Result<PathBuf, AuditFileError> {
        self.keep_up(true);
        let (seq, head) = (self.file.chain().seq(), self.file.chain().head().to_owned());
        let now = self.clock.now();
        let aside = self.file.rotate(now)?;
        let name = aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.write(&[plain(Event::Rotation, now, ended(&name, seq, &head))])?;
        self.keep_up(true);
        Ok(aside)
    }

    /// Writes what waits and tells each caller; on failure the callers learn it by the dropped channel.
    fn commit(&mut self, waiting: Vec<(Vec<Record>, oneshot::Sender<()>)>) {
        if waiting.is_empty() {
            return;
        }
        let (records, callers): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        if self.write(&records.into_iter().flatten().collect::<Vec<_>>()).is_ok() {
            for caller in callers {
                let _caller_went_away = caller.send(());
            }
        }
    }

    fn write(&mut self, records: &[Record]) -> Result<(), AuditFileError> {
        self.file.append(|chain| {
            let mut chain = chain.clone();
            let mut text = String::new();
            for record in records {
                let (line, next) = chain.append(record);
                text.push_str(&line);
                text.push('\n');
                chain = next;
            }
            (text, chain)
        })?;
        self.unsigned += records.len() as u64;
        Ok(())
    }

    /// Signs a checkpoint when one is due, and sends what was written to the disk.
    fn keep_up(&mut self, closing: bool) {
        let due = self.unsigned >= CHECKPOINT_RECORDS || self.signed.elapsed() >= CHECKPOINT_TIME || closing;
        if due && self.unsigned > 0 {
            let (signer, now) = (&self.signer, self.clock.now());
            let signed = self.file.append(|chain| {
                let (line, next) = chain.checkpoint(signer, now);
                (line + "\n", next)
            });
            if signed.is_ok() && self.file.sync().is_ok() {
                let chain = self.file.chain();
                self.publish.send_replace(Some(Checkpoint { seq: chain.seq(), head: chain.head().to_owned() }));
                self.unsigned = 0;
            }
            self.signed = Instant::now();
        }
        if self.synced.elapsed() >= SYNC {
            let _reported_there = self.file.sync();
            self.synced = Instant::now();
        }
    }
}

/// What a new log says of the one before it.
fn ended(name: &str, seq: u64, head: &str) -> String {
    format!("the log before, {name}, ended at line {seq} with hash {head}")
}

/// Moves aside a log that cannot be continued, of a relay that does not run. The new log tells what was remembered of it.
pub fn set_aside(
    path: &Path,
    remembered: Option<&Checkpoint>,
    now: Timestamp,
) -> Result<(PathBuf, Record), AuditFileError> {
    let aside = file::aside(path, now)?;
    if path.exists() {
        std::fs::rename(path, &aside).map_err(|error| AuditFileError::Io(path.to_owned(), error))?;
    }
    let name = aside.file_name().unwrap_or_default().to_string_lossy();
    let known = remembered.map_or_else(
        || format!("the log before, {name}, is not known to the relay"),
        |Checkpoint { seq, head }| format!("the log before, {name}, is known up to line {seq} with hash {head}"),
    );
    Ok((aside, plain(Event::Rotation, now, known)))
}

/// A record of an event for which nobody waits, such as the start of the relay.
pub fn plain(event: Event, now: Timestamp, detail: impl Into<String>) -> Record {
    Record::event(event, now).detail(detail)
}

#[cfg(test)]
mod tests;
