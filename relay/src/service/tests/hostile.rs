//! Abuse of the data side, each by its id in the list of abuse cases.

use super::upstreams::Upstream;
use super::world::{World, app, assert_refused, none, soon, text};
use http::Request;
use postern_protocol::Code;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// An upstream that takes down every byte it gets and answers each read with 200.
async fn recorder() -> (Upstream, mpsc::UnboundedReceiver<String>) {
    let (saw, seen) = mpsc::unbounded_channel();
    let upstream = Upstream::tcp(move |mut stream| {
        let saw = saw.clone();
        async move {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                let _test_may_be_over = saw.send(String::from_utf8_lossy(&buffer[..read]).into_owned());
                let _relay_may_be_gone = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
        }
    });
    (upstream.await, seen)
}

/// A13: a valid token on another device's connection is refused and recorded, and so is a stolen token without the
/// certificate it is bound to.
#[tokio::test]
async fn a13_a_token_is_good_on_its_own_device_alone() {
    let upstream = Upstream::echo().await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let (ada, mut eve) = (world.device("ada").await, world.device("eve").await);
    assert_eq!(eve.get("wiki", "/").await.status(), 200);
    eve.token.clone_from(&ada.token);
    let refused = assert_refused(eve.get("wiki", "/").await, Code::TokenWrongDevice).await;
    let record = world.audited(&refused);
    assert_eq!(record["device"], eve.id().as_str(), "the device that tried");
    assert_eq!((record["principal"]["subject"].as_str(), record["result"].as_str()), (Some("ada"), Some("deny")));
    assert_eq!(ada.get("wiki", "/").await.status(), 200);
}

/// A42: a head ends at 64 KiB or 100 lines, trailers at 64 KiB; the relay answers or ends the stream, and goes on.
#[tokio::test]
async fn a42_header_bombs_end_at_64_kib() {
    let (upstream, mut seen) = recorder().await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    let head = "POST / HTTP/1.1\r\nhost: wiki\r\nproxy-authorization: Bearer {token}\r\n";
    let long = format!("{head}x-long: {}\r\n\r\n", "a".repeat(66_000));
    let many = format!("{head}{}\r\n", "x: y\r\n".repeat(200));
    let endless = format!("{head}x-endless: {}", "a".repeat(1 << 20));
    for bomb in [&long, &many, &endless] {
        let answer = ada.send_raw(bomb).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer:.60}");
    }
    assert!(seen.try_recv().is_err(), "no app sees any of it");
    // hyper answers before the relay hears of it; each is in the audit log soon after.
    let recorded = || world.audit().iter().filter(|line| line["code"] == "headers_too_large").count();
    soon(async {
        while recorded() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;

    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n");
    let answer = ada.send_raw(&format!("{chunked}x-trailer: {}\r\n\r\n", "a".repeat(66_000))).await;
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer:.60}");
    while let Ok(forwarded) = seen.try_recv() {
        assert!(!forwarded.contains("aaaa"), "trailers are not sent on");
    }
    assert!(ada.send_raw(&format!("{head}content-length: 0\r\n\r\n")).await.starts_with("HTTP/1.1 200"));
}

