//! What was allowed can be cut, at once and in both directions, and ends with its session.

use super::upstreams::{Generated, Upstream};
use super::world::{Device, World, app, assert_refused, idle, set_policy, soon};
use crate::reverify::reverify;
use crate::{gate, revoke};
use http::Response;
use http_body_util::BodyExt as _;
use postern_protocol::Code;
use postern_protocol::control::RelayEvent;
use postern_relay_core::audit::Event;
use postern_relay_core::registry::Scope;
use postern_relay_core::revocation::Target;
use quinn::{ReadError, VarInt};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;

/// An upstream that greets, then tells how its connection ended.
pub(super) async fn greeter() -> (Upstream, mpsc::UnboundedReceiver<std::io::Result<usize>>) {
    let (ended, ends) = mpsc::unbounded_channel();
    let upstream = Upstream::tcp(move |mut stream| {
        let ended = ended.clone();
        async move {
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"hi").await.unwrap();
            let _test_may_be_over = ended.send(stream.read(&mut [0; 1]).await);
        }
    });
    (upstream.await, ends)
}

/// An open stream to `db`, which has greeted.
pub(super) async fn open(ada: &Device, upstream: &Upstream) -> (quinn::SendStream, quinn::RecvStream) {
    let target = format!("db:{}", upstream.addr.port());
    let (mut send, mut recv) = ada.connection.open_bi().await.unwrap();
    let head =
        format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nproxy-authorization: Bearer {}\r\n\r\n", ada.token);
    send.write_all(head.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"hi") {
        got.extend_from_slice(&recv.read_chunk(4096, true).await.unwrap().unwrap().bytes);
    }
    (send, recv)
}

pub(super) fn number(code: Code) -> VarInt {
    VarInt::from_u32(code.number())
}

#[tokio::test]
async fn a_revoked_session_loses_its_stream_in_both_directions() {
    let (upstream, mut ends) = greeter().await;
    let world = World::new(&[app("db", upstream.tcp_url(), "")]).await;
    let (ada, bob) = (world.device("ada").await, world.device("bob").await);
    let (send, mut recv) = open(&ada, &upstream).await;
    let (_bobs_send, mut bobs) = open(&bob, &upstream).await;
    let mut events = world.relay.events.subscribe(&ada.session).unwrap();
    assert_eq!(events.next().await, RelayEvent::Alive);
    let listed = world.relay.streams.list();
    assert_eq!(listed.len(), 2);

    let revoked = Target::Session(ada.session.clone());
    let receipt = revoke::revoke(&world.relay, revoked, Event::Revocation, "test").await.unwrap();
    assert_eq!((receipt.streams_cut, receipt.streams_unfinished), (1, 0));
    assert!(receipt.slowest_ms < 1000, "{receipt:?}");
    assert_eq!(soon(recv.read_chunk(1, true)).await.unwrap_err(), ReadError::Reset(number(Code::SessionRevoked)));
    assert_eq!(soon(send.stopped()).await.unwrap(), Some(number(Code::SessionRevoked)));
    let end = soon(ends.recv()).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset, "the app does not take it for the end");

    let RelayEvent::Cut { app, decision, code, .. } = soon(events.next()).await else { panic!("a cut is told") };
    assert_eq!((app.as_str(), code), ("db", Code::SessionRevoked));
    let record = world.audit().into_iter().find(|line| line["decision"] == decision.as_str()).unwrap();
    assert_eq!((record["event"].as_str(), record["code"].as_str()), (Some("stream_cut"), Some("session_revoked")));

    assert_eq!(receipt.cut.iter().map(|(app, streams)| (app.as_str(), *streams)).collect::<Vec<_>>(), [("db", 1)]);

    let undisturbed = tokio::time::timeout(Duration::from_millis(50), bobs.read_chunk(1, true)).await;
    assert!(undisturbed.is_err(), "{undisturbed:?}");
    assert_eq!(world.relay.streams.len(), 1);
}

