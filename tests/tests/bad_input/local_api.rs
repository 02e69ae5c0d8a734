//! Calls that are wrong: to the agent's local API, to its listeners, and to the relay's own endpoints.

use crate::nothing_leaked;
use http::Request;
use postern_tests::client::{exchange, raw, split_head, status_of};
use postern_tests::{Agent, App, Browser, Device, Relay, Settings, StandIn, Upstream, World};
use tokio::net::{TcpStream, UnixStream};

/// The local API answers every wrong call with a problem document, and goes on.
#[tokio::test]
async fn wrong_calls_of_the_local_api_are_answered_with_problems() {
    let world = World::new();
    let mut agent = Agent::start(&world, "agent", None).await;
    let socket = agent.state.join("agent.sock");
    let call = async |method: &str, path: &str, body: Vec<u8>| {
        let io = UnixStream::connect(&socket).await.unwrap();
        let request = Request::builder().method(method).uri(path).header("host", "agent");
        exchange(io, request.header("content-type", "application/json").body(body).unwrap()).await.unwrap()
    };
    for (method, path, body, code) in [
        ("GET", "/", "", "not_found"),
        ("GET", "/v1/nothing", "", "not_found"),
        ("GET", "/v1/../v1/status", "", "not_found"),
        ("POST", "/v1/status", "", "method_not_allowed"),
        ("GET", "/v1/login", "", "method_not_allowed"),
        ("DELETE", "/v1/activity", "", "method_not_allowed"),
        ("POST", "/v1/settings", "{}", "method_not_allowed"),
        ("GET", "/v1/doctor", "", "method_not_allowed"),
        ("POST", "/v1/logs", "", "method_not_allowed"),
        ("GET", "/v1/logout", "", "method_not_allowed"),
        ("POST", "/v1/login", "", "request_invalid"),
        ("POST", "/v1/login", "[]", "request_invalid"),
        ("POST", "/v1/login", "{\"method\": \"telepathy\"}", "request_invalid"),
        ("POST", "/v1/login", "{\"address\": 7}", "request_invalid"),
        ("POST", "/v1/login", "{\"address\": \"x\"} trailing", "request_invalid"),
        ("POST", "/v1/login", "{\"renew\": 1}", "request_invalid"),
        ("PUT", "/v1/settings", "", "request_invalid"),
        ("PUT", "/v1/settings", "{\"http_port\": 70000, \"ports\": {}}", "request_invalid"),
        ("PUT", "/v1/settings", "{\"http_port\": 0, \"ports\": {\"Not A Label\": 1}}", "request_invalid"),
        ("PUT", "/v1/settings", "{\"http_port\": 0, \"ports\": {}, \"more\": 1}", "request_invalid"),
        ("POST", "/v1/connect/Not%20A%20Label", "", "request_invalid"),
        ("POST", "/v1/connect/echo", "", "request_invalid"),
    ] {
        let reply = call(method, path, body.into()).await;
        assert_eq!(reply.refusal().1, code, "{method} {path} {body}");
    }
    let deep = call("POST", "/v1/login", "[".repeat(60_000).into_bytes()).await;
    assert_eq!(deep.refusal().1, "request_invalid");
    let huge = b"POST /v1/login HTTP/1.1\r\nhost: agent\r\ncontent-length: 1048576\r\n\r\n";
    assert_eq!(status_of(&raw(&mut UnixStream::connect(&socket).await.unwrap(), huge).await), Some(413));
    for bytes in [
        &b"\x00\x01\x02\r\n\r\n"[..],
        b"GET /v1/status\r\n\r\n",
        &[b'A'; 200_000],
        b"GET /v1/status HTTP/1.1\r\nhost: x\r\nx: \0\r\n\r\n",
    ] {
        let mut io = UnixStream::connect(&socket).await.unwrap();
        let answer = raw(&mut io, bytes).await;
        assert!(status_of(&answer).is_none_or(|status| status >= 400), "{answer:?}");
    }
    assert!(agent.runs() && agent.status().await["state"] == "signed_out");
    nothing_leaked(&world);
}

