//! `policy diff NEW`: the requests of the audit log and the live streams, decided by today's policy and by the new one.

use super::super::Failure;
use super::super::output::{Output, count};
use super::history::{History, Past};
use super::{is_of_policy, load, read, result, snapshot};
use crate::admin;
use crate::clock::Clock;
use crate::config::Outline;
use crate::policy_diff::LiveDiff;
use postern_protocol::{AppName, Code};
use postern_relay_core::access::{Snapshot, simulate};
use postern_relay_core::audit::Entry;
use postern_relay_core::principal::PrincipalKey;
use serde::Serialize;
use serde_json::json;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// Most rows for people.
const ROWS: usize = 20;

/// What would change for the past.
#[derive(Debug, Default, Serialize)]
pub(super) struct PastDiff {
    /// Requests decided by both.
    decided: usize,
    denies: usize,
    allows: usize,
    /// People and service accounts that would be denied something.
    people_denied: usize,
    /// Requests of which the log does not have all that a decision reads.
    unreplayable: usize,
    changes: Vec<PastChange>,
}

/// Requests of one principal to one app with the same answer.
#[derive(Clone, Debug, Serialize)]
struct PastChange {
    principal: PrincipalKey,
    app: AppName,
    /// Today; absent: allowed.
    was: Option<Code>,
    /// By the new policy; absent: allowed.
    becomes: Option<Code>,
    /// Determining policies of the new one.
    policies: Vec<String>,
    requests: usize,
}

pub(super) async fn diff(
    outline: &Outline,
    new: &Path,
    since: Duration,
    most: usize,
    output: Output,
) -> Result<(), Failure> {
    let today = snapshot(outline, load(outline, &outline.policy_file)?);
    let text = read(new)?;
    let policy = load(outline, new)?;
    let live = match admin::policy_diff(&outline.state_dir, &text).await {
        Some(answer) => Some(answer?),
        None => None,
    };
    let past = History::of(outline).decisions(Clock::new().now().minus(since), most);
    let found = compare(&past.entries, &today, &snapshot(outline, policy));
    if output.json {
        output.json(&json!({ "live": live, "past": found, "incomplete": past.more, "unread": past.unread }));
        return Ok(());
    }
    output.line(&summary(live.as_ref(), &found));
    table(live.as_ref(), &found, output);
    notes(live.as_ref(), &past, &found, most, output);
    Ok(())
}

pub(super) fn compare(entries: &[Entry], today: &Snapshot, new: &Snapshot) -> PastDiff {
    let mut diff = PastDiff::default();
    let mut people = BTreeSet::new();
    let mut found = BTreeMap::new();
    // A re-check of a stream is not one more request.
    for entry in entries.iter().filter(|entry| is_of_policy(entry.code) && entry.streams.is_none()) {
        let answers = entry.replay().ok().and_then(|past| {
            let was = simulate(&past.who, &past.request, today, past.at)?;
            let becomes = simulate(&past.who, &past.request, new, past.at)?;
            Some((past, was, becomes))
        });
        let Some((past, was, becomes)) = answers else {
            diff.unreplayable += 1;
            continue;
        };
        diff.decided += 1;
        match (was.allowed(), becomes.allowed()) {
            (true, false) => {
                diff.denies += 1;
                people.insert(past.who.principal.clone());
            }
            (false, true) => diff.allows += 1,
            _ => continue,
        }
        let key = (past.who.principal, past.request.app, was.code, becomes.code, becomes.policies);
        *found.entry(key).or_insert(0) += 1;
    }
    diff.people_denied = people.len();
    let row = |((principal, app, was, becomes, policies), requests)| PastChange {
        principal,
        app,
        was,
        becomes,
        policies,
        requests,
    };
    diff.changes = found.into_iter().map(row).collect();
    diff.changes.sort_by_key(|change| Reverse(change.requests));
    diff
}

/// `cuts 3 live streams, denies 41 past requests of 2 people, newly allows 0`
pub(super) fn summary(live: Option<&LiveDiff>, past: &PastDiff) -> String {
    let streams = live.map_or_else(String::new, |live| {
        let held = if live.held > 0 { format!("holds {}, ", count(live.held, "live stream")) } else { String::new() };
        format!("cuts {}, {held}", count(live.cut, "live stream"))
    });
    let people = if past.people_denied == 1 { "1 person".to_owned() } else { format!("{} people", past.people_denied) };
    format!("{streams}denies {} of {people}, newly allows {}", count(past.denies, "past request"), past.allows)
}

fn table(live: Option<&LiveDiff>, past: &PastDiff, output: Output) {
    let mut rows: Vec<(usize, [String; 5])> = Vec::new();
    for change in live.into_iter().flat_map(|live| &live.changes) {
        let (who, app) = (change.principal.subject().to_owned(), change.app.to_string());
        let row =
            [count(change.streams, "live stream"), who, app, result(Some(change.code)), change.policies.join(", ")];
        rows.push((change.streams, row));
    }
    for change in &past.changes {
        let (who, app) = (change.principal.subject().to_owned(), change.app.to_string());
        let row = [count(change.requests, "request"), who, app, result(change.becomes), change.policies.join(", ")];
        rows.push((change.requests, row));
    }
    if rows.is_empty() {
        return;
    }
    rows.sort_by_key(|(size, _)| Reverse(*size));
    let left = rows.len().saturating_sub(ROWS);
    let rows: Vec<_> = rows.into_iter().take(ROWS).map(|(_, row)| row).collect();
    output.table(["what", "who", "app", "becomes", "by"], &rows);
    if left > 0 {
        output.note(&format!("{left} smaller changes are left out; --json has them all"));
    }
}

fn notes(live: Option<&LiveDiff>, past: &Past, diff: &PastDiff, most: usize, output: Output) {
    if live.is_none() {
        output.note("No relay runs with this state directory: only the audit log was looked at.");
    }
    output.note(&format!("{} of the audit log decided by both policies", count(diff.decided, "request")));
    if diff.unreplayable > 0 {
        let requests = count(diff.unreplayable, "request");
        output.note(&format!("{requests} left out: the log does not have all that the decision read"));
    }
    if past.more {
        output.note(&format!("there are more than {most}: the newest were taken (--max)"));
    }
    for file in &past.unread {
        output.note(&format!("{file} cannot be read"));
    }
}
