//! The public listener over real TLS connections.

use super::*;
use crate::keys::Keys;
use crate::server_tls::{self, Certificate};
use crate::testing::TestRelay;
use http::Method;
use rustls::pki_types::ServerName;
use std::time::Instant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A listener, and how to connect to it.
struct Listener {
    world: TestRelay,
    address: SocketAddr,
    client: Arc<rustls::ClientConfig>,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

impl Listener {
    async fn new(bounds: Bounds) -> Self {
        let world = TestRelay::new().await;
        let keys = Keys::load(&world.home.join("keys")).unwrap_or_else(|faults| panic!("{faults:?}"));
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let certificate = server_tls::issue(&keys.server_ca.issuer, &names, &world.relay.clock).unwrap();
        let tls = server_tls::public_config(Certificate::new(certificate)).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(keys.server_ca.certificate).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let client = Arc::new(client.with_root_certificates(roots).with_no_client_auth());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let router = router(world.relay.clone(), world.discovery());
        let served = tokio::spawn(serve(listener, tls, router, bounds, stop.clone()));
        Self { world, address, client, stop, served }
    }

    async fn connect(&self, name: &'static str) -> tokio_rustls::client::TlsStream<TcpStream> {
        let socket = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from(name).unwrap();
        tokio_rustls::TlsConnector::from(self.client.clone()).connect(name, socket).await.unwrap()
    }

    /// What comes back for these bytes, until the listener closes.
    async fn say(&self, name: &'static str, bytes: &str) -> String {
        let mut stream = self.connect(name).await;
        let _closed_while_writing = stream.write_all(bytes.as_bytes()).await;
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// A35, A48: no name, path, header or User-Agent leads to anything but the four public addresses.
#[tokio::test]
async fn a48_nothing_else_is_served_whatever_a_client_sends() {
    let listener = Listener::new(Bounds::new(100)).await;
    for (name, line, host, agent) in [
        ("127.0.0.1", "GET / HTTP/1.1", "wiki", "x"),
        ("localhost", "GET /apps HTTP/1.1", "postern.relay", "kube-probe/1.0"),
        ("localhost", "GET /session HTTP/1.1", "wiki", "GoogleHC/1.0"),
        ("127.0.0.1", "POST /session HTTP/1.1", "postern.relay", "ELB-HealthChecker/2.0"),
        ("127.0.0.1", "GET /events HTTP/1.1", "postern.relay", "x"),
        ("127.0.0.1", "GET http://wiki/ HTTP/1.1", "wiki", "x"),
        ("127.0.0.1", "CONNECT wiki:80 HTTP/1.1", "wiki:80", "x"),
        ("127.0.0.1", "GET /health/../apps HTTP/1.1", "a", "x"),
        ("127.0.0.1", "GET //health HTTP/1.1", "a", "x"),
        ("127.0.0.1", "GET /.well-known/ HTTP/1.1", "a", "x"),
    ] {
        let request = format!("{line}\r\nhost: {host}\r\nuser-agent: {agent}\r\nconnection: close\r\n\r\n");
        let answer = listener.say(name, &request).await;
        assert!(answer.starts_with("HTTP/1.1 404") || answer.starts_with("HTTP/1.1 400"), "{line}: {answer}");
    }
    let answer = listener.say("localhost", "DELETE /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("method_not_allowed"), "{answer}");
}

#[tokio::test]
async fn discovery_health_and_keys_are_there() {
    let world = TestRelay::new().await;
    let document: Discovery =
        serde_json::from_value(world.public(Method::GET, discovery::PATH, "").await.ok()).unwrap();
    assert_eq!(document, world.discovery());
    assert_eq!(document.sign_in.token_max_age, 900);
    assert_eq!(world.public(Method::GET, HEALTH, "").await.ok()["status"], "ok");
    let keys = world.public(Method::GET, JWKS, "").await.ok();
    let keys = keys["keys"].as_array().unwrap();
    // A14: the one key that upstreams need, and only its public half.
    assert_eq!(keys.len(), 1);
    assert_eq!((keys[0]["kty"].as_str(), keys[0]["crv"].as_str()), (Some("EC"), Some("P-256")));
    assert!(keys[0].get("d").is_none());
}

/// A42: a header section stops being read at 64 KiB.
#[tokio::test]
async fn a42_a_header_bomb_is_refused() {
    let listener = Listener::new(Bounds::new(100)).await;
    let bomb = format!("GET /health HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(200 * 1024));
    let answer = listener.say("localhost", &bomb).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let fine = listener.say("localhost", "GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(fine.starts_with("HTTP/1.1 200"), "{fine}");
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go() {
    let headers_in = Duration::from_millis(500);
    let listener = Listener::new(Bounds { headers_in, ..Bounds::new(2) }).await;
    let mut silent = TcpStream::connect(listener.address).await.unwrap();
    let mut slow = listener.connect("localhost").await;
    slow.write_all(b"GET /health HTTP/1.1\r\nhost").await.unwrap();
    let mut rest = Vec::new();
    let _reset = slow.read_to_end(&mut rest).await;
    let _reset = silent.read_to_end(&mut Vec::new()).await;
    // Both have seen the end. Their places are free again.
    let answer = listener.say("localhost", "GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn one_network_cannot_take_all_places() {
    let crowd = Arc::new(Crowd { by_network: Mutex::default(), most: 2 });
    let from = |text: &str| crowd.enter(text.parse().unwrap());
    let seats = (from("192.0.2.1"), from("192.0.2.1"));
    assert!(seats.0.is_some() && seats.1.is_some() && from("192.0.2.1").is_none());
    assert!(from("192.0.2.2").is_some());
    drop(seats);
    assert!(from("192.0.2.1").is_some());
    assert!(crowd.by_network.lock().is_empty());
    // Over the network: the third connection is closed before it costs a handshake.
    let listener = Listener::new(Bounds { of_one_network: 2, ..Bounds::new(10) }).await;
    let _held = (listener.connect("localhost").await, listener.connect("localhost").await);
    let mut third = TcpStream::connect(listener.address).await.unwrap();
    assert_eq!(third.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_shutdown_lets_an_open_connection_end() {
    let listener = Listener::new(Bounds::new(10)).await;
    let mut idle = listener.connect("localhost").await;
    idle.write_all(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut some = [0; 12];
    idle.read_exact(&mut some).await.unwrap();
    let start = Instant::now();
    listener.stop.cancel();
    listener.served.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "an idle connection does not hold up the end");
    drop(listener.world);
}

#[tokio::test]
async fn an_address_is_limited() {
    let world = TestRelay::new().await;
    let mut refused = 0;
    for _ in 0..400 {
        refused += usize::from(world.public(Method::GET, HEALTH, "").await.status == 429);
    }
    assert!(refused > 0);
}
