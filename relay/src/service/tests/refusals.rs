//! Refusals by the thousand: whoever is refused, even a revoked device, must not fill the disk or keep the relay busy.

use super::upstreams::Upstream;
use super::world::{Device, Outgoing, World, app, none, soon};
use crate::revoke;
use http::Request;
use http_body_util::BodyExt as _;
use postern_protocol::Code;
use postern_relay_core::audit::Event;
use postern_relay_core::revocation::Target;
use quinn::{ConnectionError, VarInt};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Makes these requests one after another on one stream: code and decision of each answer.
async fn ask(device: &Device, requests: Vec<Request<Outgoing>>) -> Vec<(String, Option<String>)> {
    let mut http = device.http().await;
    let mut answers = Vec::new();
    for request in requests {
        http.ready().await.unwrap();
        let answer = http.send_request(request).await.unwrap();
        let said = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        answers.push((said("postern-code").unwrap_or_default(), said("postern-decision")));
        answer.into_body().collect().await.unwrap();
    }
    answers
}

/// A request with this in place of the session token.
fn with_token(host: &str, path: &str, token: &str) -> Request<Outgoing> {
    let bearer = format!("Bearer {token}");
    let request = Request::builder().uri(path).header("host", host).header("proxy-authorization", bearer);
    request.body(none()).unwrap()
}

/// Every kind of refusal of a connected device has a bounded number of records. What is beyond is counted and still
/// refused with its code, but names no decision: a decision that somebody is told is in the log.
#[tokio::test]
async fn a_flood_of_refusals_fills_no_disk() {
    let upstream = Upstream::echo().await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let (ada, bob) = (world.device("ada").await, world.device("bob").await);
    let get = |host: &str, path: &str| ada.request("GET", host, path).body(none()).unwrap();
    let bare = |host: &str, path: &str| Request::builder().uri(path).header("host", host).body(none()).unwrap();
    let kinds: [(&str, &dyn Fn() -> Request<Outgoing>); 5] = [
        ("policy_denied", &|| get("wiki", "/secret")),
        ("token_missing", &|| bare("wiki", "/")),
        ("misdirected", &|| get("evil.example", "/")),
        ("not_found", &|| get("postern.relay", "/x")),
        ("token_missing", &|| bare("postern.relay", "/apps")),
    ];
    let begun = Instant::now();
    let requests = (0..1000).map(|number| kinds[number % 5].1()).collect();
    let answers = ask(&ada, requests).await;
    for (number, (code, _)) in answers.iter().enumerate() {
        assert_eq!(code, kinds[number % 5].0, "each is told its cause");
    }
    let told: HashSet<_> = answers.into_iter().filter_map(|(_, decision)| decision).collect();
    let recorded: HashSet<_> =
        world.audit().iter().filter_map(|line| line["decision"].as_str().map(str::to_owned)).collect();
    assert_eq!(told, recorded, "what is told is in the log, and nothing else");
    let most = 200 + 20 * (usize::try_from(begun.elapsed().as_secs()).unwrap() + 1);
    assert!((200..=most).contains(&told.len()), "{} of {most}", told.len());
    assert_eq!(world.relay.limiters.refusals.take_unrecorded(), 1000 - told.len() as u64);

    // An allow is recorded all the same, and another device's refusals too.
    assert_eq!(ada.get("wiki", "/").await.status(), 200);
    assert_eq!(world.audit().iter().filter(|line| line["result"] == "allow" && line["event"] == "decision").count(), 1);
    let (_, decision) = ask(&bob, vec![bob.request("GET", "wiki", "/secret").body(none()).unwrap()]).await.remove(0);
    assert!(decision.is_some());
}

