//! The local API over a real socket, called by the real client, in front of a mock relay.

use super::*;
use crate::config::Config;
use crate::mock_relay::{MockRelay, access, echo, entry, on_stream, refusal};
use crate::peer::Uid;
use crate::state_dir::StateDir;
use crate::uplink::Uplink;
use postern_client::{AppConnection, Client};
use postern_protocol::Timestamp;
use postern_protocol::control::AppKind;
use postern_protocol::local::{DenialKind, State as AgentState};
use std::os::unix::fs::PermissionsExt as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// An agent whose engine rests while the test writes the uplink.
struct Running {
    dir: TempDir,
    client: Client,
    uplink: Arc<Uplink>,
    log: RecentLog,
    stop: CancellationToken,
}

impl Running {
    async fn start(uplink: Arc<Uplink>) -> Self {
        Self::start_for(Uid::own(), uplink).await
    }

    async fn start_for(user: Uid, uplink: Arc<Uplink>) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let state = Arc::new(StateDir::open(dir.path()).unwrap());
        let config = Config { keyring: false, ..Config::default() };
        let socket = LocalSocket::bind_for(&state.socket(), user).unwrap();
        let resting = Engine::start(config.clone(), state.clone(), Uplink::new()).await.unwrap();
        let access = access(uplink.clone());
        let listeners = Listeners::open(state, &config, access.clone()).unwrap();
        let stop = CancellationToken::new();
        let log = RecentLog::default();
        let api = LocalApi::new(resting, listeners, access, stop.clone()).with_log(log.clone());
        tokio::spawn(api.serve(socket));
        Self { client: Client::new(dir.path()), dir, uplink, log, stop }
    }

    /// The status line and the body of the answer to a raw request.
    async fn raw(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.dir.path().join(local::SOCKET_NAME)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn refusal(&self, request: &str) -> Problem {
        let answer = self.raw(request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("application/problem+json"), "{answer}");
        serde_json::from_str(body).unwrap()
    }
}

fn db() -> AppName {
    "db".parse().unwrap()
}