/// The HTTP listener answers what is no request, or is none it can carry, and goes on.
#[tokio::test]
async fn wrong_requests_at_the_http_listener_are_answered() {
    let world = World::new();
    let provider = StandIn::start().await;
    let wiki = Upstream::plain().await;
    let relay = Relay::start(&world, Settings::new(&provider.issuer).app(App::http("wiki", wiki.address))).await;
    let mut agent = Agent::start(&world, "agent", None).await;
    let offline = agent.get("wiki", "/").await;
    assert_eq!(offline.refusal(), (407, "not_signed_in"));
    agent.login_with(&relay, &mut Browser::of("mallory"), &["--memory-only"]).await.ok();
    let host = agent.authority("wiki");
    let bomb = format!("GET / HTTP/1.1\r\nhost: {host}\r\n{}\r\n", "a: b\r\n".repeat(40_000));
    for (what, bytes) in [
        ("noise", "\u{0}\u{1}\u{2}\r\n\r\n".to_owned()),
        ("a TLS hello", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}".into()),
        ("HTTP/0.9", "GET /\r\n\r\n".into()),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
        ("no host", "GET / HTTP/1.1\r\n\r\n".into()),
        ("two hosts", format!("GET / HTTP/1.1\r\nhost: {host}\r\nhost: evil.example\r\n\r\n")),
        ("a proxy request", format!("GET http://evil.example/ HTTP/1.1\r\nhost: {host}\r\n\r\n")),
        ("CONNECT", format!("CONNECT evil.example:443 HTTP/1.1\r\nhost: {host}\r\n\r\n")),
        ("a header bomb", bomb),
        ("dot segments", format!("GET /../x HTTP/1.1\r\nhost: {host}\r\n\r\n")),
        ("two lengths", format!("POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx")),
    ] {
        let mut io = TcpStream::connect(agent.http()).await.unwrap();
        let answer = raw(&mut io, bytes.as_bytes()).await;
        assert!(
            status_of(&answer).is_none_or(|status| (400..500).contains(&status)),
            "{what}: {:?}",
            split_head(&answer)
        );
    }
    assert_eq!(wiki.requests().len(), 0, "something went through");
    // A session token of one's own does not get past the agent, and does no harm.
    let own = Request::get("/").header("proxy-authorization", "Bearer mine").body("").unwrap();
    assert_eq!(agent.send("wiki", own).await.status, 200);
    assert!(agent.runs());
    nothing_leaked(&world);
}

/// The relay's own endpoints, over mTLS and in public: wrong methods, paths, bodies.
#[tokio::test]
async fn wrong_calls_of_the_relay_are_answered_with_problems() {
    let world = World::new();
    let provider = StandIn::start().await;
    let mut relay = Relay::start(&world, Settings::new(&provider.issuer)).await;
    let (device, quic) = Device::signed_in(&relay, &provider, "ada").await;
    for (method, path, body, code) in [
        ("GET", "/", "", "not_found"),
        ("GET", "/nothing", "", "not_found"),
        ("GET", "/session", "", "method_not_allowed"),
        ("PUT", "/apps", "", "method_not_allowed"),
        ("POST", "/session", "", "request_invalid"),
        ("POST", "/session", "grant_type=password&username=a&password=b", "request_invalid"),
        ("POST", "/session", "{}", "request_invalid"),
        ("POST", "/enroll", "", "request_invalid"),
        ("POST", "/enroll", "[]", "request_invalid"),
    ] {
        let request = device.request(method, "postern.relay", path).body(body).unwrap();
        let reply = quic.send(request).await.unwrap();
        assert_eq!(reply.refusal().1, code, "{method} {path} {body}");
    }
    // Only announced: it is refused before a byte of it arrives.
    let huge = quic.raw(&device.head("POST /session HTTP/1.1", "postern.relay", "content-length: 1048576\r\n")).await;
    assert_eq!(status_of(&huge), Some(413));

    for (method, path, body, code) in [
        ("GET", "/", "", "not_found"),
        ("GET", "/.well-known/nothing", "", "not_found"),
        ("GET", "/enroll", "", "method_not_allowed"),
        ("DELETE", "/health", "", "method_not_allowed"),
        ("POST", "/enroll", "", "request_invalid"),
        ("POST", "/enroll", "{\"csr\": 7}", "request_invalid"),
        ("POST", "/enroll", "{\"csr\": \"\", \"salt\": \"short\"}", "request_invalid"),
    ] {
        let request = Request::builder().method(method).uri(path).header("host", relay.address());
        let reply = relay.public(request.body(body).unwrap()).await;
        assert_eq!(reply.refusal().1, code, "{method} {path} {body}");
    }
    let huge = b"POST /enroll HTTP/1.1\r\nhost: x\r\ncontent-length: 1048576\r\n\r\n";
    assert_eq!(status_of(&raw(&mut relay.tls().await, huge).await), Some(413));
    for bytes in [&b"\x00\r\n\r\n"[..], b"GET /health\r\n\r\n", b"GET /health HTTP/1.1\r\n\r\n\r\n"] {
        let answer = raw(&mut relay.tls().await, bytes).await;
        assert!(status_of(&answer).is_none_or(|status| status < 500), "{answer:?}");
    }
    // Plain HTTP where TLS is spoken, and TLS without anything after it.
    let mut io = TcpStream::connect(relay.public).await.unwrap();
    assert_eq!(status_of(&raw(&mut io, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await), None);
    assert!(relay.runs());
    nothing_leaked(&world);
}
