//! Examines the agent and the way to its relay, one check beside the other, and tells what was found in a fixed order.
//!
//! No finding names a person or holds a secret: findings are shown, copied and sent to administrators.

mod device;
mod network;
mod portal;

pub(crate) use network::explain;

use crate::link::TlsIdentity;
use crate::secrets::Vault;
use network::Public;
use postern_protocol::discovery::RelayEndpoint;
use postern_protocol::local::{Check, CheckResult, Finding, LocalApp, Status};
use postern_protocol::problem::printable;
use postern_protocol::{Problem, Timestamp};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use url::Url;

/// No check takes longer; the one over QUIC may begin only after another has ended.
const CHECK_LIMIT: Duration = Duration::from_secs(5);
/// Most characters of a summary.
const MAX_SUMMARY: usize = 500;

/// What is known of the one who is examined. The default knows nothing: no agent runs.
#[derive(Clone, Default)]
pub(crate) struct Patient {
    /// The agent's own word of where it stands, if one runs.
    pub(crate) status: Option<Status>,
    /// The keyring, where secrets are to be kept in it.
    pub(crate) keyring: Option<Vault>,
    /// The relay of the session, the last one or the configured one.
    pub(crate) relay: Option<Relay>,
    /// What shows the device at the relay, while somebody is signed in.
    pub(crate) identity: Option<TlsIdentity>,
    /// From when until when the device's certificate is good.
    pub(crate) certificate: Option<(Timestamp, Timestamp)>,
    /// Answers 204 where no page of the network stands in the way.
    pub(crate) captive_probe: Option<Url>,
    /// The apps' local addresses.
    pub(crate) apps: Vec<LocalApp>,
    /// The port of `http` apps, while an agent listens there.
    pub(crate) http_port: Option<u16>,
}

/// A relay that is known.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) address: Url,
    pub(crate) ca_pem: Option<String>,
    /// Where it is reached over QUIC, if it was asked before.
    pub(crate) endpoint: Option<RelayEndpoint>,
}

/// How one check came out, in words for a person.
#[derive(Debug)]
struct Verdict {
    result: CheckResult,
    summary: String,
    problem: Option<Problem>,
}

/// Examines; the findings come in the order of [`Check::ALL`], each as soon as it and those before it are known.
/// `held` is let go of in the end, also when nobody listens any more.
pub(crate) fn examine(patient: Patient, held: impl Send + 'static) -> mpsc::Receiver<Finding> {
    let (findings, listener) = mpsc::channel(Check::ALL.len());
    tokio::spawn(async move {
        let _held = held;
        run(Arc::new(patient), findings).await;
    });
    listener
}

async fn run(patient: Arc<Patient>, findings: mpsc::Sender<Finding>) {
    let keyring = timed(Check::Keyring, device::keyring(Arc::clone(&patient)));
    let listeners = timed(Check::Listeners, device::listeners(Arc::clone(&patient)));
    let signs = tokio::spawn(portal::signs(patient.captive_probe.clone(), patient.relay.clone()));
    let began = Instant::now();
    let public = tokio::spawn(network::public(patient.relay.clone()));
    // Where the relay told its place before, it need not be asked for it first.
    let early = patient.relay.as_ref().and_then(|relay| relay.endpoint.clone());
    let early = early.map(|endpoint| timed(Check::RelayQuic, network::quic(Some(endpoint), patient.identity.clone())));

    let now = device::wall();
    tell(&findings, Check::Agent, device::agent(&patient), began).await;
    pass(&findings, Check::Keyring, keyring).await;
    let public = public.await.unwrap_or(Public::Unknown);
    let reached = began.elapsed();
    let known = patient.certificate.is_some();
    let portal = portal::verdict(&public, known, signs).await;
    tell(&findings, Check::CaptivePortal, portal, began).await;
    let mut finding = finding(Check::RelayTcp, network::tcp(&public), reached);
    // What an own authority costs is told once, by the check it belongs to.
    finding.took_ms = millis(reached);
    let _ = findings.send(finding).await;
    let quic = early.unwrap_or_else(|| {
        let endpoint = public.endpoint();
        timed(Check::RelayQuic, network::quic(endpoint, patient.identity.clone()))
    });
    pass(&findings, Check::RelayQuic, quic).await;
    tell(&findings, Check::Clock, network::clock(&public, now), Instant::now()).await;
    let seen = Instant::now();
    tell(&findings, Check::Certificate, device::certificate(&patient, device::wall()), seen).await;
    tell(&findings, Check::Session, device::session(&patient, device::wall()), seen).await;
    pass(&findings, Check::Listeners, listeners).await;
}

type Checking = tokio::task::JoinHandle<Finding>;

/// Runs a check beside the others.
fn timed(check: Check, work: impl Future<Output = Verdict> + Send + 'static) -> Checking {
    tokio::spawn(async move {
        let began = Instant::now();
        let verdict = tokio::time::timeout(CHECK_LIMIT, work).await;
        finding(check, verdict.unwrap_or_else(|_| Verdict::slow(check)), began.elapsed())
    })
}

async fn pass(findings: &mpsc::Sender<Finding>, check: Check, checking: Checking) {
    let broken = |_| finding(check, Verdict::skipped("The check broke off."), Duration::ZERO);
    // Nobody need be listening.
    let _ = findings.send(checking.await.unwrap_or_else(broken)).await;
}

async fn tell(findings: &mpsc::Sender<Finding>, check: Check, verdict: Verdict, began: Instant) {
    let _ = findings.send(finding(check, verdict, began.elapsed())).await;
}

fn finding(check: Check, verdict: Verdict, took: Duration) -> Finding {
    let Verdict { result, summary, problem } = verdict;
    let fix = problem.as_ref().map(|problem| problem.fix.clone().unwrap_or_else(|| problem.code.fix().to_owned()));
    let short = |text: &str| -> String { printable(text).chars().take(MAX_SUMMARY).collect() };
    Finding {
        check,
        result,
        summary: short(&summary),
        fix: fix.map(|fix| short(&fix)),
        code: problem.map(|problem| problem.code),
        took_ms: millis(took),
    }
}

fn millis(took: Duration) -> u32 {
    u32::try_from(took.as_millis()).unwrap_or(u32::MAX)
}

impl Verdict {
    fn ok(summary: impl Into<String>) -> Self {
        Self { result: CheckResult::Ok, summary: summary.into(), problem: None }
    }

    fn skipped(summary: impl Into<String>) -> Self {
        Self { result: CheckResult::Skipped, summary: summary.into(), problem: None }
    }

    fn warning(summary: impl Into<String>, problem: Problem) -> Self {
        Self { result: CheckResult::Warning, summary: summary.into(), problem: Some(problem) }
    }

    fn failed(summary: impl Into<String>, problem: Problem) -> Self {
        Self { result: CheckResult::Failed, summary: summary.into(), problem: Some(problem) }
    }

    /// A problem in its own words.
    fn of(problem: Problem) -> Self {
        let detail = problem.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
        Self::failed(format!("{}{detail}", problem.title), problem)
    }

    fn slow(check: Check) -> Self {
        use postern_protocol::Code;
        let (summary, code) = match check {
            Check::Keyring => ("It did not answer; perhaps it waits for its password.", Code::KeyringLocked),
            Check::RelayQuic => ("No answer over UDP in time; the network may block it.", Code::RelayUnreachable),
            _ => ("No answer in time.", Code::Internal),
        };
        Self::failed(summary, Problem::new(code))
    }
}

#[cfg(test)]
mod tests;
