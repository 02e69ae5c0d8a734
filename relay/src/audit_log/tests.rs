//! The audit log across crashes, broken disks and tampering.

use super::*;
use postern_relay_core::audit::{CheckpointKey, verify};
use std::io::Write as _;
use std::path::PathBuf;

struct World {
    path: PathBuf,
    key: rcgen::KeyPair,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        Self { path, key: rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(), _dir: dir }
    }

    fn signer(&self) -> CheckpointSigner {
        CheckpointSigner::from_pkcs8(&self.key.serialize_der()).unwrap()
    }

    fn public(&self) -> CheckpointKey {
        self.signer().public()
    }

    fn open(&self, remembered: Option<&Checkpoint>) -> AuditLog {
        AuditLog::open(&self.path, self.signer(), remembered, Clock::new()).unwrap()
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap()
    }

    fn append(&self, text: &str) {
        let mut file = std::fs::OpenOptions::new().append(true).open(&self.path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
}

fn record(detail: &str) -> Record {
    plain(Event::Decision, Timestamp::from_seconds(1_800_000_000), detail)
}

async fn write(log: &AuditLog, count: usize) {
    let records = (0..count).map(|index| log.record(record(&format!("{index}"))));
    assert!(futures_util::future::join_all(records).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_restart_continues_the_chain() {
    let world = World::new();
    let mut remembered = None;
    for _ in 0..3 {
        let log = world.open(remembered.as_ref());
        write(&log, 10).await;
        log.close().await;
        remembered = log.checkpoints().borrow().clone();
    }
    let report = verify(world.text().lines(), &world.public(), remembered.as_ref()).unwrap();
    assert_eq!((report.lines, report.checkpoints, report.unsigned), (33, 3, 0));
}

#[tokio::test]
async fn checkpoints_come_with_every_thousand_records() {
    let world = World::new();
    let log = world.open(None);
    for _ in 0..3 {
        write(&log, 1000).await;
    }
    log.close().await;
    let report = verify(world.text().lines(), &world.public(), None).unwrap();
    assert!(report.checkpoints >= 2, "{report:?}");
}

/// A crash in the middle of a write leaves half a line: it goes, and a record says so.
#[tokio::test]
async fn an_unfinished_last_line_is_taken_away_and_recorded() {
    let world = World::new();
    let log = world.open(None);
    write(&log, 3).await;
    log.close().await;
    world.append("{\"seq\":5,\"prev\":\"");
    let log = world.open(None);
    write(&log, 1).await;
    log.close().await;
    let report = verify(world.text().lines(), &world.public(), None).unwrap();
    assert_eq!(report.lines, 4 + 1 + 1 + 1);
    assert!(world.text().lines().nth(4).unwrap().contains("\"event\":\"recovery\""));
}

/// A log cut short while the relay was down: the relay remembers where it was.
#[tokio::test]
async fn a_log_cut_short_is_recorded() {
    let world = World::new();
    let log = world.open(None);
    write(&log, 5).await;
    log.close().await;
    let remembered = log.checkpoints().borrow().clone();
    assert_eq!(remembered.as_ref().unwrap().seq, 6);
    let kept: String = world.text().lines().take(2).map(|line| format!("{line}\n")).collect();
    std::fs::write(&world.path, kept).unwrap();
    let broken = verify(world.text().lines(), &world.public(), remembered.as_ref()).unwrap_err();
    assert_eq!(broken.line, 3);
    let log = world.open(remembered.as_ref());
    log.close().await;
    let line = world.text().lines().nth(2).unwrap().to_owned();
    assert!(line.contains("tampering") && line.contains("remembers line 6"), "{line}");
}

/// A log rewritten while the relay was down, longer than it was and hashed from its beginning: no key is needed for
/// that, so only what the relay remembers tells.
#[tokio::test]
async fn a_rewritten_log_is_recorded() {
    let world = World::new();
    let log = world.open(None);
    write(&log, 5).await;
    log.close().await;
    let remembered = log.checkpoints().borrow().clone();
    let mut chain = Chain::genesis(&world.public());
    let mut forged = String::new();
    for index in 0..20 {
        let (line, next) = chain.append(&record(&format!("forged {index}")));
        forged += &(line + "\n");
        chain = next;
    }
    std::fs::write(&world.path, forged).unwrap();
    let log = world.open(remembered.as_ref());
    log.close().await;
    let line = world.text().lines().nth(20).unwrap().to_owned();
    assert!(line.contains("\"event\":\"tampering\"") && line.contains("\"result\":\"deny\""), "{line}");
}

/// A change of what was written after the remembered line, mended up to the end, is found too.
#[tokio::test]
async fn what_follows_the_remembered_line_must_follow_from_it() {
    let world = World::new();
    let log = world.open(None);
    write(&log, 3).await;
    log.close().await;
    let remembered = log.checkpoints().borrow().clone();
    let log = world.open(remembered.as_ref());
    write(&log, 200).await;
    log.close().await;
    assert!(!world.text().contains("tampering"), "an honest log goes on");
    let lines: Vec<String> = world.text().lines().map(str::to_owned).collect();
    let gap: String =
        lines.iter().enumerate().filter(|(at, _)| *at != 50).map(|(_, line)| format!("{line}\n")).collect();
    std::fs::write(&world.path, gap).unwrap();
    let log = world.open(remembered.as_ref());
    log.close().await;
    assert!(world.text().contains("tampering"));
}

#[tokio::test]
async fn a_new_log_says_where_the_old_one_ended() {
    let world = World::new();
    let log = world.open(None);
    write(&log, 3).await;
    let kept = log.rotate().await.unwrap();
    write(&log, 2).await;
    log.close().await;
    let old = std::fs::read_to_string(&kept).unwrap();
    let report = verify(old.lines(), &world.public(), None).unwrap();
    assert_eq!((report.lines, report.unsigned), (4, 0), "closed with a checkpoint");
    let remembered = log.checkpoints().borrow().clone();
    verify(world.text().lines(), &world.public(), remembered.as_ref()).unwrap();
    let first = world.text().lines().next().unwrap().to_owned();
    assert!(first.contains("\"event\":\"rotation\"") && first.contains(&report.head), "{first}");
    let log = world.open(remembered.as_ref());
    log.close().await;
    assert!(!world.text().contains("tampering"));
}

#[tokio::test]
async fn a_last_line_of_something_else_is_not_continued() {
    let world = World::new();
    std::fs::write(&world.path, "not an audit log\n").unwrap();
    let opened = AuditLog::open(&world.path, world.signer(), None, Clock::new());
    assert!(matches!(opened, Err(AuditFileError::Chain(..))));
    assert_eq!(world.text(), "not an audit log\n");
}

/// While the log cannot be written, nothing is recorded; when it can, everything goes on where it stopped.
#[tokio::test]
async fn a_log_that_cannot_be_written_denies_and_recovers() {
    let world = World::new();
    let log = world.open(None);
    write(&log, 3).await;
    let aside = world.path.with_extension("aside");
    // A directory in its place: opening fails for everyone, root included. The removed file must not swallow records.
    std::fs::copy(&world.path, &aside).unwrap();
    std::fs::remove_file(&world.path).unwrap();
    std::fs::create_dir(&world.path).unwrap();
    for _ in 0..3 {
        assert_eq!(log.record(record("lost")).await, Err(AuditUnavailable));
    }
    std::fs::remove_dir(&world.path).unwrap();
    assert_eq!(log.record(record("lost")).await, Err(AuditUnavailable), "it is not begun anew by itself");
    std::fs::rename(&aside, &world.path).unwrap();
    write(&log, 2).await;
    log.close().await;
    let report = verify(world.text().lines(), &world.public(), None).unwrap();
    assert_eq!(report.lines, 3 + 2 + 1);
    assert!(!world.text().contains("lost"));
}

/// A full disk: `/dev/full` refuses every byte.
#[tokio::test]
async fn a_full_disk_denies() {
    let world = World::new();
    std::os::unix::fs::symlink("/dev/full", &world.path).unwrap();
    let log = world.open(None);
    assert_eq!(log.record(record("lost")).await, Err(AuditUnavailable));
}

#[tokio::test]
async fn a_line_that_others_add_is_noticed() {
    let world = World::new();
    let log = world.open(None);
    write(&log, 1).await;
    world.append("{\"seq\":2,\"event\":\"decision\",\"forged\":true}\n");
    assert_eq!(log.record(record("after")).await, Err(AuditUnavailable));
}

#[tokio::test]
async fn after_close_nothing_is_recorded() {
    let world = World::new();
    let log = world.open(None);
    log.close().await;
    assert_eq!(log.record(record("late")).await, Err(AuditUnavailable));
}
