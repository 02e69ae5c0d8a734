//! Whoever makes the relay decide again and again makes nobody else wait.

use super::*;
use crate::revoke::revoke;
use crate::testing::{TestDevice, TestRelay};
use crate::transport::Cut;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::Method;
use postern_protocol::control::{POSTURE, SESSION, TYPE_ID_TOKEN};
use postern_relay_core::access::{Action, Request, decide};
use postern_relay_core::audit::Event;
use postern_relay_core::revocation::Target;
use serde_json::json;
use std::time::Instant;
use tokio::task::JoinHandle;

/// The streams of the device that floods, each of which asks something else.
const STREAMS: usize = 800;
/// What a device may send in one go (`CONTROL` in `state.rs`), less what signing in took.
const FLOOD: usize = 90;

/// Files streams of `device` to the wiki, one for each path, as the gate does; each ends when it is cut.
fn file(relay: &Arc<Relay>, device: &TestDevice, paths: usize) -> Vec<JoinHandle<Code>> {
    let session = Arc::new(relay.verifier.verify(device.token.as_ref().unwrap()).unwrap());
    let (verified, now) = (device.verified(), relay.clock.now());
    let file = |path: usize| {
        let request = Request {
            id: relay.clock.decision_id(),
            app: "wiki".parse().unwrap(),
            action: Action::Request { method: "GET".into(), path: format!("/{path}") },
            host: "wiki".into(),
            source: "192.0.2.1".parse().unwrap(),
            within_rate: true,
            posture: relay.postures.get(session.session()),
        };
        let permit = decide(&verified, &session, &request, &relay.snapshot.load(), now).outcome.unwrap();
        let live = relay.streams.open(permit, verified.clone(), session.clone(), request, now, Arc::new(Cut::new()));
        tokio::spawn(async move { live.cut().await })
    };
    (0..paths).map(file).collect()
}

/// How many rounds have decided all streams of the device that floods.
fn rounds(world: &TestRelay) -> usize {
    let audit = world.audit();
    let whole =
        |record: &&serde_json::Value| record["detail"].as_str().is_some_and(|told| told.contains("of this round"));
    audit.iter().filter(whole).count()
}

/// Sends all of `flood` for eve, whose streams are decided anew once a second nevertheless, and cuts bob's stream in the
/// midst of it within the second that is promised.
async fn delays_nobody(message: impl Fn(&TestRelay, &TestDevice, usize) -> (&'static str, String)) {
    let world = TestRelay::new().await;
    let (eve, bob) = (world.signed_in("eve").await, world.signed_in("bob").await);
    let _eves = file(&world.relay, &eve, STREAMS);
    let bobs = file(&world.relay, &bob, 1).remove(0);
    let begun = Instant::now();
    let messages = (0..FLOOD).map(|number| message(&world, &eve, number));
    let mut flood: FuturesUnordered<_> =
        messages.map(|(path, body)| world.control(&eve, Method::POST, path, body)).collect();
    for _ in 0..FLOOD / 2 {
        let reply = flood.next().await.unwrap();
        assert!(reply.status.is_success(), "{:?}", reply.body);
    }
    let cut = async {
        let caused = Instant::now();
        let target = Target::Session(bob.session.clone().unwrap());
        let receipt = revoke(&world.relay, target, Event::Revocation, "test").await.unwrap();
        (receipt, bobs.await.unwrap(), caused.elapsed())
    };
    let ((receipt, code, elapsed), rest) = tokio::join!(cut, flood.collect::<Vec<_>>());
    assert_eq!((receipt.streams_cut, receipt.streams_unfinished, code), (1, 0, Code::SessionRevoked));
    assert!(
        elapsed < Duration::from_secs(1),
        "{elapsed:?}, of which {} ms to the end of the stream",
        receipt.slowest_ms
    );
    assert!(rest.iter().all(|reply| reply.status.is_success()));
    // The flood was one: what it changed was looked at, but not each time.
    let seen = async {
        while rounds(&world) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen).await.unwrap();
    let (rounds, seconds) = (rounds(&world), begun.elapsed().as_secs());
    assert!(rounds as u64 <= seconds + 2, "{rounds} rounds in {seconds} s");
}

#[tokio::test]
async fn a_flood_of_posture_reports_delays_nobody_elses_cut() {
    delays_nobody(|_, _, number| {
        let report = json!({
            "os": "linux", "os_version": number.to_string(), "agent_version": "1", "key_storage": "keyring",
        });
        (POSTURE, report.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_session_exchanges_delays_nobody_elses_cut() {
    delays_nobody(|world, eve, _| (SESSION, eve.exchange(&world.idp.sign(&world.idp.claims("eve")), TYPE_ID_TOKEN)))
        .await;
}
