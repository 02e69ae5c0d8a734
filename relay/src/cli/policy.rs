//! `policy check`, `test`, `explain` and `diff`. All of them ask the judge that decides requests.

mod cases;
mod diff;
mod explain;
mod history;

use super::output::{self, Output};
use super::{Common, Failure, advised, failed};
use crate::config::{self, Fault, Outline};
use clap::Subcommand;
use history::History;
use postern_protocol::Code;
use postern_relay_core::access::Snapshot;
use postern_relay_core::app::AppTable;
use postern_relay_core::limits::MAX_POLICY_BYTES;
use postern_relay_core::policy::{Policy, warnings};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Subcommand)]
pub(super) enum PolicyCommand {
    /// Tell every mistake in a policy file, against the apps of the configuration, and what is hardly meant
    Check {
        /// The file, instead of the configuration's
        file: Option<PathBuf>,
    },
    /// Decide the cases of a file by the policy, and tell where the answer is not the expected one
    Test {
        /// The cases, in TOML
        file: PathBuf,
        /// The policy, instead of the configuration's
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
    },
    /// Tell what a decision rested on, from the audit log and those that were rotated
    Explain {
        /// The decision's id, as the refusal shows it
        id: String,
    },
    /// Tell what another policy would change: decides the audit log's requests and the live streams by it
    Diff {
        /// The other policy
        new: PathBuf,
        /// How far to go back, such as 24h or 30d
        #[arg(long, value_name = "TIME", default_value = "7d", value_parser = since)]
        since: std::time::Duration,
        /// Most requests to decide, the newest first
        #[arg(long, value_name = "N", default_value_t = 100_000)]
        max: usize,
    },
}

pub(super) fn run(common: &Common, command: PolicyCommand, output: Output) -> Result<(), Failure> {
    let outline = common.outline()?;
    match command {
        PolicyCommand::Check { file } => check(&outline, file, output),
        PolicyCommand::Test { file, policy } => cases::test(&outline, &file, policy.as_deref(), output),
        PolicyCommand::Explain { id } => explain::explain(&outline, &id, output),
        PolicyCommand::Diff { new, since, max } => {
            super::runtime()?.block_on(diff::diff(&outline, &new, since, max, output))
        }
    }
}

fn since(text: &str) -> Result<std::time::Duration, String> {
    config::duration(text).ok_or_else(|| "write a duration such as 24h or 7d".to_owned())
}

fn check(outline: &Outline, file: Option<PathBuf>, output: Output) -> Result<(), Failure> {
    let apps = apps(outline)?;
    let file = file.unwrap_or_else(|| outline.policy_file.clone());
    let text = read(&file)?;
    match config::load_policy(&file, &text, apps.clone()) {
        Ok(policy) => {
            let place = |warning: postern_relay_core::policy::PolicyFault| Fault {
                file: file.clone(),
                line: warning.line,
                column: warning.column,
                message: warning.message,
                fix: "if it is meant so, nothing is to be done".to_owned(),
            };
            let groups = History::of(outline).groups();
            let doubts: Vec<Fault> = warnings(&text, &apps, &groups).into_iter().map(place).collect();
            let fine = format!("{}: no mistakes; policies: {}", file.display(), policy.len());
            output.checked_with(&[], &doubts, &fine);
            Ok(())
        }
        Err(faults) => {
            output.checked_with(&faults, &[], "");
            output.note(&format!("{} to correct", output::count(faults.len(), "mistake")));
            Err(Failure::Said)
        }
    }
}

fn apps(outline: &Outline) -> Result<Arc<AppTable>, Failure> {
    let unknown =
        || advised(Code::ConfigInvalid, "the apps of the configuration have mistakes", "Run: postern-relay check");
    outline.apps.clone().ok_or_else(unknown)
}

fn read(file: &Path) -> Result<String, Failure> {
    let fail = |why: &dyn std::fmt::Display| failed(Code::ConfigInvalid, format!("{}: {why}", file.display()));
    if std::fs::metadata(file).is_ok_and(|meta| meta.len() > MAX_POLICY_BYTES as u64) {
        return Err(fail(&"is larger than 4 MiB"));
    }
    config::text_of(file).map_err(|error| fail(&error))
}

/// The policy of this file for the apps of the configuration.
fn load(outline: &Outline, file: &Path) -> Result<Arc<Policy>, Failure> {
    Ok(Arc::new(config::load_policy(file, &read(file)?, apps(outline)?)?))
}

/// What decisions would read if this policy were in force, and nothing revoked.
fn snapshot(outline: &Outline, policy: Arc<Policy>) -> Snapshot {
    let posture_max_age = Some(outline.posture_max_age);
    Snapshot { revocations: Arc::default(), policy, posture_max_age, generation: 0 }
}

/// Was the decision made by the policy, or by what the policy is asked with? Other causes, such as an ended token, say
/// nothing about the policy.
fn is_of_policy(code: Option<Code>) -> bool {
    use Code::{AppKindMismatch, AppUnknown, PathAmbiguous, PolicyDenied, PostureStale, StepUpRequired};
    code.is_none_or(|code| {
        matches!(code, PolicyDenied | StepUpRequired | AppUnknown | AppKindMismatch | PathAmbiguous | PostureStale)
    })
}

/// `allow`, or `deny` and the code.
fn result(code: Option<Code>) -> String {
    code.map_or_else(|| "allow".to_owned(), |code| format!("deny ({code})"))
}

#[cfg(test)]
mod tests;
