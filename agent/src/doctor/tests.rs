//! Patients with a real keyring's failures, real servers and silence.

use super::*;
use crate::engine;
use crate::mock_relay::{MockRelay, refusal};
use crate::secrets::Vault;
use crate::testing::{Server, serve_https};
use postern_protocol::Code;
use postern_protocol::discovery::PATH;
use postern_protocol::local::State;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

const HOUR: Duration = Duration::from_secs(3600);

async fn examined(patient: Patient) -> BTreeMap<Check, Finding> {
    let (mut findings, mut order, began) = (BTreeMap::new(), Vec::new(), Instant::now());
    let mut told = examine(patient, ());
    while let Some(finding) = told.recv().await {
        order.push(finding.check);
        findings.insert(finding.check, finding);
    }
    assert_eq!(order, Check::ALL);
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    findings
}

/// A relay: its public address and its endpoint.
async fn relay() -> (MockRelay, Server) {
    let relay = MockRelay::start(|_| async { refusal(&Problem::new(Code::TokenMissing)) });
    let document = json!({
        "version": 1, "organisation": "Corp", "trust_domain": "corp.example", "issuer": "https://relay.example",
        "relay": relay.endpoint,
        "sign_in": {
            "issuer": "https://idp.example", "client_id": "postern", "scopes": ["openid"], "token_max_age": 900,
        },
    })
    .to_string();
    let public =
        serve_https(move |path| if path == PATH { (200, document.clone()) } else { (404, String::new()) }).await;
    (relay, public)
}

fn known(public: &Server, endpoint: Option<RelayEndpoint>) -> Option<Relay> {
    Some(Relay { address: public.url.clone(), ca_pem: Some(public.ca_pem.clone()), endpoint })
}

fn status(state: State, problem: Option<Problem>) -> Status {
    Status {
        version: "1".into(),
        state,
        relay: None,
        organisation: None,
        principal: None,
        device: None,
        session: None,
        carrier: None,
        posture: None,
        problem,
    }
}

#[tokio::test]
async fn a_healthy_agent_is_told_healthy() {
    let (relay, public) = relay().await;
    let now = device::wall();
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let patient = Patient {
        status: Some(status(State::Online, None)),
        keyring: Some(Vault::memory()),
        relay: known(&public, Some(relay.endpoint.clone())),
        identity: Some(relay.identity.clone()),
        certificate: Some((now.minus(HOUR), now.plus(HOUR))),
        http_port: Some(port.local_addr().unwrap().port()),
        ..Patient::default()
    };
    for (check, finding) in examined(patient.clone()).await {
        assert_eq!(finding.result, CheckResult::Ok, "{check:?}: {finding:?}");
        assert!(finding.code.is_none() && finding.fix.is_none());
    }
    // Before the first sign-in its endpoint is asked for, and no certificate shown.
    let patient = Patient { relay: known(&public, None), identity: None, certificate: None, ..patient };
    let findings = examined(patient).await;
    assert_eq!(findings[&Check::RelayQuic].result, CheckResult::Ok);
    assert_eq!(findings[&Check::Certificate].result, CheckResult::Skipped);
}

#[tokio::test]
async fn without_anything_known_most_is_skipped() {
    let findings = examined(Patient::default()).await;
    assert_eq!(findings[&Check::Agent].code, Some(Code::AgentNotRunning));
    assert_eq!(findings[&Check::Agent].result, CheckResult::Failed);
    for check in [Check::Keyring, Check::RelayTcp, Check::RelayQuic, Check::Clock, Check::Session, Check::Listeners] {
        assert_eq!(findings[&check].result, CheckResult::Skipped, "{check:?}");
    }
}

/// Silence over UDP, and another than the relay at its public address.
#[tokio::test]
async fn what_stands_in_the_way_is_told() {
    let (relay, public) = relay().await;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let endpoint = RelayEndpoint { quic: silent.local_addr().unwrap().to_string(), ..relay.endpoint.clone() };
    let now = device::wall();
    let patient = Patient {
        relay: Some(Relay { address: public.url.clone(), ca_pem: None, endpoint: Some(endpoint) }),
        identity: Some(relay.identity.clone()),
        certificate: Some((now.minus(HOUR), now.plus(HOUR))),
        ..Patient::default()
    };
    let findings = examined(patient).await;
    let told = |check| (findings[&check].result, findings[&check].code);
    assert_eq!(told(Check::RelayTcp), (CheckResult::Failed, Some(Code::RelayUntrusted)));
    assert_eq!(told(Check::CaptivePortal), (CheckResult::Warning, Some(Code::CaptivePortal)));
    assert_eq!(told(Check::RelayQuic), (CheckResult::Failed, Some(Code::RelayUnreachable)));
    assert_eq!(told(Check::Clock).0, CheckResult::Skipped);
    assert!(findings.values().all(|finding| (finding.fix.is_some()) == (finding.code.is_some())));
}

