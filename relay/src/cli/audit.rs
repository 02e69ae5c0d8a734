//! `audit verify`, `audit rotate` and `audit tail`.

use super::output::Output;
use super::{Common, Failure, advised, failed, listing};
use crate::admin::{self, Rotated};
use crate::assemble;
use crate::audit_log::{AuditLog, set_aside};
use crate::clock::Clock;
use crate::config::Outline;
use crate::keys::{self, Keys};
use crate::serve::StateLock;
use crate::store::Store;
use postern_protocol::Code;
use postern_protocol::problem::printable;
use postern_relay_core::audit::{self, Broken, Checkpoint, CheckpointKey, CheckpointSigner};
use serde_json::Value;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Proves the log. Without FILE and `--key` those of the configuration serve; with both no configuration is needed.
pub(super) async fn verify(
    common: &Common,
    file: Option<PathBuf>,
    key: Option<PathBuf>,
    output: Output,
) -> Result<(), Failure> {
    let outline = if file.is_some() && key.is_some() { None } else { Some(common.outline()?) };
    let key_file = match (key, &outline) {
        (Some(key), _) => key,
        (None, Some(outline)) => keys::audit_public(&outline.keys_dir),
        (None, None) => PathBuf::from(keys::AUDIT_PUBLIC),
    };
    let key = read_key(&key_file)?;
    // The relay writes a checkpoint to the log first and remembers it then: read in the other order, it is there.
    let remembered = match (&file, &outline) {
        (None, Some(outline)) => remembered(outline).await?,
        _ => None,
    };
    let file = file.or(outline.map(|outline| outline.audit_file)).unwrap_or_default();
    let mut lines = Lines::open(&file)?;
    let result = audit::verify(&mut lines, &key, remembered.as_ref());
    if let Some(error) = lines.error {
        return Err(failed(Code::AuditUnavailable, format!("{}: {error}", file.display())));
    }
    let shown = file.display();
    for line in &lines.recoveries {
        output
            .note(&format!("{shown}: line {line}: here the relay took an unfinished line away, as a crash leaves it"));
    }
    if lines.unfinished {
        output.note(&format!("{shown}: the last line is unfinished and was left out; the relay may be writing it"));
    }
    let result = result.and_then(|report| match lines.tamperings.first() {
        Some(line) => Err(Broken { line: *line, why: "here the relay found its log cut short or changed" }),
        None => Ok(report),
    });
    match result {
        Ok(report) if output.json => {
            let audit::Report { lines: count, checkpoints, unsigned, head } = report;
            let recoveries = &lines.recoveries;
            output.json(&serde_json::json!({
                "ok": true, "lines": count, "checkpoints": checkpoints, "unsigned": unsigned, "head": head,
                "recoveries": recoveries,
            }));
            Ok(())
        }
        Ok(report) => {
            output.data(&format!(
                "{shown}: intact; lines: {}, checkpoints: {}, not yet signed: {}",
                report.lines, report.checkpoints, report.unsigned
            ));
            Ok(())
        }
        Err(broken) if output.json => {
            output.json(&serde_json::json!({ "ok": false, "line": broken.line, "why": broken.why }));
            Err(Failure::Said)
        }
        Err(broken) => {
            output.data(&format!("{shown}: {broken}"));
            Err(Failure::Said)
        }
    }
}

fn read_key(path: &Path) -> Result<CheckpointKey, Failure> {
    let fail = |why: String| {
        let fix = "Give the relay's audit.pub with --key FILE.";
        advised(Code::ConfigInvalid, format!("{} {why}", path.display()), fix)
    };
    keys::read_text(path).map_err(fail)?.parse().map_err(|_| fail("is not a public audit key".to_owned()))
}

/// The checkpoint that the relay remembers, if one has run.
async fn remembered(outline: &Outline) -> Result<Option<Checkpoint>, Failure> {
    let path = outline.state_dir.join(assemble::STORE);
    if !path.exists() {
        return Ok(None);
    }
    Ok(Store::open(&path).await?.checkpoint().await?)
}

/// The whole lines of a log.
pub(super) struct Lines {
    reader: BufReader<File>,
    read: u64,
    recoveries: Vec<u64>,
    tamperings: Vec<u64>,
    unfinished: bool,
    error: Option<std::io::Error>,
}