/// A43: what could be read as one request or two is neither: the upstream sees none of it.
#[tokio::test]
async fn a43_ambiguous_requests_are_refused() {
    let (upstream, mut seen) = recorder().await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    let start = "POST / HTTP/1.1\r\nhost: wiki\r\nproxy-authorization: Bearer {token}\r\n";
    let inner = "GET /smuggled HTTP/1.1\r\nhost: wiki\r\n\r\n";
    for (what, rest) in [
        ("both lengths", format!("content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}")),
        ("both, other order", format!("transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n{inner}")),
        ("two lengths", format!("content-length: 0\r\ncontent-length: 4\r\n\r\n{inner}")),
        ("the same length twice", format!("content-length: 0\r\ncontent-length: 0\r\n\r\n{inner}")),
        ("a list of lengths", format!("content-length: 0, 0\r\n\r\n{inner}")),
        ("a signed length", format!("content-length: +0\r\n\r\n{inner}")),
        ("an odd coding", format!("transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{inner}")),
        ("two codings", format!("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n{inner}")),
        ("a space before the colon", format!("content-length : 4\r\n\r\n{inner}")),
        ("a folded line", format!("x: a\r\n content-length: 4\r\n\r\n{inner}")),
        ("a bare line feed", format!("x: a\ncontent-length: 0\r\n\r\n{inner}")),
        ("a bare carriage return", format!("x: a\rcontent-length: 4\r\n\r\n{inner}")),
        ("a NUL", format!("x: a\0b\r\n\r\n{inner}")),
        ("a nameless line", format!(": a\r\n\r\n{inner}")),
    ] {
        let answer = ada.send_raw(&format!("{start}{rest}")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{what}: nothing after it is answered: {answer}");
        assert!(seen.try_recv().is_err(), "{what} reached the app");
    }
    for (what, line) in [("HTTP/1.0", "GET / HTTP/1.0"), ("HTTP/2", "GET / HTTP/2.0"), ("no version", "GET /")] {
        let answer =
            ada.send_raw(&format!("{line}\r\nhost: wiki\r\nproxy-authorization: Bearer {{token}}\r\n\r\n")).await;
        assert!(answer.contains(" 400 "), "{what}: {answer}");
    }
    assert!(seen.try_recv().is_err());

    // In plain order, two requests on one stream are two requests, each with a decision of its own.
    let get =
        |path: &str| format!("GET {path} HTTP/1.1\r\nhost: wiki\r\nproxy-authorization: Bearer {{token}}\r\n\r\n");
    let answer = ada.send_raw(&format!("{}{}", get("/one"), get("/secret"))).await;
    assert_eq!((answer.matches("HTTP/1.1 200").count(), answer.matches("HTTP/1.1 403").count()), (1, 1), "{answer}");
    assert!(seen.recv().await.unwrap().starts_with("GET /one"));
    assert!(seen.try_recv().is_err());
}

/// A44: of everything in Postern's name the upstream gets ours alone, however it was spelled or placed.
#[tokio::test]
async fn a44_only_the_relay_speaks_in_posterns_name() {
    let (upstream, mut seen) = recorder().await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    let names = [
        "x-postern-identity",
        "X-POSTERN-Identity",
        "x_postern_identity",
        "X-Postern_Identity",
        "x.postern.identity",
        "postern-decision",
        "x-postern-groups",
    ];
    let headers: String = names.iter().map(|name| format!("{name}: forged\r\n")).collect();
    let request = format!(
        "POST / HTTP/1.1\r\nhost: wiki\r\nproxy-authorization: Bearer {{token}}\r\n{headers}\
         connection: x-postern-identity, x-forwarded-for, keep-alive\r\ntrailer: x-postern-identity\r\nte: trailers\r\n\
         transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-postern-identity: forged\r\nx-ok: forged\r\n\r\n"
    );
    assert!(ada.send_raw(&request).await.starts_with("HTTP/1.1 200"));
    let mut forwarded = String::new();
    while !forwarded.ends_with("0\r\n\r\n") {
        forwarded.push_str(&seen.recv().await.unwrap());
    }
    assert!(!forwarded.contains("forged"), "{forwarded}");
    assert_eq!(forwarded.matches("x-postern-identity: ").count(), 1, "{forwarded}");
    assert_eq!(forwarded.matches("x-forwarded-for: 127.0.0.1").count(), 1, "{forwarded}");
    assert!(!forwarded.to_lowercase().contains("bearer"), "{forwarded}");

    // Nor does an upstream speak as the relay to the device.
    let impostor = Upstream::http(|_| async {
        let answer = http::Response::builder().header("postern-code", "policy_denied").header("Postern-Decision", "1");
        answer.header("proxy-status", "postern-relay; error=x").body(none()).unwrap()
    });
    let world = World::new(&[app("wiki", impostor.await.http_url(), "")]).await;
    let answer = world.device("ada").await.get("wiki", "/").await;
    for name in ["postern-code", "proxy-status"] {
        assert!(!answer.headers().contains_key(name), "{name}");
    }
    // The decision that is named is the relay's own, once, and stands in the log.
    let named: Vec<_> = answer.headers().get_all("postern-decision").iter().collect();
    let [named] = named[..] else { panic!("{named:?}") };
    assert!(world.audit().iter().any(|record| record["decision"] == named.to_str().unwrap()), "{named:?}");
}

/// A45: where a request claims to come from changes neither the decision nor what the upstream is told.
#[tokio::test]
async fn a45_forwarding_headers_decide_nothing() {
    let upstream = Upstream::echo().await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    for (name, value) in [
        ("forwarded", "for=10.0.0.1;host=closed;proto=https"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-host", "closed"),
        ("x-forwarded-user", "admin"),
        ("x-forwarded-prefix", "/secret"),
        ("x-real-ip", "10.0.0.1"),
        ("x-original-url", "/secret"),
    ] {
        let allowed = ada.call(ada.request("GET", "wiki", "/").header(name, value).body(none()).unwrap()).await;
        assert_eq!(allowed.status(), 200);
        let seen = text(allowed).await;
        assert!(!seen.contains(value), "{seen}");
        let denied = ada.request("GET", "wiki", "/secret").header(name, value).header("x-forwarded-for", "127.0.0.1");
        let denied = assert_refused(ada.call(denied.body(none()).unwrap()).await, Code::PolicyDenied).await;
        assert_eq!(world.audited(&denied)["source"], "127.0.0.1");
    }
}

/// A46: the path that is judged is the path that is sent on; one with two readings is refused.
#[tokio::test]
async fn a46_the_path_judged_is_the_path_sent() {
    let (upstream, mut seen) = recorder().await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    let get =
        |path: &str| format!("GET {path} HTTP/1.1\r\nhost: wiki\r\nproxy-authorization: Bearer {{token}}\r\n\r\n");
    for path in [
        "/open/../secret",
        "/./secret",
        "//secret",
        "/open//secret",
        "/%2e%2e/secret",
        "/%2E/secret",
        "/open%2f..%2fsecret",
        "/open%5c..%5csecret",
        "/open\\..\\secret",
        "/open/..;/secret",
        "/%252e%252e/secret",
        "/a%00b",
        "/a%0d%0ab",
        "/a%",
        "/a%zz",
    ] {
        let answer = ada.send_raw(&get(path)).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{path}: {answer}");
    }
    // A fragment is no part of a request target; whatever is made of it, it is the same on both sides of the gate.
    let answer = ada.send_raw(&get("/open#/../secret")).await;
    if answer.starts_with("HTTP/1.1 200") {
        assert!(seen.recv().await.unwrap().starts_with("GET /open HTTP/1.1\r\n"));
    }
    for path in ["/secret", "/%73ecret", "/secre%74/x", "/secret;v=1"] {
        let answer = ada.send_raw(&get(path)).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{path}: {answer}");
    }
    assert!(seen.try_recv().is_err(), "none of these reached the app");
    for path in ["/", "/a%20b/c.d/e,f=g", "/ok?next=/../secret&x=%2e%2e//", "/caf%C3%A9/"] {
        assert!(ada.send_raw(&get(path)).await.starts_with("HTTP/1.1 200"), "{path}");
        let forwarded = seen.recv().await.unwrap();
        assert_eq!(forwarded.lines().next(), Some(&*format!("GET {path} HTTP/1.1")));
    }
}

/// A47: request target and `Host` name the same app, and one that is ours.
#[tokio::test]
async fn a47_names_that_disagree_or_are_foreign_are_refused() {
    let (upstream, mut seen) = recorder().await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    let bearer = "proxy-authorization: Bearer {token}\r\n";
    for (status, head) in [
        (400, "GET http://other/ HTTP/1.1\r\nhost: wiki\r\n"),
        (400, "GET http://wiki/ HTTP/1.1\r\nhost: other\r\n"),
        (400, "GET http://wiki@other/ HTTP/1.1\r\nhost: wiki\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: wiki\r\nhost: other\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: wiki\r\nHost: wiki\r\n"),
        (400, "GET / HTTP/1.1\r\n"),
        (400, "GET ftp://wiki/ HTTP/1.1\r\nhost: wiki\r\n"),
        (400, "CONNECT wiki:80 HTTP/1.1\r\nhost: other:80\r\n"),
        (421, "GET / HTTP/1.1\r\nhost: evil.example\r\n"),
        (421, "GET / HTTP/1.1\r\nhost: wiki:8080\r\n"),
        (421, "GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n"),
        (421, "GET https://evil.example/ HTTP/1.1\r\nhost: evil.example\r\n"),
        (421, "CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example:443\r\n"),
        (405, "TRACE / HTTP/1.1\r\nhost: wiki\r\n"),
    ] {
        let answer = ada.send_raw(&format!("{head}{bearer}\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
        assert!(answer.contains("postern-decision: "), "{head}: {answer}");
    }
    assert!(seen.try_recv().is_err());
    for head in ["GET http://wiki/a HTTP/1.1\r\nhost: wiki\r\n", "GET /a HTTP/1.1\r\nHOST: WIKI\r\n"] {
        assert!(ada.send_raw(&format!("{head}{bearer}\r\n")).await.starts_with("HTTP/1.1 200"), "{head}");
        assert!(seen.recv().await.unwrap().starts_with("GET /a HTTP/1.1\r\n"));
    }
}

/// A48: no path and no user agent is let through unverified.
#[tokio::test]
async fn a48_health_checks_are_verified_like_everything_else() {
    let upstream = Upstream::echo().await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    for path in ["/health", "/healthz", "/ping", "/metrics", "/.well-known/postern", "/favicon.ico", "/robots.txt"] {
        for agent in ["kube-probe/1.30", "GoogleHC/1.0", "ELB-HealthChecker/2.0", "postern"] {
            let request = Request::builder().uri(path).header("host", "wiki").header("user-agent", agent);
            let refused = assert_refused(ada.call(request.body(none()).unwrap()).await, Code::TokenMissing).await;
            assert_eq!(world.audited(&refused)["result"], "deny");
        }
    }
    assert_eq!(upstream.connections(), 0);
}
