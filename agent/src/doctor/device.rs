//! What can be looked at without the network.

use super::{Patient, Verdict};
use postern_protocol::local::{State, Status};
use postern_protocol::{Code, Problem, Timestamp};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;

/// A certificate is renewed at two thirds of its life; with less than this part of it left, that does not happen.
const LATE: u32 = 5;
/// A session that ends so soon is worth a word.
const ENDING: Duration = Duration::from_secs(600);

pub(super) fn wall() -> Timestamp {
    Timestamp::default().plus(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

pub(super) fn agent(patient: &Patient) -> Verdict {
    match &patient.status {
        Some(status) => Verdict::ok(format!("The agent runs, version {}.", status.version)),
        None => Verdict::failed("No agent runs with this state directory.", Problem::new(Code::AgentNotRunning)),
    }
}

pub(super) async fn keyring(patient: Arc<Patient>) -> Verdict {
    match &patient.keyring {
        None => Verdict::skipped("None is used: the configuration says so."),
        Some(vault) => match vault.probe().await {
            Ok(()) => Verdict::ok("Secrets can be kept, read back and removed."),
            Err(problem) => Verdict::of(problem),
        },
    }
}

pub(super) fn certificate(patient: &Patient, now: Timestamp) -> Verdict {
    let Some((from, until)) = patient.certificate else {
        return Verdict::skipped("None: it comes with signing in.");
    };
    if now < from {
        let summary = format!("By this device's clock it begins only at {from}.");
        return Verdict::failed(summary, Problem::new(Code::ClockWrong));
    }
    let left = until.since(now);
    if left.is_zero() {
        return Verdict::failed(format!("It ended at {until}."), Problem::new(Code::CertificateExpired));
    }
    if left < until.since(from) / LATE {
        let fix = "It is renewed as soon as the relay can be reached; see the other findings.";
        let problem = Problem::new(Code::CertificateExpired).advice(None, Some(fix.into()));
        return Verdict::warning(format!("It ends at {until} and was not renewed in time."), problem);
    }
    Verdict::ok(format!("Good until {until}; it is renewed before."))
}

pub(super) fn session(patient: &Patient, now: Timestamp) -> Verdict {
    let Some(status) = &patient.status else { return Verdict::skipped("Only a running agent knows.") };
    let told = |otherwise: Code| status.problem.clone().unwrap_or_else(|| Problem::new(otherwise));
    match status.state {
        State::Online => online(status, now),
        State::SignedOut => Verdict::warning("Nobody is signed in.", Problem::new(Code::NotSignedIn)),
        State::SigningIn | State::Enrolling => Verdict::skipped("A sign-in is under way."),
        State::Connecting | State::Offline => {
            let problem = told(Code::RelayUnreachable);
            Verdict::warning(format!("Signed in, but not connected: {}.", problem.title), problem)
        }
        State::Expired | State::Revoked => Verdict::of(told(Code::NotSignedIn)),
    }
}

fn online(status: &Status, now: Timestamp) -> Verdict {
    match status.session.as_ref().and_then(|session| session.ends) {
        Some(end) if end.since(now) < ENDING => {
            let fix = "Sign in again before it does; nothing is dropped: postern login".to_owned();
            let problem = Problem::new(Code::TokenExpired).advice(None, Some(fix));
            Verdict::warning(format!("It ends at {end}."), problem)
        }
        Some(end) => Verdict::ok(format!("Signed in and connected; it ends at {end}.")),
        None => Verdict::ok("Signed in and connected; it renews itself."),
    }
}

/// The port of `http` apps is knocked at. Those of `tcp` apps are not: that would open a stream to the app.
pub(super) async fn listeners(patient: Arc<Patient>) -> Verdict {
    let Some(port) = patient.http_port else { return Verdict::skipped("Only a running agent listens.") };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if let Err(error) = TcpStream::connect(address).await {
        return Verdict::of(Problem::new(Code::PortInUse).detail(format!("{address}: {error}")));
    }
    let broken: Vec<_> = patient.apps.iter().filter(|app| app.problem.is_some()).collect();
    match broken.first().and_then(|app| app.problem.clone()) {
        Some(problem) => {
            let names: Vec<_> = broken.iter().map(|app| app.entry.name.as_str()).collect();
            Verdict::failed(format!("No local address for {}: {}.", names.join(", "), problem.title), problem)
        }
        None if patient.apps.is_empty() => Verdict::ok(format!("{address} answers; there are no apps.")),
        None => Verdict::ok(format!("{address} answers; all {} apps have their address.", patient.apps.len())),
    }
}