/// The store, and whoever else changes it, may take their time: the streams have ended by then.
#[tokio::test]
async fn a_revocation_cuts_before_it_is_stored() {
    let (upstream, mut ends) = greeter().await;
    let world = World::new(&[app("db", upstream.tcp_url(), "")]).await;
    let ada = world.device("ada").await;
    let (_send, mut recv) = open(&ada, &upstream).await;
    let somebody_else = world.relay.changes.lock().await;
    let (relay, revoked) = (world.relay.clone(), Target::Session(ada.session.clone()));
    let revoking = tokio::spawn(async move { revoke::revoke(&relay, revoked, Event::Revocation, "test").await });
    assert_eq!(soon(recv.read_chunk(1, true)).await.unwrap_err(), ReadError::Reset(number(Code::SessionRevoked)));
    assert!(soon(ends.recv()).await.unwrap().is_err());
    assert!(!revoking.is_finished());
    drop(somebody_else);
    assert_eq!(soon(revoking).await.unwrap().unwrap().streams_cut, 1);
}

#[tokio::test]
async fn a_revoked_principal_loses_a_download_and_the_next_request() {
    let upstream = Upstream::http(|_| async { Response::new(Generated::new(1 << 30).0.boxed()) }).await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    let (mut send, mut recv) = ada.connection.open_bi().await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nhost: wiki\r\nproxy-authorization: Bearer {}\r\n\r\n", ada.token);
    send.write_all(head.as_bytes()).await.unwrap();
    recv.read_chunk(4096, true).await.unwrap().unwrap();

    // The device reads no further: the relay stands with a full window, and is cut nevertheless.
    let principal = world.relay.streams.list()[0].session.principal().clone();
    let receipt = revoke::revoke(&world.relay, Target::Principal(principal), Event::Revocation, "test").await.unwrap();
    assert_eq!(receipt.streams_cut, 1);
    let failure = loop {
        if let Err(failure) = soon(recv.read_chunk(1 << 20, true)).await {
            break failure;
        }
    };
    assert_eq!(failure, ReadError::Reset(number(Code::PrincipalRevoked)));
    idle(&world).await;
    let refused = assert_refused(ada.get("wiki", "/").await, Code::PrincipalRevoked).await;
    assert_eq!(world.audited(&refused)["result"], "deny");
}

#[tokio::test]
async fn a_request_that_waits_for_its_upstream_is_cut_too() {
    let (asked, mut asks) = mpsc::unbounded_channel();
    let upstream = Upstream::http(move |_| {
        asked.send(()).unwrap();
        std::future::pending()
    })
    .await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    let (mut send, mut recv) = ada.connection.open_bi().await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nhost: wiki\r\nproxy-authorization: Bearer {}\r\n\r\n", ada.token);
    send.write_all(head.as_bytes()).await.unwrap();
    soon(asks.recv()).await.unwrap();
    set_policy(&world, "");
    let cut = reverify(&world.relay, &Scope::App("wiki".parse().unwrap())).await;
    assert_eq!((cut.cut, cut.kept, cut.unfinished), (1, 0, 0));
    assert_eq!(soon(recv.read_chunk(1, true)).await.unwrap_err(), ReadError::Reset(number(Code::PolicyDenied)));
}

#[tokio::test]
async fn a_revoked_device_loses_its_connection() {
    let (upstream, mut ends) = greeter().await;
    let world = World::new(&[app("db", upstream.tcp_url(), "")]).await;
    let ada = world.device("ada").await;
    let _open = open(&ada, &upstream).await;
    let target = Target::Device(ada.id().clone());
    revoke::revoke(&world.relay, target, Event::Revocation, "test").await.unwrap();
    let quinn::ConnectionError::ApplicationClosed(close) = soon(ada.connection.closed()).await else { panic!() };
    assert_eq!(close.error_code, number(Code::DeviceRevoked));
    assert!(soon(ends.recv()).await.unwrap().is_err());
}

