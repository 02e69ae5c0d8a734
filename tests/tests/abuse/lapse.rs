//! What was allowed and may be no longer: A51, A52, A53, A56.

use crate::Site;
use postern_tests::client::{Reply, status_of};
use postern_tests::device::exchange;
use postern_tests::quic::Quic;
use postern_tests::upstream::Upstream;
use postern_tests::wait::{SHORT, eventually, within};
use postern_tests::{App, Device, Relay, Settings, StandIn, World};
use quinn::{ReadError, RecvStream, SendStream, VarInt};
use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

const TOKEN_EXPIRED: u32 = 103;
const SESSION_REVOKED: u32 = 105;
const PRINCIPAL_REVOKED: u32 = 107;
const DEVICE_REVOKED: u32 = 108;

/// A stream to `db` and the app's end of it.
struct Open {
    send: SendStream,
    recv: RecvStream,
    app: TcpStream,
}

impl Open {
    async fn new(device: &Device, quic: &Quic, listener: &TcpListener) -> Self {
        let target = format!("db:{}", listener.local_addr().unwrap().port());
        let (mut send, mut recv) = quic.connection.open_bi().await.unwrap();
        send.write_all(&device.head(&format!("CONNECT {target} HTTP/1.1"), &target, "")).await.unwrap();
        let (app, _) = within(SHORT, "the app is called", listener.accept()).await.unwrap();
        assert_eq!(status_of(&head(&mut recv).await), Some(200));
        Self { send, recv, app }
    }

    /// Both directions end with `code`, and the app's socket with them.
    async fn ends_with(mut self, code: u32) {
        let code = VarInt::from_u32(code);
        let down = within(SHORT, "the stream is reset", self.recv.read(&mut [0; 1])).await;
        let up = within(SHORT, "the stream is stopped", self.send.stopped()).await;
        assert_eq!(down.unwrap_err(), ReadError::Reset(code));
        assert_eq!(up.unwrap(), Some(code));
        let end = within(SHORT, "the app's socket ends", self.app.read(&mut [0; 1])).await;
        assert!(end.is_err(), "reset, so that the app does not take it for the end: {end:?}");
    }
}

/// What the session is told from here on.
async fn listen(device: &Device, quic: &Quic) -> RecvStream {
    let (mut send, mut recv) = quic.connection.open_bi().await.unwrap();
    send.write_all(&device.head("GET /events HTTP/1.1", "postern.relay", "")).await.unwrap();
    assert_eq!(status_of(&head(&mut recv).await), Some(200));
    recv
}

/// The head of an answer.
async fn head(recv: &mut RecvStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        within(SHORT, "a head", recv.read_exact(&mut byte)).await.unwrap();
        head.extend(byte);
    }
    head
}

/// A site with a `tcp` app whose end is in the test's hands.
async fn database(settings: impl FnOnce(Settings) -> Settings) -> (Site, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (Site::with(|base| settings(base.app(App::tcp("db", address)))).await, listener)
}