/// A token that was not seen before costs a signature check: a device has only so many. The one it uses stays good.
#[tokio::test]
async fn a_flood_of_tokens_is_not_verified() {
    let upstream = Upstream::echo().await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let (ada, bob) = (world.device("ada").await, world.device("bob").await);
    assert_eq!(ada.get("wiki", "/").await.status(), 200);
    for (host, path) in [("wiki", "/"), ("postern.relay", "/apps")] {
        let forged = (0..700).map(|number| with_token(host, path, &format!("{}{number}", ada.token))).collect();
        let codes: Vec<_> = ask(&ada, forged).await.into_iter().map(|(code, _)| code).collect();
        assert!(codes.iter().any(|code| code == "rate_limited"), "{host}");
        assert!(codes.iter().all(|code| code == "rate_limited" || code == "token_invalid"), "{host}");
    }
    assert_eq!(ada.get("wiki", "/").await.status(), 200);
    assert_eq!(bob.get("wiki", "/").await.status(), 200);
}

/// Far beyond its refusals a device has to pay for a handshake each time; nobody else notices.
#[tokio::test]
async fn a_device_that_floods_is_disconnected() {
    let upstream = Upstream::echo().await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let (ada, bob) = (world.device("ada").await, world.device("bob").await);
    let refusals = &world.relay.limiters.refusals;
    assert_eq!(ada.get("wiki", "/secret").await.status(), 403);
    assert!(ada.connection.close_reason().is_none());
    let flood = async {
        while ada.connection.close_reason().is_none() {
            // As if thousands of others had just been refused.
            while refusals.record_of(ada.id()) || !refusals.is_flood_of(ada.id()) {}
            let Ok((mut send, mut recv)) = ada.connection.open_bi().await else { break };
            let _closed_meanwhile = send.write_all(b"GET / HTTP/1.1\r\nhost: wiki\r\n\r\n").await;
            let _closed_meanwhile = send.finish();
            let _closed_meanwhile = recv.read_to_end(1 << 16).await;
        }
    };
    soon(flood).await;
    let ConnectionError::ApplicationClosed(close) = soon(ada.connection.closed()).await else { panic!("a code") };
    assert_eq!(close.error_code, VarInt::from_u32(Code::RateLimited.number()));
    assert_eq!(bob.get("wiki", "/").await.status(), 200);
    let again = Device { connection: world.connect_as(Some(&ada.identity), "postern.relay").await.unwrap(), ..ada };
    assert_eq!(again.get("wiki", "/").await.status(), 200);
}

/// Who is refused before the first request is in the audit log too, by name where the certificate tells it, and within
/// the same bounds.
#[tokio::test]
async fn refused_handshakes_are_recorded() {
    let world = World::new(&[]).await;
    let ada = world.device("ada").await;
    let target = Target::Device(ada.id().clone());
    revoke::revoke(&world.relay, target, Event::Revocation, "test").await.unwrap();
    let dial = || async {
        let again = world.connect_as(Some(&ada.identity), "postern.relay").await.unwrap();
        soon(again.closed()).await
    };
    let of = |code: &str| {
        let lines = world.audit().into_iter().filter(|line| line["event"] == "connection" && line["code"] == code);
        lines.collect::<Vec<_>>()
    };
    let recorded = |code: &'static str, number: usize| {
        soon(async move {
            while of(code).len() < number {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };
    // The connection it had, which the revocation ended, and the one it tries.
    dial().await;
    recorded("device_revoked", 2).await;
    for line in of("device_revoked") {
        assert_eq!((line["device"].as_str(), line["result"].as_str()), (Some(ada.id().as_str()), Some("deny")));
        assert_eq!(line["source"], "127.0.0.1");
    }

    // Whoever has no certificate of ours is nobody.
    if let Ok(stranger) = world.connect_as(None, "postern.relay").await {
        soon(stranger.closed()).await;
    }
    recorded("certificate_invalid", 1).await;
    assert!(of("certificate_invalid")[0]["device"].is_null());

    // Beyond its share a device's attempts are only counted.
    let refusals = &world.relay.limiters.refusals;
    refusals.take_unrecorded();
    soon(async {
        while refusals.take_unrecorded() == 0 {
            while refusals.record_of(ada.id()) {}
            refusals.take_unrecorded();
            dial().await;
            tokio::task::yield_now().await;
        }
    })
    .await;
}