/// The unit of A53: what its session no longer covers ends, what was renewed goes on.
#[tokio::test]
async fn a_stream_ends_with_its_session_unless_that_was_renewed() {
    let (upstream, _ends) = greeter().await;
    let world = World::new(&[app("db", upstream.tcp_url(), "")]).await;
    let (mut ada, mut bob) = (world.device("ada").await, world.device("bob").await);
    for device in [&mut ada, &mut bob] {
        device.token = world.token(device, &["staff"], Duration::from_secs(2));
    }
    let (_send, mut recv) = open(&ada, &upstream).await;
    let (_bobs_send, mut bobs) = open(&bob, &upstream).await;
    gate::issued(&world.relay, &bob.identity.device, &world.token(&bob, &["staff"], Duration::from_secs(60)));
    assert_eq!(soon(recv.read_chunk(1, true)).await.unwrap_err(), ReadError::Reset(number(Code::TokenExpired)));
    let undisturbed = tokio::time::timeout(Duration::from_millis(50), bobs.read_chunk(1, true)).await;
    assert!(undisturbed.is_err(), "{undisturbed:?}");

    // Renewed, but for somebody who may no longer: the re-check is a decision like the first one.
    bob.token = world.token(&bob, &["staff"], Duration::from_secs(1));
    gate::issued(&world.relay, &bob.identity.device, &bob.token);
    let (_send, mut recv) = open(&bob, &upstream).await;
    gate::issued(&world.relay, &bob.identity.device, &world.token(&bob, &[], Duration::from_secs(90)));
    assert_eq!(soon(recv.read_chunk(1, true)).await.unwrap_err(), ReadError::Reset(number(Code::PolicyDenied)));
    // The cut stands before its record does.
    let recorded = |line: &serde_json::Value| line["event"] == "stream_cut" && line["code"] == "policy_denied";
    soon(async {
        while !world.audit().iter().any(recorded) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The agent renews its certificate on a new connection; what lives on the old one is the same device's.
#[tokio::test]
async fn a_stream_outlives_the_renewal_of_its_devices_certificate() {
    let (upstream, _ends) = greeter().await;
    let world = World::new(&[app("db", upstream.tcp_url(), "")]).await;
    let mut ada = world.device("ada").await;
    ada.token = world.token(&ada, &["staff"], Duration::from_secs(2));
    let (_send, mut recv) = open(&ada, &upstream).await;
    let renewed = world.identity_of(ada.identity.key.clone()).await;
    assert_eq!(renewed.device.id(), ada.id());
    assert_ne!(renewed.device.thumbprint(), ada.identity.device.thumbprint());
    let old = std::mem::replace(&mut ada.identity, renewed);
    gate::issued(&world.relay, &ada.identity.device, &world.token(&ada, &["staff"], Duration::from_secs(60)));
    let undisturbed = tokio::time::timeout(Duration::from_secs(4), recv.read_chunk(1, true)).await;
    assert!(undisturbed.is_err(), "{undisturbed:?}");
    drop(old);
}

#[tokio::test]
async fn a_device_that_leaves_takes_its_requests_along() {
    let (upstream, mut ends) = greeter().await;
    let world = World::new(&[app("db", upstream.tcp_url(), "")]).await;
    let ada = world.device("ada").await;
    let (send, mut recv) = open(&ada, &upstream).await;
    recv.stop(VarInt::from_u32(0)).unwrap();
    assert!(soon(ends.recv()).await.unwrap().is_err(), "the upstream's connection is not kept for nobody");
    drop(send);

    let _open = open(&ada, &upstream).await;
    ada.connection.close(VarInt::from_u32(0), b"");
    assert!(soon(ends.recv()).await.unwrap().is_err());
}

#[tokio::test]
async fn a_draining_relay_takes_no_new_requests_and_says_so() {
    let upstream = Upstream::echo().await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    world.relay.draining.cancel();
    let refused = ada.get("wiki", "/").await;
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_refused(refused, Code::Draining).await;
}

/// Between a decision and the filing of its stream a revocation may come: nothing slips through there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_stream_outlives_a_revocation_it_raced() {
    let upstream = Upstream::tcp_echo().await;
    let limits = "streams_per_connection = 1000";
    let world = World::with(&[app("db", upstream.tcp_url(), "")], limits).await;
    let target = format!("db:{}", upstream.addr.port());
    for _ in 0..5 {
        let ada = std::sync::Arc::new(world.device("ada").await);
        let opening: Vec<_> = (0..60)
            .map(|_| {
                let (ada, target) = (ada.clone(), target.clone());
                tokio::spawn(async move {
                    // Opened, refused or cut in the middle: each is right at some moment.
                    let head = format!(
                        "CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nproxy-authorization: Bearer {}\r\n\r\n",
                        ada.token
                    );
                    let (mut send, mut recv) = ada.connection.open_bi().await.unwrap();
                    let _any = (send.write_all(head.as_bytes()).await, recv.read_chunk(4096, true).await);
                    (send, recv)
                })
            })
            .collect();
        while world.relay.streams.len() < 10 {
            tokio::task::yield_now().await;
        }
        let revoked = Target::Session(ada.session.clone());
        revoke::revoke(&world.relay, revoked, Event::Revocation, "test").await.unwrap();
        // The device keeps every stream it got: only the relay can end them.
        let kept = soon(futures_util::future::join_all(opening)).await;
        idle(&world).await;
        drop(kept);
    }
}

/// Between a decision and the filing of its stream the log is written: what comes in meanwhile is not missed.
#[tokio::test]
async fn a_posture_that_changes_while_a_stream_opens_decides_it() {
    let (upstream, _ends) = greeter().await;
    let world = World::new(&[app("db", upstream.tcp_url(), "")]).await;
    let ada = world.device("ada").await;
    let (decided, go_on) = world.relay.audit.hold();
    let target = format!("db:{}", upstream.addr.port());
    let changed = async {
        decided.await.unwrap();
        world.relay.postures.invalidate(&ada.session);
        assert_eq!(reverify(&world.relay, &Scope::Session(ada.session.clone())).await, Default::default());
        go_on.send(()).unwrap();
    };
    let (opened, ()) = soon(async { tokio::join!(ada.open(&target), changed) }).await;
    assert_eq!(opened.unwrap_err().code, Code::PostureStale);
    idle(&world).await;
}

#[tokio::test]
async fn a_token_that_is_renewed_while_a_stream_opens_decides_it() {
    let (upstream, mut ends) = greeter().await;
    let world = World::new(&[app("db", upstream.tcp_url(), "")]).await;
    let ada = world.device("ada").await;
    let (decided, go_on) = world.relay.audit.hold();
    let renewed = async {
        decided.await.unwrap();
        gate::issued(&world.relay, &ada.identity.device, &world.token(&ada, &[], Duration::from_secs(90)));
        assert_eq!(reverify(&world.relay, &Scope::Session(ada.session.clone())).await, Default::default());
        go_on.send(()).unwrap();
    };
    // It may be cut before its answer has arrived.
    let target = format!("db:{}", upstream.addr.port());
    let opening = async {
        let (mut send, mut recv) = ada.connection.open_bi().await.unwrap();
        let bearer = format!("proxy-authorization: Bearer {}", ada.token);
        let head = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{bearer}\r\n\r\n");
        send.write_all(head.as_bytes()).await.unwrap();
        loop {
            if let Err(failure) = recv.read_chunk(1, true).await {
                break failure;
            }
        }
    };
    let (end, ()) = soon(async { tokio::join!(opening, renewed) }).await;
    assert_eq!(end, ReadError::Reset(number(Code::PolicyDenied)));
    if let Ok(end) = tokio::time::timeout(Duration::from_millis(50), ends.recv()).await {
        assert!(end.unwrap().is_err(), "the app's socket ends with it");
    }
}

/// An app may answer before it has read what it is sent: the upload goes on, and so it can still be cut.
#[tokio::test]
async fn an_upload_that_outlives_its_answer_is_cut() {
    let (ended, mut ends) = mpsc::unbounded_channel();
    let upstream = Upstream::tcp(move |mut stream| {
        let ended = ended.clone();
        async move {
            let mut buffer = [0; 4096];
            let _head = stream.read(&mut buffer).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
            while let Ok(1..) = stream.read(&mut buffer).await {}
            ended.send(()).unwrap();
        }
    })
    .await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    let (mut send, mut recv) = ada.connection.open_bi().await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: wiki\r\nproxy-authorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\r\n",
        ada.token
    );
    send.write_all(head.as_bytes()).await.unwrap();
    let answer = soon(recv.read_chunk(4096, true)).await.unwrap().unwrap();
    assert!(answer.bytes.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    for _ in 0..3 {
        send.write_all(b"4\r\nmore\r\n").await.unwrap();
    }
    assert_eq!(world.relay.streams.len(), 1, "what still goes up is filed");
    let principal = world.relay.streams.list()[0].session.principal().clone();
    let receipt = revoke::revoke(&world.relay, Target::Principal(principal), Event::Revocation, "test").await.unwrap();
    assert_eq!((receipt.streams_cut, receipt.streams_unfinished), (1, 0));
    assert_eq!(soon(send.stopped()).await.unwrap(), Some(number(Code::PrincipalRevoked)));
    soon(ends.recv()).await.unwrap();
}

/// The same where the app stops reading: whoever writes to it waits, and the cut has to reach them there.
#[tokio::test]
async fn an_upload_to_an_app_that_does_not_read_is_cut() {
    let (ended, mut ends) = mpsc::unbounded_channel();
    let read_on = std::sync::Arc::new(tokio::sync::Notify::new());
    let told = read_on.clone();
    let upstream = Upstream::tcp(move |mut stream| {
        let (ended, told) = (ended.clone(), told.clone());
        async move {
            let mut buffer = [0; 4096];
            let _head = stream.read(&mut buffer).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
            told.notified().await;
            let end = loop {
                match stream.read(&mut buffer).await {
                    Ok(1..) => {}
                    end => break end,
                }
            };
            let _test_may_be_over = ended.send(end);
        }
    })
    .await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    for by_revocation in [false, true] {
        let (send, mut recv) = ada.connection.open_bi().await.unwrap();
        let mut send = stuck(send, &mut recv, &ada).await;
        assert_eq!(world.relay.streams.len(), 1, "what still goes up is filed");
        if by_revocation {
            let revoked = Target::Session(ada.session.clone());
            let receipt = revoke::revoke(&world.relay, revoked, Event::Revocation, "test").await.unwrap();
            assert_eq!((receipt.streams_cut, receipt.streams_unfinished), (1, 0));
            assert_eq!(soon(send.stopped()).await.unwrap(), Some(number(Code::SessionRevoked)));
        } else {
            // The device gives up by itself.
            send.reset(VarInt::from_u32(0)).unwrap();
            recv.stop(VarInt::from_u32(0)).unwrap();
        }
        idle(&world).await;
        read_on.notify_one();
        let end = soon(ends.recv()).await.unwrap();
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset, "not a byte more than it had");
    }
}

/// An upload that was answered, and goes on until nobody takes any more.
async fn stuck(mut send: quinn::SendStream, recv: &mut quinn::RecvStream, ada: &Device) -> quinn::SendStream {
    let head = format!(
        "POST / HTTP/1.1\r\nhost: wiki\r\nproxy-authorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\r\n",
        ada.token
    );
    send.write_all(head.as_bytes()).await.unwrap();
    let answer = soon(recv.read_chunk(4096, true)).await.unwrap().unwrap();
    assert!(answer.bytes.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    let chunk = [b"8000\r\n".to_vec(), vec![b'x'; 0x8000], b"\r\n".to_vec()].concat();
    while let Ok(written) = tokio::time::timeout(Duration::from_millis(500), send.write_all(&chunk)).await {
        written.unwrap();
    }
    send
}