#[tokio::test]
async fn status_and_apps_are_told() {
    let agent = Running::start(Uplink::new()).await;
    assert_eq!(agent.client.status().await.unwrap().state, AgentState::SignedOut);
    assert!(agent.client.apps().await.unwrap().apps.is_empty());
    let mode = std::fs::metadata(agent.dir.path().join(local::SOCKET_NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn the_log_is_told() {
    let agent = Running::start(Uplink::new()).await;
    assert!(agent.client.logs().await.unwrap().lines.is_empty());
    let subscriber = tracing_subscriber::layer::SubscriberExt::with(tracing_subscriber::registry(), agent.log.clone());
    tracing::subscriber::with_default(subscriber, || tracing::warn!(app = %db(), "asked"));
    let lines = agent.client.logs().await.unwrap().lines;
    assert_eq!(lines.len(), 1);
    assert!(lines[0].level == "warn" && lines[0].text.ends_with("asked app=db"), "{lines:?}");
}

/// A15: another user's call. The agent expects a user who is not the one that calls.
#[tokio::test]
async fn a15_another_user_is_refused_by_peer_credential() {
    let agent = Running::start_for(Uid(Uid::own().0 + 1), Uplink::new()).await;
    for call in ["GET /v1/status", "POST /v1/login", "POST /v1/logout", "GET /v1/events"] {
        let problem = agent.refusal(&format!("{call} HTTP/1.1\r\nhost: agent\r\n\r\n")).await;
        assert_eq!(problem.code, Code::PeerRefused);
    }
    assert_eq!(agent.client.status().await.err().unwrap().code, Code::PeerRefused);
}

#[tokio::test]
async fn every_bad_call_gets_a_problem() {
    let agent = Running::start(Uplink::new()).await;
    let post = |path: &str, body: &str| {
        let length = body.len();
        format!("POST {path} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n");
    let large = "x".repeat(MAX_CONTROL_BYTES + 1);
    for (request, code) in [
        (get("/"), Code::NotFound),
        (get("/v1/nothing"), Code::NotFound),
        (get("/v1/login"), Code::MethodNotAllowed),
        (post("/v1/status", ""), Code::MethodNotAllowed),
        (post("/v1/logs", ""), Code::MethodNotAllowed),
        (get("/v1/logs/x"), Code::NotFound),
        (post("/v1/login", ""), Code::RequestInvalid),
        (post("/v1/login", "[]"), Code::RequestInvalid),
        (post("/v1/login", "{} trailing"), Code::RequestInvalid),
        (post("/v1/login", &"[".repeat(60_000)), Code::RequestInvalid),
        (post("/v1/login", "{\"method\":\"telepathy\"}"), Code::RequestInvalid),
        (post("/v1/login", &large), Code::BodyTooLarge),
        (
            "POST /v1/login HTTP/1.1\r\nhost: agent\r\nconnection: close\r\ncontent-length: 1000000\r\n\r\n".into(),
            Code::BodyTooLarge,
        ),
        (post("/v1/connect/db", ""), Code::RequestInvalid),
        (post("/v1/connect/Not_An_App", ""), Code::RequestInvalid),
        (post("/v1/connect/%2e%2e", ""), Code::RequestInvalid),
        (get("/v1/connect/db/x"), Code::RequestInvalid),
        (get("/v1/connect/db/99"), Code::NotFound),
    ] {
        assert_eq!(agent.refusal(&request).await.code, code, "{}", request.lines().next().unwrap());
    }
}

#[tokio::test]
async fn a_stream_to_an_app_goes_both_ways_and_ends_in_order() {
    let relay = MockRelay::start(|request| async { echo(request) });
    let agent = Running::start(relay.uplink("t").await).await;
    agent.uplink.set_apps(vec![entry("db", AppKind::Tcp)]);
    let AppConnection { mut bytes, id } = agent.client.connect(&db()).await.unwrap();
    bytes.write_all(b"select 1").await.unwrap();
    bytes.shutdown().await.unwrap();
    let mut answer = String::new();
    bytes.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "select 1");
    assert_eq!(agent.client.cause_of_end(&id).await, None);
}

#[tokio::test]
async fn a_stream_that_was_cut_tells_why() {
    let relay = MockRelay::start(|request| async {
        on_stream(request, |held| async move {
            std::future::pending::<()>().await;
            drop(held);
        })
    });
    let agent = Running::start(relay.uplink("t").await).await;
    agent.uplink.set_apps(vec![entry("db", AppKind::Tcp)]);
    let AppConnection { mut bytes, id } = agent.client.connect(&db()).await.unwrap();
    relay.close(Code::SessionRevoked);
    // However the socket ends, the cause is known by then.
    let _ = bytes.read(&mut [0; 1]).await;
    assert_eq!(agent.client.cause_of_end(&id).await.unwrap().code, Code::SessionRevoked);
}

#[tokio::test]
async fn a_stream_that_cannot_be_is_a_problem() {
    let relay = MockRelay::start(|_| async { refusal(&Problem::new(Code::PolicyDenied)) });
    let agent = Running::start(relay.uplink("t").await).await;
    agent.uplink.set_apps(vec![entry("db", AppKind::Tcp), entry("wiki", AppKind::Http)]);
    for (app, code) in [("db", Code::PolicyDenied), ("wiki", Code::AppKindMismatch), ("crm", Code::AppUnknown)] {
        let problem = agent.client.connect(&app.parse().unwrap()).await.err().unwrap();
        assert_eq!(problem.code, code);
    }
    agent.uplink.set(None, Problem::new(Code::NotSignedIn));
    assert_eq!(agent.client.connect(&db()).await.err().unwrap().code, Code::NotSignedIn);
}

#[tokio::test]
async fn events_begin_with_the_state_and_end_with_the_agent() {
    let agent = Running::start(Uplink::new()).await;
    let mut events = agent.client.events().await.unwrap();
    assert!(matches!(events.next().await.unwrap(), Some(LocalEvent::Status { .. })));
    assert!(matches!(events.next().await.unwrap(), Some(LocalEvent::Apps { apps }) if apps.is_empty()));
    agent.uplink.set_apps(vec![entry("wiki", AppKind::Http)]);
    assert!(matches!(events.next().await.unwrap(), Some(LocalEvent::Apps { apps }) if apps.len() == 1));
    let told = Problem::new(Code::PolicyDenied).advice(Some("because".into()), None);
    agent.uplink.denied(DenialKind::Request, db(), told.clone());
    let Some(LocalEvent::Denied { app, problem, at, kind, .. }) = events.next().await.unwrap() else {
        panic!("denied")
    };
    assert_eq!((&app, &*problem, kind), (&db(), &told, DenialKind::Request));
    let until = Timestamp::from_seconds(7);
    agent.uplink.held(db(), Problem::new(Code::TokenExpired), until);
    let Some(LocalEvent::Held { problem, until: told, .. }) = events.next().await.unwrap() else { panic!("held") };
    assert_eq!((problem.code, told), (Code::TokenExpired, until));
    agent.uplink.resumed(db());
    assert_eq!(events.next().await.unwrap(), Some(LocalEvent::Resumed { app: db() }));
    let kept = agent.client.denials().await.unwrap().denials;
    let kinds: Vec<_> = kept.iter().map(|denial| denial.kind).collect();
    assert_eq!(kinds, [DenialKind::Held, DenialKind::Request], "the newest first");
    assert_eq!((kept[1].at, &kept[1].app), (at, &db()));
    agent.stop.cancel();
    assert_eq!(events.next().await.unwrap(), None);
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(local::SOCKET_NAME);
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(LocalSocket::bind_for(&path, Uid::own()).err().unwrap().code, Code::StateDir);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let long = dir.path().join("x".repeat(120));
    assert_eq!(LocalSocket::bind_for(&long, Uid::own()).err().unwrap().code, Code::StateDir);
}

#[tokio::test]
async fn nobody_at_the_socket_means_no_agent() {
    let dir = TempDir::new().unwrap();
    assert_eq!(Client::new(dir.path()).status().await.err().unwrap().code, Code::AgentNotRunning);
    let left_behind = std::os::unix::net::UnixListener::bind(dir.path().join(local::SOCKET_NAME)).unwrap();
    drop(left_behind);
    assert_eq!(Client::new(dir.path()).status().await.err().unwrap().code, Code::AgentNotRunning);
}