/// A52: whatever is revoked in mid-stream, both directions and the app's socket end within the published bound, and the
/// streams of others do not.
#[tokio::test]
async fn a52_a_revocation_in_mid_stream_cuts_both_directions_within_the_bound() {
    let (site, listener) = database(|settings| settings).await;
    let (bystander, bystanders) = site.signed_in("bystander").await;
    let mut spared = Open::new(&bystander, &bystanders, &listener).await;
    for (kind, code) in [("user", PRINCIPAL_REVOKED), ("device", DEVICE_REVOKED), ("session", SESSION_REVOKED)] {
        let (device, quic) = site.signed_in(&format!("{kind}-to-go")).await;
        let open = Open::new(&device, &quic, &listener).await;
        let mut events = listen(&device, &quic).await;
        let id = match kind {
            "user" => "user-to-go".to_owned(),
            "device" => device.id(),
            _ => device.session(),
        };
        let receipt = site.relay.admin(&["revoke", kind, &id, "--json"]).await.ok().json();
        assert_eq!((&receipt["streams_cut"], &receipt["streams_unfinished"]), (&json!(1), &json!(0)), "{receipt}");
        assert!(receipt["slowest_ms"].as_u64().unwrap() <= 1000, "{receipt}");
        assert_eq!(receipt["cut"], json!({ "db": 1 }), "{receipt}");
        if kind == "device" {
            // The connection ends with it, and may be faster than the stream's own reset.
            let closed = within(SHORT, "the connection ends", quic.connection.closed()).await;
            assert!(closed.to_string().contains("device_revoked"), "{closed}");
        } else {
            open.ends_with(code).await;
            // Its user hears why it ended, by the decision's name, before everything ends.
            let told = within(SHORT, "the last event", events.read_to_end(1 << 16)).await.unwrap();
            let told = String::from_utf8(told).unwrap();
            let (cut, revoked) = (told.find("\"cut\""), told.find("\"revoked\""));
            assert!(cut.is_some() && cut < revoked && told.contains("\"decision\""), "{told}");
        }
    }
    let undisturbed = tokio::time::timeout(Duration::from_millis(100), spared.recv.read(&mut [0; 1])).await;
    assert!(undisturbed.is_err(), "{undisturbed:?}");
    assert!(matches!(spared.app.try_read(&mut [0; 1]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock));
}

/// A52: requests in flight count too: a download, a stream of server-sent events, a WebSocket.
#[tokio::test]
async fn a52_downloads_events_and_websockets_are_streams() {
    let endless = |kind: &str, first: &str| format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{first}").into_bytes();
    let download = Upstream::http(move |_| endless("application/zip", "content-length: 1000000\r\n\r\nPK")).await;
    let events =
        Upstream::http(move |_| endless("text/event-stream", "transfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"))
            .await;
    let socket = Upstream::switching().await;
    let site = Site::with(|settings| {
        let settings = settings.app(App::http("files", download.address)).app(App::http("news", events.address));
        settings.app(App::http("chat", socket.address))
    })
    .await;
    let (device, quic) = site.signed_in("ada").await;
    let mut open = Vec::new();
    let switch = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (app, lines, status) in [("files", "", 200), ("news", "", 200), ("chat", switch, 101)] {
        let (mut send, mut recv) = quic.connection.open_bi().await.unwrap();
        send.write_all(&device.head("GET / HTTP/1.1", app, lines)).await.unwrap();
        assert_eq!(status_of(&head(&mut recv).await), Some(status), "{app}");
        open.push((app, send, recv));
    }
    let receipt = site.relay.admin(&["revoke", "user", "ada", "--json"]).await.ok().json();
    assert_eq!((&receipt["streams_cut"], &receipt["streams_unfinished"]), (&json!(3), &json!(0)), "{receipt}");
    for (app, _send, mut recv) in open {
        let cut = async {
            loop {
                match recv.read(&mut [0; 1024]).await {
                    Ok(Some(_)) => {}
                    end => return end,
                }
            }
        };
        let end = within(SHORT, "the answer breaks off", cut).await;
        assert_eq!(end.unwrap_err(), ReadError::Reset(VarInt::from_u32(PRINCIPAL_REVOKED)), "{app}");
    }
}

/// A53: a session that nobody renews ends its streams when it ends.
#[tokio::test]
async fn a53_a_stream_ends_with_its_session() {
    let (site, listener) =
        database(|settings| settings.set("session", "token_lifetime", "\"3s\"").set("posture", "max_age", "\"1m\""))
            .await;
    let (device, quic) = site.signed_in("ada").await;
    let issued = std::time::Instant::now();
    let open = Open::new(&device, &quic, &listener).await;
    open.ends_with(TOKEN_EXPIRED).await;
    let lived = issued.elapsed();
    assert!(lived < Duration::from_secs(3 + 2), "cut at its end, not {lived:?} after it was issued");
    let record = site.relay.audited("the cut", |record| record["event"] == "stream_cut").await;
    assert_eq!((&record["code"], &record["app"]), (&json!("token_expired"), &json!("db")), "{record}");
}

/// A56: what has expired stays so although the system's clock is set back two hours.
#[tokio::test]
async fn a56_a_clock_set_back_revives_nothing() {
    let world = World::new();
    let clock = world.file("clock", "+0");
    let library = faketime();
    let provider = StandIn::start().await;
    let wiki = Upstream::plain().await;
    let settings = Settings::new(&provider.issuer).app(App::http("wiki", wiki.address));
    let settings = settings.set("session", "token_lifetime", "\"1h\"").set("provider", "token_max_age", "\"1h\"");
    let settings = settings.set("posture", "max_age", "\"12h\"").environment("LD_PRELOAD", library);
    let settings = settings.environment("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap());
    let settings = settings.environment("FAKETIME_NO_CACHE", "1").environment("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let relay = Relay::start(&world, settings).await;
    let (device, quic) = Device::signed_in(&relay, &provider, "ada").await;
    assert_eq!(device.get(&quic, "wiki", "/").await.status, 200);

    world.file("clock", "+2h");
    let ended = eventually("the token ends", async || {
        let reply = device.get(&quic, "wiki", "/").await;
        (reply.status != 200).then(|| reply.refusal())
    })
    .await;
    assert_eq!(ended, (407, "token_expired"));
    world.file("clock", "+0");
    for _ in 0..5 {
        assert_eq!(device.get(&quic, "wiki", "/").await.refusal(), (407, "token_expired"));
    }
    assert_eq!(wiki.requests().len(), 1);
}

/// A51: with the provider and its keys gone, what was allowed goes on until its session token ends, and nothing after.
#[tokio::test]
async fn a51_without_the_provider_nothing_is_allowed_beyond_the_session_token() {
    let settings = |settings: Settings| settings.set("session", "token_lifetime", "\"5s\"");
    let mut site = Site::with(settings).await;
    let (device, quic) = site.signed_in("ada").await;
    let lease = std::time::Instant::now() + Duration::from_secs(5);
    site.provider.twist(|_| Some(broken()));
    let ended = eventually("the lease ends", async || {
        let reply = device.get(&quic, "wiki", "/").await;
        let late = std::time::Instant::now() > lease + Duration::from_secs(1);
        assert!(reply.status != 200 || !late, "allowed beyond the lease");
        (reply.status != 200).then(|| reply.refusal())
    })
    .await;
    assert_eq!(ended, (407, "token_expired"));
    // A relay that starts anew knows no keys from before, and takes nobody's word for anything.
    site.relay.stop().await.ok();
    site.relay.serve_again(None).await;
    let quic = device.connect(&site.relay).await;
    let form = device.exchange_form(&site.provider.id_token("ada", json!({})));
    assert_eq!(quic.send(exchange(form)).await.unwrap().refusal(), (503, "provider_unreachable"));
    let new = Device::new();
    let token = site.provider.id_token("eve", json!({"nonce": new.nonce()}));
    assert_eq!(site.relay.post("/enroll", &new.enrolment(&token)).await.refusal(), (503, "provider_unreachable"));
}

fn broken() -> Reply {
    Reply { status: http::StatusCode::INTERNAL_SERVER_ERROR, headers: http::HeaderMap::new(), body: "no".into() }
}

/// A51: a store or a policy that is broken while the relay is down lets nobody in: it does not start.
#[tokio::test]
async fn a51_with_a_broken_store_or_policy_the_relay_does_not_start() {
    let mut site = Site::new().await;
    site.relay.stop().await.ok();
    let config = site.relay.dir.join("relay.toml");
    for (file, code) in [("state/postern.db", "store_unavailable"), ("policy.cedar", "policy.cedar")] {
        let file = site.relay.dir.join(file);
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, "permit everything to everybody, please, and be quick about it").unwrap();
        let output = site.world.postern_relay(&["serve", "--config", config.to_str().unwrap()]).await;
        assert_eq!(output.code, 1, "{output:?}");
        assert!(output.stderr.contains(code) && !output.stdout.contains("ready"), "{output:?}");
        std::fs::write(&file, whole).unwrap();
    }
    site.relay.serve_again(None).await;
    site.is_sound().await;
}

/// The library that sets a program's clock.
fn faketime() -> String {
    let dirs = std::fs::read_dir("/usr/lib").unwrap().flatten().map(|dir| dir.path().join("faketime/libfaketime.so.1"));
    let found = dirs.into_iter().find(|file| file.is_file());
    found.expect("libfaketime is installed (cargo xtask test does it)").to_str().unwrap().to_owned()
}
