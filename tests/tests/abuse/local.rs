//! The agent on its own machine: A15, A17, A18, A20.

use http::Request;
use postern_tests::client::{get, http};
use postern_tests::process::{Output, command, command_as, run};
use postern_tests::server::{Server, json, reply};
use postern_tests::wait::{SHORT, within};
use postern_tests::world::{is_root, mode, set_mode};
use postern_tests::{Agent, App, Browser, Keyring, Relay, Settings, StandIn, Upstream, World, eventually, secrets};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json as object};
use std::path::Path;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A person's machine: an agent that is online at a relay with an HTTP and a TCP app.
struct Machine {
    agent: Agent,
    _relay: Relay,
    wiki: Upstream,
    echo: Upstream,
    _provider: StandIn,
    world: World,
}

impl Machine {
    async fn online() -> Self {
        let world = World::new();
        let provider = StandIn::start().await;
        let (wiki, echo) = (Upstream::plain().await, Upstream::echo().await);
        let settings = Settings::new(&provider.issuer);
        let settings = settings.app(App::http("wiki", wiki.address)).app(App::tcp("echo", echo.address));
        let relay = Relay::start(&world, settings).await;
        let agent = Agent::start(&world, "agent", None).await;
        agent.login_with(&relay, &mut Browser::of("mallory"), &["--memory-only"]).await.ok();
        Self { agent, _relay: relay, wiki, echo, _provider: provider, world }
    }

    /// What a process gets that connects to `target` and sends `text`; of another user, unless it is `ours`.
    async fn probe(&self, ours: bool, target: Value, text: &str) -> String {
        let script = self.world.file("probe.mjs", include_str!("../../node/probe.mjs"));
        let mut node = if ours { command("node") } else { command_as("65534", "node") };
        run(node.arg(script).arg(target.to_string()).arg(text)).await.ok().stdout
    }
}