/// Longest line that is read: a file of other things must not fill the memory.
const MAX_LINE: u64 = 1024 * 1024;

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| {
            let fix = "Give the log's file, or the relay's --config or --state-dir.";
            advised(Code::AuditUnavailable, format!("{}: {error}", path.display()), fix)
        })?;
        let (recoveries, tamperings) = (Vec::new(), Vec::new());
        Ok(Self { reader: BufReader::new(file), read: 0, recoveries, tamperings, unfinished: false, error: None })
    }
}

impl Iterator for &mut Lines {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        if let Err(error) = (&mut self.reader).take(MAX_LINE).read_until(b'\n', &mut bytes) {
            self.error = Some(error);
            return None;
        }
        if bytes.is_empty() {
            return None;
        }
        if bytes.pop_if(|last| *last == b'\n').is_none() && (bytes.len() as u64) < MAX_LINE {
            // It is read again from its beginning when the rest of it is there.
            self.unfinished = true;
            self.error = self.reader.seek_relative(-i64::try_from(bytes.len()).unwrap_or(0)).err();
            return None;
        }
        self.read += 1;
        let line = String::from_utf8_lossy(&bytes).into_owned();
        if line.contains("\"event\":\"recovery\"") {
            self.recoveries.push(self.read);
        }
        if line.contains("\"event\":\"tampering\"") {
            self.tamperings.push(self.read);
        }
        Some(line)
    }
}

/// Begins a new log, by the relay that runs or in the place of one that does not.
pub(super) async fn rotate(outline: &Outline, output: Output) -> Result<(), Failure> {
    let kept = match admin::rotate(&outline.state_dir).await {
        Some(answer) => answer?.kept,
        None => rotate_alone(outline).await?,
    };
    if output.json {
        output.json(&Rotated { kept });
    } else {
        output.data(&kept.display().to_string());
    }
    Ok(())
}

async fn rotate_alone(outline: &Outline) -> Result<PathBuf, Failure> {
    let _no_relay_meanwhile = StateLock::take(&outline.state_dir)?;
    let store = listing::open(outline).await?;
    let keys = Keys::load(&outline.keys_dir)?;
    let unusable = |error: &dyn std::fmt::Display| failed(Code::AuditUnavailable, error);
    let signer = CheckpointSigner::from_pkcs8(&keys.audit).map_err(|error| unusable(&error))?;
    let (clock, remembered) = (Clock::new(), store.checkpoint().await?);
    let (kept, record) =
        set_aside(&outline.audit_file, remembered.as_ref(), clock.now()).map_err(|error| unusable(&error))?;
    let log = AuditLog::open(&outline.audit_file, signer, None, clock).map_err(|error| unusable(&error))?;
    log.record(record).await.map_err(|error| unusable(&error))?;
    log.close().await;
    let newest = log.checkpoints().borrow().clone();
    if let Some(checkpoint) = newest {
        store.keep_checkpoint(&checkpoint).await?;
    }
    Ok(kept)
}

/// Prints the newest records and, if asked, those to come.
pub(super) fn tail(outline: &Outline, count: usize, follow: bool, output: Output) -> Result<(), Failure> {
    let mut lines = Lines::open(&outline.audit_file)?;
    let mut newest = VecDeque::new();
    for line in &mut lines {
        newest.push_back(line);
        if newest.len() > count {
            newest.pop_front();
        }
    }
    newest.iter().for_each(|line| record(line, output));
    if !follow {
        return Ok(());
    }
    loop {
        std::thread::sleep(Duration::from_millis(300));
        for line in &mut lines {
            record(&line, output);
        }
    }
}

/// One record in words, or as it stands.
fn record(line: &str, output: Output) {
    let parsed: Value = serde_json::from_str(line).unwrap_or_default();
    let text = |name: &str| parsed.get(name).and_then(Value::as_str).unwrap_or_default();
    if output.json || parsed.is_null() {
        output.data(&printable(line));
        return;
    }
    let who = parsed.get("principal").and_then(|who| who.get("subject")).and_then(Value::as_str);
    // Who it was about, or else what.
    let named = |kind: &str| Some(format!("{kind} {}", text(kind))).filter(|_| !text(kind).is_empty());
    let who = who.map(str::to_owned).or_else(|| named("device")).or_else(|| named("session")).unwrap_or_default();
    let mut words = vec![text("time"), text("event"), text("result"), text("code"), &who, text("app")];
    words.extend([text("method"), text("path"), text("detail"), text("decision")]);
    words.retain(|word| !word.is_empty());
    output.data(&printable(&words.join("  ")));
}
