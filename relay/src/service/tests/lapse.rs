//! The provider renews a sign-in no longer: what is not held is cut at once, what is held waits for its user.

use super::upstreams::Upstream;
use super::world::{Device, World, app, assert_refused, none, soon};
use crate::reverify::reverify;
use crate::{gate, lapse};
use http::StatusCode;
use http_body_util::BodyExt as _;
use postern_protocol::control::{RelayEvent, SessionLapsed};
use postern_protocol::{Code, Timestamp};
use postern_relay_core::registry::Scope;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const HOLD: &str = "on_lapse = \"hold\"\nhold_for = \"5s\"";

async fn refused(device: &Device) -> http::Response<hyper::body::Incoming> {
    let request = device.request("DELETE", "postern.relay", "/session?reason=refresh_refused");
    device.call(request.body(none()).unwrap()).await
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, text: &[u8]) {
    stream.write_all(text).await.unwrap();
    let mut got = vec![0; text.len()];
    soon(stream.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, text);
}

/// Waits for a second that a token of `then` does not tell.
async fn after(world: &World, then: Timestamp) {
    while world.relay.clock.now().seconds() <= then.seconds() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_lapse_cuts_what_is_not_held_and_a_new_token_lets_the_rest_go_on() {
    let upstream = Upstream::tcp_echo().await;
    let url = upstream.tcp_url();
    let world = World::new(&[app("db", &url, HOLD), app("git", &url, "")]).await;
    let ada = world.device("ada").await;
    let mut db = ada.open(&format!("db:{}", upstream.addr.port())).await.unwrap();
    let mut git = ada.open(&format!("git:{}", upstream.addr.port())).await.unwrap();
    echo(&mut db, b"db").await;
    echo(&mut git, b"git").await;
    let mut events = world.relay.events.subscribe(&ada.session).unwrap();
    assert_eq!(events.next().await, RelayEvent::Alive);

    let then = world.relay.clock.now();
    let answer = refused(&ada).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let SessionLapsed { held_for } = serde_json::from_slice(&body).unwrap();
    assert!((3..=5).contains(&held_for), "{held_for}");
    assert!(soon(git.read(&mut [0])).await.is_err(), "reset");
    db.write_all(b"during").await.unwrap();
    let nothing = tokio::time::timeout(Duration::from_millis(200), db.read_u8());
    assert!(nothing.await.is_err(), "no byte passes");
    let mut told = [soon(events.next()).await, soon(events.next()).await];
    told.sort_by_key(|event| matches!(event, RelayEvent::Held { .. }));
    let [RelayEvent::Cut { app: cut, code, .. }, RelayEvent::Held { app: held, .. }] = &told else {
        panic!("{told:?}")
    };
    assert_eq!((cut.as_str(), held.as_str(), *code), ("git", "db", Code::TokenExpired));
    assert_refused(ada.get("postern.relay", "/apps").await, Code::TokenExpired).await;
    let record = world.audit().into_iter().find(|line| line["event"] == "session_lapse").unwrap();
    assert_eq!(record["session"], ada.session.as_str());
    assert!(record["detail"].as_str().unwrap().contains("refresh_refused; streams cut: 1"), "{record}");

    after(&world, then).await;
    let token = world.token(&ada, &["staff"], Duration::from_secs(60));
    gate::issued(&world.relay, &ada.identity.device, &token);
    let lapsed = world.relay.snapshot.load().revocations.lapsed(&ada.session).unwrap();
    lapse::mend(&world.relay, &ada.session, lapsed);
    assert_eq!(reverify(&world.relay, &Scope::Session(ada.session.clone())).await.resumed, 1);
    let mut late = [0; 6];
    soon(db.read_exact(&mut late)).await.unwrap();
    assert_eq!(&late, b"during");
    tokio::time::sleep(Duration::from_secs(8)).await;
    echo(&mut db, b"after").await;
    assert!(!world.audit().iter().any(|line| line["event"] == "sign_out"), "the session did not end");
}

#[tokio::test]
async fn a_lapse_that_nobody_mends_ends_the_session_and_so_does_one_with_nothing_to_hold() {
    let upstream = Upstream::tcp_echo().await;
    let world = World::new(&[app("db", upstream.tcp_url(), HOLD)]).await;
    let (ada, bob) = (world.device("ada").await, world.device("bob").await);
    assert_eq!(refused(&bob).await.status(), StatusCode::NO_CONTENT);
    assert!(world.relay.snapshot.load().revocations.is_session(&bob.session));

    let mut db = ada.open(&format!("db:{}", upstream.addr.port())).await.unwrap();
    echo(&mut db, b"db").await;
    assert_eq!(refused(&ada).await.status(), StatusCode::OK);
    let mut events = world.relay.events.subscribe(&ada.session).unwrap();
    assert!(soon(db.read(&mut [0])).await.is_err(), "cut");
    assert_eq!(soon(events.next()).await, RelayEvent::Alive);
    let told = soon(events.next()).await;
    assert!(matches!(told, RelayEvent::Cut { code: Code::TokenExpired, .. }), "{told:?}");
    soon(async {
        while world.audit().iter().filter(|line| line["event"] == "sign_out").count() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(world.relay.snapshot.load().revocations.is_session(&ada.session));
    assert_eq!(world.relay.snapshot.load().revocations.lapsed(&ada.session), None, "it is tidied away");
}
