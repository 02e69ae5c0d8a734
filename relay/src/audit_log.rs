//! The audit log's writer: one thread, one file, one queue. What is not in the file did not happen: a caller goes on
//! only after its record was written, and while nothing can be written nothing is allowed.
//!
//! Records that wait together are written together. A written record survives the relay; to survive the machine it
//! waits for the disk at most [`SYNC`].

mod file;

pub use file::AuditFileError;

use crate::clock::Clock;
use file::LogFile;
use postern_protocol::{Code, Problem, Timestamp};
use postern_relay_core::audit::{Chain, Checkpoint, CheckpointSigner, Event, Record};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
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
    Record(Box<Record>, oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

impl AuditLog {
    /// Opens the log, goes on where it ended and starts the writer. `remembered` is the newest checkpoint kept
    /// elsewhere: a log that ends before it was cut short, which is recorded.
    pub fn open(
        path: &Path,
        signer: CheckpointSigner,
        remembered: Option<&Checkpoint>,
        clock: Clock,
    ) -> Result<Self, AuditFileError> {
        let (file, found) = LogFile::open(path, Chain::genesis(&signer.public()))?;
        let (queue, jobs) = sync_channel(QUEUE);
        let (publish, checkpoints) = watch::channel(None);
        let mut writer =
            Writer { file, signer, clock, publish, unsigned: 0, signed: Instant::now(), synced: Instant::now() };
        for what in found.describe(remembered) {
            tracing::warn!(file = %path.display(), "{what}");
            writer.write(&[Record::event(Event::Recovery, writer.clock.now()).detail(what)])?;
        }
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || writer.run(&jobs))
            .map_err(|error| AuditFileError::Io(path.to_owned(), error))?;
        Ok(Self { queue, checkpoints })
    }

    /// Writes `record`. Resolves when the line is in the file.
    pub async fn record(&self, record: Record) -> Result<(), AuditUnavailable> {
        let (done, written) = oneshot::channel();
        self.queue.try_send(Job::Record(Box::new(record), done)).map_err(|_| AuditUnavailable)?;
        written.await.map_err(|_| AuditUnavailable)
    }

    /// The newest checkpoint, for safe keeping elsewhere.
    pub fn checkpoints(&self) -> watch::Receiver<Option<Checkpoint>> {
        self.checkpoints.clone()
    }

    /// Writes a last checkpoint and ends the writer.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.try_send(Job::Close(done)).is_ok() {
            let _ended_either_way = closed.await;
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
            let mut closing = None;
            let mut waiting = Vec::new();
            match jobs.recv_timeout(SYNC) {
                Ok(job) => std::iter::once(job).chain(jobs.try_iter()).take(BATCH).for_each(|job| match job {
                    Job::Record(record, done) => waiting.push((*record, done)),
                    Job::Close(done) => closing = Some(done),
                }),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.commit(waiting);
            self.keep_up(closing.is_some());
            if let Some(done) = closing {
                let _nobody_waits = done.send(());
                break;
            }
        }
    }

    /// Writes what waits and tells each caller; on failure the callers learn it by the dropped channel.
    fn commit(&mut self, waiting: Vec<(Record, oneshot::Sender<()>)>) {
        if waiting.is_empty() {
            return;
        }
        let (records, callers): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        if self.write(&records).is_ok() {
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
            // A disk that fails here fails the next write as well, which is where it is reported.
            let _ = self.file.sync();
            self.synced = Instant::now();
        }
    }
}

/// A record of an event for which nobody waits, such as the start of the relay.
pub fn plain(event: Event, now: Timestamp, detail: impl Into<String>) -> Record {
    Record::event(event, now).detail(detail)
}

#[cfg(test)]
mod tests;
