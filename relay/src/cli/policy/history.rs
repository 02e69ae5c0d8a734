//! The audit log and those that were rotated, read backwards in time.

use super::super::audit::Lines;
use crate::config::Outline;
use postern_protocol::Timestamp;
use postern_relay_core::audit::{Entry, Event};
use postern_relay_core::policy::SHA256_IS;
use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

/// Most records that are looked through for the groups people are in.
const FOR_GROUPS: usize = 20_000;

/// The files, the newest first.
pub(super) struct History {
    files: Vec<PathBuf>,
}

/// Past decisions, and what of the log could not be read.
#[derive(Default)]
pub(super) struct Past {
    /// The newest first, file by file; within a file the oldest first.
    pub(super) entries: Vec<Entry>,
    /// Files that could not be read.
    pub(super) unread: Vec<String>,
    /// Were there more than were asked for?
    pub(super) more: bool,
}

impl History {
    pub(super) fn of(outline: &Outline) -> Self {
        let current = &outline.audit_file;
        let mut rotated = beside(current);
        // Their names tell when they were put aside.
        rotated.sort();
        rotated.reverse();
        Self { files: std::iter::once(current.clone()).chain(rotated).collect() }
    }

    /// The line that `wanted` is in, and the entry it is. The error: a file that could not be read, if no other has it.
    pub(super) fn find(&self, wanted: &str) -> Result<Option<(String, Entry)>, String> {
        let mut unread = None;
        let is_it = |entry: &Entry| entry.decision.as_ref().is_some_and(|id| id.as_str() == wanted);
        for file in &self.files {
            let mut lines = match Lines::open(file) {
                Ok(lines) => lines,
                Err(_) => {
                    unread = Some(format!("{} cannot be read", file.display()));
                    continue;
                }
            };
            let with_id = (&mut lines).filter(|line| line.contains(wanted));
            let mut found = with_id.filter_map(|line| Entry::read(&line).filter(is_it).map(|entry| (line, entry)));
            if let Some(found) = found.next() {
                return Ok(Some(found));
            }
        }
        unread.map_or(Ok(None), Err)
    }

    /// The thumbprint of the policy that was in force at `time`, as far as the log knows.
    pub(super) fn policy_at(&self, time: Timestamp) -> Option<String> {
        self.files.iter().find_map(|file| {
            let mut lines = Lines::open(file).ok()?;
            let loads = (&mut lines).filter(|line| line.contains(SHA256_IS)).filter_map(|line| Entry::read(&line));
            let is_load = |entry: &Entry| matches!(entry.event, Event::Start | Event::PolicyLoad);
            let before = loads.filter(is_load).filter(|entry| entry.time.is_some_and(|at| at <= time));
            before.last()?.detail?.split_once(SHA256_IS).map(|(_, thumbprint)| thumbprint.to_owned())
        })
    }

    /// The newest decisions, at most `most`, none from before `since`.
    pub(super) fn decisions(&self, since: Timestamp, most: usize) -> Past {
        let mut past = Past::default();
        for file in &self.files {
            let room = most.saturating_sub(past.entries.len());
            if room == 0 {
                past.more = true;
                break;
            }
            let Ok(mut lines) = Lines::open(file) else {
                past.unread.push(file.display().to_string());
                continue;
            };
            let (mut newest, mut before) = (VecDeque::new(), false);
            for line in (&mut lines).filter(|line| line.contains("\"event\":\"decision\"")) {
                let Some(entry) = Entry::read(&line).filter(|entry| entry.event == Event::Decision) else { continue };
                if entry.time.is_none_or(|time| time < since) {
                    before = true;
                    continue;
                }
                newest.push_back(entry);
                if newest.len() > room {
                    newest.pop_front();
                    past.more = true;
                }
            }
            past.entries.extend(newest);
            if before || past.more {
                break;
            }
        }
        past
    }

    /// Groups that somebody was in lately.
    pub(super) fn groups(&self) -> BTreeSet<String> {
        let past = self.decisions(Timestamp::default(), FOR_GROUPS);
        past.entries.into_iter().filter_map(|entry| entry.context).flat_map(|context| context.groups).collect()
    }
}

/// The logs that were rotated: `audit.20261123T140000Z.jsonl` beside `audit.jsonl`.
fn beside(current: &Path) -> Vec<PathBuf> {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let prefix = format!("{}.", text(current.file_stem()));
    let suffix = current.extension().map_or_else(String::new, |extension| format!(".{}", extension.to_string_lossy()));
    let directory = current.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_rotated = |name: &str| {
        let time = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(&suffix)).unwrap_or_default();
        time.ends_with('Z') && time.bytes().all(|b| b.is_ascii_digit() || b"TZ".contains(&b))
    };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| is_rotated(&entry.file_name().to_string_lossy())).map(|entry| entry.path()).collect()
}