/// A15: another user of the machine is refused by the agent's local API, though the file system let him through.
#[tokio::test]
async fn a15_another_user_is_refused_by_the_local_api() {
    if !is_root() {
        eprintln!("A15 needs root to be another user: not tried");
        return;
    }
    let machine = Machine::online().await;
    let socket = machine.agent.state.join("agent.sock");
    assert_eq!(mode(&machine.agent.state), 0o700);
    assert_eq!(mode(&socket), 0o600);
    // The first line of defence down, the second must hold.
    set_mode(&machine.agent.state, 0o755);
    set_mode(&socket, 0o666);
    let target = object!({"path": socket});
    for line in [
        "GET /v1/status",
        "GET /v1/apps",
        "POST /v1/logout",
        "POST /v1/login",
        "GET /v1/events",
        "POST /v1/connect/echo",
    ] {
        let request = format!("{line} HTTP/1.1\r\nhost: agent\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let answer = machine.probe(false, target.clone(), &request).await;
        assert!(answer.contains("peer_refused") || answer.trim() == "[closed]", "{line}: {answer}");
        assert!(!answer.contains("online") && !answer.contains("HTTP/1.1 200"), "{line}: {answer}");
    }
    let request = "GET /v1/status HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n";
    let answer = machine.probe(true, target, request).await;
    assert!(answer.contains("online"), "the same from its own user: {answer}");
    set_mode(&machine.agent.state, 0o700);
    assert_eq!(machine.agent.status().await["state"], "online", "nobody was signed out");
}

/// A18: another user of the machine is refused by the local listeners.
#[tokio::test]
async fn a18_another_user_is_refused_by_the_local_listeners() {
    if !is_root() {
        eprintln!("A18 needs root to be another user: this half is not tried");
        return;
    }
    let machine = Machine::online().await;
    let request = format!("GET / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", machine.agent.authority("wiki"));
    let http = object!({"port": machine.agent.http_port});
    let answer = machine.probe(false, http.clone(), &request).await;
    assert!(
        answer.contains("peer_refused") || answer.trim() == "[closed]" || answer.contains("ECONNRESET"),
        "{answer}"
    );
    let tcp = object!({"port": machine.agent.port("echo").await});
    let answer = machine.probe(false, tcp.clone(), "knock").await;
    assert!(!answer.contains("knock"), "{answer}");
    assert_eq!(machine.wiki.requests().len() + machine.echo.log().connections.len(), 0, "something arrived");
    assert!(machine.probe(true, http, &request).await.contains("GET /"), "its own user is served");
    assert!(machine.probe(true, tcp, "knock").await.contains("knock"), "its own user is served");
}

/// A18: a web page in the user's own browser cannot use the apps: not across sites, not by rebinding a name of its own.
#[tokio::test]
async fn a18_pages_of_other_sites_are_refused() {
    let machine = Machine::online().await;
    let agent = &machine.agent;
    let (address, ours) = (agent.http(), agent.authority("wiki"));
    for (what, method, headers) in [
        ("a foreign origin", "POST", vec![("origin", "https://evil.example")]),
        ("a foreign origin's GET", "GET", vec![("origin", "https://evil.example")]),
        ("the null origin", "POST", vec![("origin", "null")]),
        ("a neighbour app", "POST", vec![("origin", "http://other.localhost:1")]),
        ("the right name at another port", "POST", vec![("origin", "http://wiki.localhost:1")]),
        ("the right name with another scheme", "POST", vec![("origin", "https://wiki.localhost")]),
        ("a fetch", "GET", vec![("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors")]),
        (
            "an image",
            "GET",
            vec![("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")],
        ),
        (
            "a frame",
            "GET",
            vec![("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
        ),
        (
            "a form",
            "POST",
            vec![("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
        ),
        ("a neighbour on localhost", "GET", vec![("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")]),
        (
            "a link",
            "GET",
            vec![("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
        ),
        (
            "a web socket",
            "GET",
            vec![("origin", "https://evil.example"), ("upgrade", "websocket"), ("connection", "upgrade")],
        ),
        ("a preflight", "OPTIONS", vec![("origin", "https://evil.example"), ("access-control-request-method", "PUT")]),
    ] {
        let mut request = Request::builder().method(method).uri("/").header("host", &ours);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let reply = http(address, request.body("").unwrap()).await;
        assert_eq!(reply.status, 403, "{what}: {reply:?}");
        assert!(reply.headers.get("access-control-allow-origin").is_none(), "{what}");
    }
    let port = agent.http_port;
    for host in [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        format!("wiki.localhost.evil.example:{port}"),
        format!("127.0.0.1:{port}"),
        "wiki.localhost".into(),
        "wiki.localhost:1".into(),
        format!("nosuch.localhost:{port}"),
        format!("wiki.wiki.localhost:{port}"),
        format!("postern.relay:{port}"),
        String::new(),
    ] {
        let reply = get(address, &host, "/").await;
        assert!([400, 403, 404, 421].contains(&reply.status.as_u16()), "{host:?}: {reply:?}");
    }
    assert_eq!(machine.wiki.requests().len(), 0, "something arrived");
    // What the user does in the app itself is served.
    for headers in [
        vec![("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
        vec![("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")],
        vec![],
    ] {
        let mut request = Request::get("/").header("host", &ours);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        assert_eq!(http(address, request.body("").unwrap()).await.status, 200);
    }
    let own = format!("http://{ours}");
    let post = Request::post("/").header("host", &ours).header("origin", own).body("x").unwrap();
    assert_eq!(http(address, post).await.status, 200);
}

/// A18: nor can a page use a TCP app, whose port it can reach, however it cuts or stretches its request.
#[tokio::test]
async fn a18_pages_cannot_speak_to_tcp_apps() {
    let machine = Machine::online().await;
    let port = machine.agent.port("echo").await;
    let foreign = "origin: https://evil.example\r\nsec-fetch-site: cross-site\r\nsec-fetch-mode: no-cors\r\n";
    let body = "content-length: 8\r\n\r\nFLUSHALL";
    let long = "A".repeat(80_000);
    for (what, pieces) in [
        ("at once", vec![format!("POST / HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n{foreign}{body}")]),
        ("in two pieces", vec!["POST / HT".into(), format!("TP/1.1\r\nhost: 127.0.0.1:{port}\r\n{foreign}{body}")]),
        ("with a long path", vec![format!("POST /{long} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n{foreign}{body}")]),
        ("by a rebound name", vec![format!("POST / HTTP/1.1\r\nhost: evil.example:{port}\r\n{body}")]),
        (
            "as a web socket",
            vec![format!("GET / HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n{foreign}upgrade: websocket\r\n\r\n")],
        ),
    ] {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let _ = socket.set_nodelay(true);
        for piece in pieces {
            let _ = socket.write_all(piece.as_bytes()).await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let _ = socket.shutdown().await;
        let mut answer = Vec::new();
        let _ = within(SHORT, "the connection ends", socket.read_to_end(&mut answer)).await;
        let arrived = machine.echo.log().connections.concat();
        assert!(arrived.is_empty(), "{what}: {} bytes arrived", arrived.len());
    }
    // What is no web page is served, also when its first bytes look like a word or come in pieces.
    for words in [&["PI", "NG\r\n"][..], &["\u{0}\u{1}binary"], &["GET key\r\n"]] {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        for word in words {
            socket.write_all(word.as_bytes()).await.unwrap();
        }
        let mut back = vec![0; words.concat().len()];
        within(SHORT, "an echo", socket.read_exact(&mut back)).await.unwrap();
        assert_eq!(back, words.concat().as_bytes());
    }
}

/// A17: whatever a hostile relay answers, the agent runs nothing, writes nothing but its own state, stays small, and
/// says in plain characters what is wrong.
#[tokio::test]
async fn a17_hostile_relays_and_providers_are_survived() {
    let world = World::new();
    let agent = Agent::start(&world, "agent", None).await;
    let touched = world.path("touched");
    let inject = format!("$(touch {0})`touch {0}`;touch {0}|touch {0}", touched.display());
    let hostile = format!("\u{1b}]0;owned\u{7}\u{1b}[2J\r\n../../../../tmp/x{inject}");
    let honest = object!({
        "version": 1, "issuer": "https://127.0.0.1:1", "organisation": "Evil", "trust_domain": "corp.example",
        "relay": {"quic": "127.0.0.1:1", "server_name": "postern.relay", "ca_pem": "x"},
        "sign_in": {"issuer": "http://127.0.0.1:1", "client_id": "postern", "scopes": ["openid"]},
    });
    let with = |pointer: &str, value: Value| {
        let mut document = honest.clone();
        *document.pointer_mut(pointer).unwrap() = value;
        document.to_string().into_bytes()
    };
    let documents = [
        ("nothing", Vec::new()),
        ("no JSON", b"<html>\x1b[2Jhello</html>".to_vec()),
        ("256 MB", vec![b' '; 256 * 1024 * 1024]),
        ("deep JSON", "[".repeat(1_000_000).into_bytes()),
        ("another version", with("/version", object!(999))),
        ("a hostile organisation", with("/organisation", object!(hostile))),
        ("a hostile issuer", with("/issuer", object!("file:///etc/passwd"))),
        ("a hostile endpoint", with("/relay/quic", object!(hostile))),
        ("an endpoint that is an option", with("/relay/quic", object!("--help"))),
        ("a hostile server name", with("/relay/server_name", object!(hostile))),
        ("a hostile authority", with("/relay/ca_pem", object!(hostile))),
        ("a provider that is a file", with("/sign_in/issuer", object!("file:///etc/passwd"))),
        ("a provider in the clear", with("/sign_in/issuer", object!("http://evil.example"))),
        ("a hostile client", with("/sign_in/client_id", object!(hostile))),
        ("a hostile trust domain", with("/trust_domain", object!(hostile))),
        ("ten thousand scopes", with("/sign_in/scopes", object!(vec![hostile.clone(); 10_000]))),
    ];
    for (what, document) in documents {
        let document = bytes::Bytes::from(document);
        let (config, authority) = server_tls();
        let relay = Server::https(config, move |_| reply(200, "application/json", document.clone())).await;
        let ca = world.file("hostile-ca.pem", authority);
        let address = relay.address.to_string();
        let output =
            agent.run(&["login", &address, "--no-browser", "--memory-only", "--ca", ca.to_str().unwrap()]).await;
        survives(&world, &agent, what, &output, &touched);
    }
    // A relay that is honest, with a provider that is not.
    let (relay, provider) = (StandIn::start().await, touched);
    let site = Relay::start(&world, Settings::new(&relay.issuer)).await;
    let twists: [(&str, &str, Vec<u8>); 6] = [
        ("huge metadata", "/.well-known/openid-configuration", vec![b' '; 64 * 1024 * 1024]),
        ("no metadata", "/.well-known/openid-configuration", b"<html>".to_vec()),
        ("deep metadata", "/.well-known/openid-configuration", "[".repeat(500_000).into_bytes()),
        ("a huge token", "/token", vec![b'x'; 64 * 1024 * 1024]),
        (
            "a hostile error",
            "/token",
            object!({"error": hostile, "error_description": hostile}).to_string().into_bytes(),
        ),
        ("no keys", "/jwks", b"{}".to_vec()),
    ];
    for (what, path, body) in twists {
        let body = bytes::Bytes::from(body);
        relay.twist(move |asked| (asked.path() == path).then(|| reply(200, "application/json", body.clone())));
        survives(&world, &agent, what, &sign_in(&agent, &site).await, &provider);
    }
    let escape = object!({"id_token": "x.y.z", "access_token": "\u{1b}[2J", "token_type": "\u{1b}[2J"});
    relay.twist(move |asked| (asked.path() == "/token").then(|| json(&escape)));
    survives(&world, &agent, "tokens that are none", &sign_in(&agent, &site).await, &provider);
}

/// A sign-in, as far as it goes.
async fn sign_in(agent: &Agent, relay: &Relay) -> Output {
    let mut login = agent.login_begun(relay, &["--memory-only"]);
    let url = eventually("an address is shown, or the end", async || {
        let shown = login.stdout().lines().next().map(str::to_owned);
        (shown.is_some() || login.ended().is_some()).then_some(shown)
    })
    .await;
    if let Some(url) = url {
        Browser::of("mallory").sign_in(&url).await;
    }
    login.output().await
}

#[track_caller]
fn survives(world: &World, agent: &Agent, what: &str, output: &Output, touched: &Path) {
    assert_eq!(output.code, 1, "{what}: {output:?}");
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(said.contains("code: "), "{what} gives no code: {said}");
    assert!(said.len() < 20_000, "{what}: {} bytes of output", said.len());
    assert!(!said.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{what}: {said:?}");
    assert!(!touched.exists(), "{what} ran a command");
    for (name, log) in world.all_logs() {
        assert!(!log.contains("panicked"), "{what}: {name}: {log}");
        assert!(!log.contains(['\u{1b}', '\u{7}']), "{what}: {name} holds control characters");
    }
    let peak = peak_memory(agent.id());
    assert!(peak < 128 * 1024, "{what}: the agent took {peak} KiB");
}

/// A20: without a keyring there is a plain answer; with the user's consent a session in memory; on disk, nothing ever.
#[tokio::test]
async fn a20_without_a_keyring_secrets_stay_in_memory_and_only_by_consent() {
    let world = World::new();
    let provider = StandIn::start().await;
    let wiki = Upstream::plain().await;
    let relay = Relay::start(&world, Settings::new(&provider.issuer).app(App::http("wiki", wiki.address))).await;
    let mut agent = Agent::start(&world, "agent", None).await;
    let refused = agent.login_begun(&relay, &[]).output().await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("keyring_unavailable") && refused.stderr.contains("--memory-only"), "{refused:?}");
    assert_eq!(provider.authorizations(), 0, "nobody is sent to sign in for a session that cannot be kept");

    agent.login_with(&relay, &mut Browser::of("mallory"), &["--memory-only"]).await.ok();
    assert_eq!(agent.get("wiki", "/").await.status, 200);
    assert_eq!(agent.status().await["device"]["key_storage"], "memory");
    for directory in [&agent.state, &world.path("home"), &world.path("run"), &world.logs()] {
        assert_eq!(secrets::find(directory, &[]), [""; 0]);
    }
    agent.stop().await;
    agent.run_again().await;
    assert_eq!(agent.status().await["state"], "signed_out", "memory ends with the process");
}

/// A20: a keyring that is locked, with nobody to unlock it, is told apart, and leaves nothing on disk.
#[tokio::test]
async fn a20_a_locked_keyring_is_an_answer_not_a_plain_file() {
    let world = World::new();
    let provider = StandIn::start().await;
    let relay = Relay::start(&world, Settings::new(&provider.issuer)).await;
    let keyring = Keyring::locked(&world).await;
    let agent = Agent::start(&world, "agent", Some(&keyring)).await;
    let refused = agent.login_begun(&relay, &[]).output().await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("keyring_locked") && refused.stderr.contains("--memory-only"), "{refused:?}");
    assert_eq!(secrets::find(&agent.state, &[]), [""; 0]);
    agent.login_with(&relay, &mut Browser::of("mallory"), &["--memory-only"]).await.ok();
    assert_eq!(secrets::find(&agent.state, &[]), [""; 0]);
}

/// The most memory a process ever had, in KiB.
fn peak_memory(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A server certificate for 127.0.0.1 and the authority behind it.
fn server_tls() -> (rustls::ServerConfig, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(params, authority_key);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = postern_tests::device::private_key(&key);
    let config = builder.with_no_client_auth().with_single_cert(vec![leaf.into()], key).unwrap();
    (config, authority.pem())
}
