//! The way to the relay: its public address over TCP, its endpoint over QUIC, and what its answer says of the clock.

use super::{CHECK_LIMIT, Relay, Verdict, device, portal};
use crate::discovery;
use crate::link::{self, Link, TlsIdentity, full};
use http::header::HOST;
use http::{Method, Request};
use postern_protocol::control::{APPS, CONTROL_AUTHORITY};
use postern_protocol::discovery::{Discovery, RelayEndpoint};
use postern_protocol::{Code, Problem, Timestamp};
use std::time::Duration;
use url::Url;

/// A clock that is off by more is told.
const DRIFT: Duration = Duration::from_secs(60);
/// A clock that is off by more keeps tokens and certificates from being taken.
const WRONG: Duration = Duration::from_secs(300);

/// What the relay's public address answered.
pub(super) enum Public {
    /// No relay is known.
    Unknown,
    /// The relay did.
    Answered { address: Url, discovery: Box<Discovery>, date: Option<Timestamp> },
    /// Nobody did, or not the relay.
    Failed { problem: Problem, date: Option<Timestamp> },
}

impl Public {
    pub(super) fn endpoint(&self) -> Option<RelayEndpoint> {
        match self {
            Self::Answered { discovery, .. } => Some(discovery.relay.clone()),
            Self::Unknown | Self::Failed { .. } => None,
        }
    }
}

pub(super) async fn public(relay: Option<Relay>) -> Public {
    let Some(Relay { address, ca_pem, .. }) = relay else { return Public::Unknown };
    let asked = discovery::ask(&address, ca_pem.as_deref());
    let (result, date) = match tokio::time::timeout(CHECK_LIMIT, asked).await {
        Ok(answer) => answer,
        Err(_) => {
            let detail = format!("{address}: no answer within {} s", CHECK_LIMIT.as_secs());
            (Err(Problem::new(Code::RelayUnreachable).detail(detail)), None)
        }
    };
    match result {
        Ok(discovery) => Public::Answered { address, discovery: Box::new(discovery), date },
        Err(problem) => Public::Failed { problem, date },
    }
}

pub(super) fn tcp(public: &Public) -> Verdict {
    match public {
        Public::Unknown => Verdict::skipped("No relay is known yet."),
        Public::Answered { address, .. } => {
            Verdict::ok(format!("{} answers with a trusted certificate.", address.host_str().unwrap_or_default()))
        }
        Public::Failed { problem, .. } => Verdict::of(problem.clone()),
    }
}

pub(super) async fn quic(endpoint: Option<RelayEndpoint>, identity: Option<TlsIdentity>) -> Verdict {
    let Some(endpoint) = endpoint else { return Verdict::skipped("The relay's endpoint is not known.") };
    let reached = match identity {
        Some(identity) => greet(&endpoint, identity).await,
        None => link::reach(&endpoint).await,
    };
    match reached {
        Ok(()) => Verdict::ok(format!("{} answers.", endpoint.quic)),
        Err(problem) => Verdict::of(problem),
    }
}

/// Connects as the device and has one request answered, whatever the answer: only then was the certificate taken.
async fn greet(endpoint: &RelayEndpoint, identity: TlsIdentity) -> Result<(), Problem> {
    let link = Link::dial(endpoint, identity).await?;
    let request = Request::builder().method(Method::GET).uri(APPS).header(HOST, CONTROL_AUTHORITY).body(full(""));
    let request = request.map_err(|error| Problem::new(Code::Internal).detail(error.to_string()))?;
    let answer = link.control(request).await.map(|_| ());
    link.close();
    answer
}

/// The clock as the relay's answer shows it. `now` is this device's, from before the relay was asked.
pub(super) fn clock(public: &Public, now: Timestamp) -> Verdict {
    let date = match public {
        Public::Unknown => return Verdict::skipped("No relay is known to compare it with."),
        Public::Answered { date, .. } | Public::Failed { date, .. } => *date,
    };
    if let Some(date) = date {
        return compared(date, now);
    }
    match public {
        Public::Failed { problem, .. } if not_valid_yet(problem) => Verdict::failed(
            format!("By this device's clock ({now}) the relay's certificate is not valid yet."),
            Problem::new(Code::ClockWrong),
        ),
        _ => Verdict::skipped("The relay did not tell its time."),
    }
}

fn compared(date: Timestamp, now: Timestamp) -> Verdict {
    let (off, direction) = off_by(date, now);
    let summary = format!("It is {} s {direction} the relay's.", off.as_secs());
    if off > WRONG {
        Verdict::failed(summary, Problem::new(Code::ClockWrong))
    } else if off > DRIFT {
        Verdict::warning(summary, Problem::new(Code::ClockWrong))
    } else {
        Verdict::ok("It agrees with the relay's.")
    }
}

/// The relay's date has no fraction of a second.
fn off_by(date: Timestamp, now: Timestamp) -> (Duration, &'static str) {
    if now > date { (now.since(date), "ahead of") } else { (date.since(now), "behind") }
}

fn not_valid_yet(problem: &Problem) -> bool {
    problem.code == Code::RelayUntrusted
        && problem.detail.as_deref().is_some_and(|detail| detail.contains("not valid yet"))
}

/// Why the relay was not reached, where more can be said than `problem` does: after its public address was tried too,
/// which told `told` and `date`.
pub(crate) async fn explain(
    problem: Problem,
    (relay, probe): (Relay, Option<Url>),
    told: &Problem,
    date: Option<Timestamp>,
) -> Problem {
    let now = device::wall();
    if date.is_some_and(|date| off_by(date, now).0 > WRONG) || not_valid_yet(told) || not_valid_yet(&problem) {
        return Problem::new(Code::ClockWrong).detail(format!("this device's time is {now}"));
    }
    match portal::signs(probe, Some(relay)).await {
        Some(sign) => Problem::new(Code::CaptivePortal).detail(sign),
        None => problem,
    }
}
