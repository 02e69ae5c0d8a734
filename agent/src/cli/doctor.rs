//! `postern doctor`: what is wrong, and how to mend it; also where no agent runs.

use super::output::{Output, Screen};
use super::{Format, client};
use crate::bundle::Bundle;
use crate::config::Config;
use crate::doctor;
use crate::engine;
use crate::state_dir::{StateDir, open_private};
use clap::Args;
use postern_protocol::local::{CheckResult, Finding};
use postern_protocol::{Code, Problem, Timestamp};
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Also write what an administrator needs to FILE, which may not exist yet: no secrets, and not your name
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    pub(super) format: Format,
}

/// With --json.
#[derive(Serialize)]
struct Findings<'a> {
    findings: &'a [Finding],
}

/// `true`: nothing failed.
pub(super) async fn run(
    args: &DoctorArgs,
    state_dir: &Path,
    config: Option<&Path>,
    output: &Output,
) -> Result<bool, Problem> {
    let client = client(state_dir)?;
    let running = match client.status().await {
        Ok(status) => Some(status.version),
        Err(problem) if problem.code == Code::AgentNotRunning => None,
        Err(problem) => return Err(problem),
    };
    let (mut findings, document) = match (&running, &args.bundle) {
        (Some(_), Some(_)) => of_bundle(&client.bundle().await?)?,
        (Some(_), None) => {
            let (mut findings, mut told) = (Vec::new(), client.doctor().await?);
            while let Some(finding) = told.next().await? {
                findings.push(finding);
            }
            (findings, Vec::new())
        }
        (None, _) => by_itself(state_dir, config).await?,
    };
    if let Some(version) = running.filter(|version| version != env!("CARGO_PKG_VERSION")) {
        other_version(&mut findings, &version);
    }
    output.data(&Findings { findings: &findings }, |screen: &Screen| screen.findings(&findings))?;
    if let Some(file) = &args.bundle {
        write(file, &document)?;
        output.progress(&format!("Written: {}. Have a look at it before you send it.", file.display()));
    }
    Ok(findings.iter().all(|finding| finding.result != CheckResult::Failed))
}

fn of_bundle(document: &[u8]) -> Result<(Vec<Finding>, Vec<u8>), Problem> {
    #[derive(serde::Deserialize)]
    struct Told {
        findings: Vec<Finding>,
    }
    let unreadable = |error: serde_json::Error| Problem::new(Code::VersionUnsupported).detail(error.to_string());
    let Told { findings } = serde_json::from_slice(document).map_err(unreadable)?;
    Ok((findings, document.to_vec()))
}

/// No agent runs: what can be looked at without one.
async fn by_itself(state_dir: &Path, config: Option<&Path>) -> Result<(Vec<Finding>, Vec<u8>), Problem> {
    let config = Config::load(config, state_dir)?;
    // On a machine where no agent ever ran, too, the configuration and the keyring are to be looked at.
    let patient = engine::without_agent(config, StateDir::open(state_dir)?).await;
    let (mut findings, mut told) = (Vec::new(), doctor::examine(patient, ()));
    while let Some(finding) = told.recv().await {
        findings.push(finding);
    }
    let bundle = Bundle {
        version: env!("CARGO_PKG_VERSION"),
        os: std::env::consts::OS,
        made: Timestamp::default().plus(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
        findings: findings.clone(),
        status: None,
        apps: Vec::new(),
        settings: None,
        refusals: Vec::new(),
        log: Vec::new(),
    };
    let document = bundle.redacted();
    Ok((findings, serde_json::to_vec(&document).unwrap_or_default()))
}

/// The agent that runs is of before or after an update.
fn other_version(findings: &mut [Finding], version: &str) {
    if let Some(finding) = findings.first_mut().filter(|finding| finding.result == CheckResult::Ok) {
        finding.result = CheckResult::Warning;
        finding.summary = format!("The agent runs, version {version}; this is {}.", env!("CARGO_PKG_VERSION"));
        finding.fix = Some("Restart it: postern agent stop, then postern agent start".to_owned());
        finding.code = Some(Code::VersionUnsupported);
    }
}

/// Makes the file, for the user alone; what is there already, a link included, is never written to.
fn write(file: &Path, document: &[u8]) -> Result<(), Problem> {
    let written = open_private(file, OpenOptions::new().write(true).create_new(true)).and_then(|mut to| {
        to.write_all(document)?;
        to.write_all(b"\n")
    });
    written.map_err(|error| {
        Problem::new(Code::RequestInvalid)
            .detail(format!("{}: {error}", file.display()))
            .advice(None, Some("Name a file that does not exist, in a directory of yours.".to_owned()))
    })
}