#[tokio::test]
async fn a_device_that_the_relay_refuses_is_told() {
    let (relay, public) = relay().await;
    let stranger = MockRelay::start(|_| async { refusal(&Problem::new(Code::TokenMissing)) });
    let patient = Patient {
        relay: known(&public, Some(relay.endpoint.clone())),
        identity: Some(stranger.identity.clone()),
        ..Patient::default()
    };
    let findings = examined(patient).await;
    assert_eq!(findings[&Check::RelayQuic].result, CheckResult::Failed, "{:?}", findings[&Check::RelayQuic]);
}

#[tokio::test]
async fn a_keyring_that_is_locked_or_missing_is_told_apart() {
    for (error, code) in [
        (keyring_core::Error::NoStorageAccess("locked".into()), Code::KeyringLocked),
        (keyring_core::Error::PlatformFailure("no bus".into()), Code::KeyringUnavailable),
    ] {
        let error = parking_lot::Mutex::new(Some(error));
        let failing = Box::new(move || Err(error.lock().take().unwrap_or(keyring_core::Error::NoDefaultStore)));
        let patient = Patient { keyring: Some(Vault::over(failing, Path::new("/s"))), ..Patient::default() };
        let findings = examined(patient).await;
        assert_eq!(findings[&Check::Keyring].code, Some(code));
    }
}

#[test]
fn clocks_and_certificates_are_compared() {
    let now = Timestamp::from_seconds(1_000_000);
    let minute = Duration::from_secs(60);
    let public = |date| Public::Failed { problem: Problem::new(Code::RelayUnreachable), date };
    for (date, result) in [
        (Some(now), CheckResult::Ok),
        (Some(now.minus(minute)), CheckResult::Ok),
        (Some(now.plus(2 * minute)), CheckResult::Warning),
        (Some(now.minus(6 * minute)), CheckResult::Failed),
        (Some(now.plus(6 * minute)), CheckResult::Failed),
        (None, CheckResult::Skipped),
    ] {
        let verdict = network::clock(&public(date), now);
        assert_eq!(verdict.result, result, "{date:?}");
        let wrong = matches!(result, CheckResult::Warning | CheckResult::Failed);
        assert_eq!(verdict.problem.map(|problem| problem.code), wrong.then_some(Code::ClockWrong));
    }
    let not_yet = Problem::new(Code::RelayUntrusted).detail("invalid peer certificate: certificate not valid yet");
    let verdict = network::clock(&Public::Failed { problem: not_yet, date: None }, now);
    assert_eq!(verdict.problem.map(|problem| problem.code), Some(Code::ClockWrong));

    let certificate = |from, until| {
        let patient = Patient { certificate: Some((from, until)), ..Patient::default() };
        let verdict = device::certificate(&patient, now);
        (verdict.result, verdict.problem.map(|problem| problem.code))
    };
    assert_eq!(certificate(now.minus(HOUR), now.plus(HOUR)), (CheckResult::Ok, None));
    assert_eq!(certificate(now.minus(9 * HOUR), now.plus(HOUR)).0, CheckResult::Warning);
    assert_eq!(certificate(now.minus(HOUR), now), (CheckResult::Failed, Some(Code::CertificateExpired)));
    assert_eq!(certificate(now.plus(HOUR), now.plus(2 * HOUR)), (CheckResult::Failed, Some(Code::ClockWrong)));
}

#[test]
fn the_session_is_told_without_a_name() {
    let now = Timestamp::from_seconds(1_000_000);
    let told = |state, problem| {
        let patient = Patient { status: Some(status(state, problem)), ..Patient::default() };
        let verdict = device::session(&patient, now);
        (verdict.result, verdict.problem.map(|problem| problem.code))
    };
    assert_eq!(told(State::Online, None), (CheckResult::Ok, None));
    assert_eq!(told(State::SignedOut, None), (CheckResult::Warning, Some(Code::NotSignedIn)));
    let locked = Some(Problem::new(Code::KeyringLocked));
    assert_eq!(told(State::Offline, locked), (CheckResult::Warning, Some(Code::KeyringLocked)));
    let revoked = Some(Problem::new(Code::DeviceRevoked));
    assert_eq!(told(State::Revoked, revoked), (CheckResult::Failed, Some(Code::DeviceRevoked)));
}

/// What keeps the agent from connecting is told as its cause.
#[tokio::test]
async fn a_wrong_clock_is_the_cause_and_a_right_one_is_not() {
    let unreachable = || Problem::new(Code::RelayUnreachable);
    let relay = Relay { address: Url::parse("https://127.0.0.1:1/").unwrap(), ca_pem: None, endpoint: None };
    let now = device::wall();
    for (date, code) in [(Some(now), Code::RelayUnreachable), (Some(now.plus(HOUR)), Code::ClockWrong)] {
        assert_eq!(explain(unreachable(), (relay.clone(), None), &unreachable(), date).await.code, code);
    }
}

#[tokio::test]
async fn an_agent_that_does_not_run_has_its_configuration_and_record_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let state = crate::state_dir::StateDir::open(&dir.path().join("s")).unwrap();
    let config = crate::config::Config { relay: Some("relay.example".into()), keyring: false, ..Default::default() };
    let patient = engine::without_agent(config, state).await;
    assert!(patient.keyring.is_none() && patient.status.is_none());
    assert_eq!(patient.relay.unwrap().address.as_str(), "https://relay.example/");
}
