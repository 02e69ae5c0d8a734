//! The local API over a real socket, called by the real client, in front of a mock relay.

mod socket;

use super::*;
use crate::activity::Asked;
use crate::config::Config;
use crate::mock_relay::{MockRelay, access, echo, entry, on_stream, refusal};
use crate::state_dir::StateDir;
use crate::testing::{is_private, set_mode, stranger};
use crate::uplink::Uplink;
use postern_client::user::User;
use postern_client::{AppConnection, Client, Lines, channel};
use postern_protocol::Timestamp;
use postern_protocol::control::AppKind;
use postern_protocol::local::{
    ActivityEntry, ActivityKind, AppTraffic, Check, CheckResult, DenialKind, State as AgentState,
};
use postern_protocol::{DecisionId, headers as names};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An agent whose engine rests while the test writes the uplink.
struct Running {
    dir: TempDir,
    client: Client,
    uplink: Arc<Uplink>,
    log: RecentLog,
    http_port: u16,
    examining: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Running {
    async fn start(uplink: Arc<Uplink>) -> Self {
        Self::start_for(User::own(), uplink).await
    }

    async fn start_for(user: User, uplink: Arc<Uplink>) -> Self {
        let dir = TempDir::new().unwrap();
        set_mode(dir.path(), 0o700);
        let state = Arc::new(StateDir::open(dir.path()).unwrap());
        let config = Config { keyring: false, ..Config::default() };
        let socket = LocalSocket::bind_for(&state.socket(), user).unwrap();
        let resting = Engine::start(config.clone(), state.clone(), Uplink::new()).await.unwrap();
        let access = access(uplink.clone());
        let listeners = Listeners::open(state, &config, access.clone()).unwrap();
        let (stop, http_port) = (CancellationToken::new(), listeners.http_port());
        let log = RecentLog::default();
        let api = LocalApi::new(resting, listeners, access, stop.clone()).with_log(log.clone());
        let examining = Arc::clone(&api.examining);
        tokio::spawn(api.serve(socket));
        Self { client: Client::new(dir.path()), dir, uplink, log, http_port, examining, stop }
    }

    /// The status line and the body of the answer to a raw request.
    async fn raw(&self, request: &str) -> String {
        let mut stream = channel::open(&self.dir.path().join(local::SOCKET_NAME)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// The answer of the port of HTTP apps.
    async fn http(&self, app: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http_port)).await.unwrap();
        let host = format!("{app}.localhost:{}", self.http_port);
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
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

/// The next event that is not about how much is used.
async fn next(events: &mut Lines<LocalEvent>) -> Option<LocalEvent> {
    loop {
        match events.next().await.unwrap() {
            Some(LocalEvent::Activity { .. } | LocalEvent::Traffic { .. }) => {}
            other => return other,
        }
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
    assert!(is_private(&agent.dir.path().join(local::SOCKET_NAME)));
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

#[tokio::test]
async fn the_doctor_sees_one_at_a_time() {
    let agent = Running::start(Uplink::new()).await;
    let mut findings = agent.client.doctor().await.unwrap();
    let mut checks = Vec::new();
    while let Some(finding) = findings.next().await.unwrap() {
        checks.push((finding.check, finding.result));
    }
    assert_eq!(checks.iter().map(|(check, _)| *check).collect::<Vec<_>>(), Check::ALL);
    let ok = |check| checks.contains(&(check, CheckResult::Ok));
    assert!(ok(Check::Agent) && ok(Check::Listeners), "{checks:?}");
    let permit = Arc::clone(&agent.examining).acquire_owned().await.unwrap();
    assert_eq!(agent.client.doctor().await.err().unwrap().code, Code::RateLimited);
    assert_eq!(agent.client.bundle().await.err().unwrap().code, Code::RateLimited);
    drop(permit);
    let document: serde_json::Value = serde_json::from_slice(&agent.client.bundle().await.unwrap()).unwrap();
    assert_eq!(document["findings"].as_array().unwrap().len(), Check::ALL.len());
    assert_eq!(document["status"]["state"], "signed_out");
    assert!(document["log"].is_array() && document["refusals"].is_array());
    assert!(document["settings"]["http_port"].as_u64().unwrap() > 0, "the ports in use: {document}");
}

/// A15: another user's call. The agent expects a user who is not the one that calls.
#[tokio::test]
async fn a15_another_user_is_refused_by_peer_credential() {
    let agent = Running::start_for(stranger(), Uplink::new()).await;
    for call in [
        "GET /v1/status",
        "POST /v1/login",
        "DELETE /v1/login",
        "POST /v1/logout",
        "POST /v1/stop",
        "GET /v1/events",
        "GET /v1/activity",
        "GET /v1/settings",
        "PUT /v1/settings",
    ] {
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
    let put = |path: &str, body: &str| post(path, body).replacen("POST", "PUT", 1);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n");
    let large = "x".repeat(MAX_CONTROL_BYTES + 1);
    for (request, code) in [
        (get("/"), Code::NotFound),
        (get("/v1/nothing"), Code::NotFound),
        (get("/v1/login"), Code::MethodNotAllowed),
        (get("/v1/stop"), Code::MethodNotAllowed),
        (post("/v1/status", ""), Code::MethodNotAllowed),
        (post("/v1/logs", ""), Code::MethodNotAllowed),
        (get("/v1/doctor"), Code::MethodNotAllowed),
        (get("/v1/bundle"), Code::MethodNotAllowed),
        (post("/v1/doctor/clock", ""), Code::NotFound),
        (post("/v1/bundle/x", "{}"), Code::NotFound),
        (get("/v1/logs/x"), Code::NotFound),
        (get("/v1/login").replace("GET", "PUT"), Code::MethodNotAllowed),
        (post("/v1/activity", ""), Code::MethodNotAllowed),
        (post("/v1/settings", "{}"), Code::MethodNotAllowed),
        (put("/v1/settings", ""), Code::RequestInvalid),
        (put("/v1/settings", "[0,{}]"), Code::RequestInvalid),
        (put("/v1/settings", "{\"http_port\":0}"), Code::RequestInvalid),
        (put("/v1/settings", "{\"http_port\":0,\"ports\":{},\"more\":1}"), Code::RequestInvalid),
        (put("/v1/settings", "{\"http_port\":65536,\"ports\":{}}"), Code::RequestInvalid),
        (put("/v1/settings", "{\"http_port\":80,\"ports\":{}}"), Code::RequestInvalid),
        (put("/v1/settings", "{\"http_port\":0,\"ports\":{\"Not An App\":7000}}"), Code::RequestInvalid),
        (put("/v1/settings", "{\"http_port\":0,\"ports\":{\"a\":7000,\"b\":7000}}"), Code::RequestInvalid),
        (put("/v1/settings", "{\"http_port\":0,\"ports\":{\"a\":0}}"), Code::RequestInvalid),
        (put("/v1/settings", &large), Code::BodyTooLarge),
        (post("/v1/login", ""), Code::RequestInvalid),
        (post("/v1/login", "{\"renew\":1}"), Code::RequestInvalid),
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

#[cfg_attr(windows, ignore = "a pipe has no half-close")]
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
    assert_eq!(events.next().await.unwrap(), Some(LocalEvent::Traffic { apps: vec![] }));
    agent.uplink.set_apps(vec![entry("wiki", AppKind::Http)]);
    assert!(matches!(next(&mut events).await, Some(LocalEvent::Apps { apps }) if apps.len() == 1));
    let told = Problem::new(Code::PolicyDenied).advice(Some("because".into()), None);
    agent.uplink.denied(DenialKind::Request, db(), told.clone());
    let Some(LocalEvent::Denied { app, problem, at, kind, .. }) = next(&mut events).await else { panic!("denied") };
    assert_eq!((&app, &*problem, kind), (&db(), &told, DenialKind::Request));
    let until = Timestamp::from_seconds(7);
    agent.uplink.held(db(), Problem::new(Code::TokenExpired), until);
    let Some(LocalEvent::Held { problem, until: told, .. }) = next(&mut events).await else { panic!("held") };
    assert_eq!((problem.code, told), (Code::TokenExpired, until));
    agent.uplink.resumed(db());
    assert_eq!(next(&mut events).await, Some(LocalEvent::Resumed { app: db() }));
    let kept = agent.client.denials().await.unwrap().denials;
    let kinds: Vec<_> = kept.iter().map(|denial| denial.kind).collect();
    assert_eq!(kinds, [DenialKind::Held, DenialKind::Request], "the newest first");
    assert_eq!((kept[1].at, &kept[1].app), (at, &db()));
    agent.stop.cancel();
    assert_eq!(next(&mut events).await, None);
}

/// The next entries and the next use told; both come within their pace.
async fn told(events: &mut Lines<LocalEvent>) -> (Vec<ActivityEntry>, Vec<AppTraffic>) {
    let (mut entries, mut apps) = (Vec::new(), Vec::new());
    while entries.is_empty() || apps.is_empty() {
        match events.next().await.unwrap() {
            Some(LocalEvent::Activity { entries: new }) => entries.extend(new),
            Some(LocalEvent::Traffic { apps: new }) => apps.extend(new),
            Some(_) => {}
            None => panic!("events ended"),
        }
    }
    (entries, apps)
}

/// What was allowed and what was refused are both told, each with the decision that the relay named, and what lives is
/// counted.
#[cfg_attr(windows, ignore = "a pipe has no half-close")]
#[tokio::test]
async fn activity_and_use_are_told_as_they_happen() {
    let decision = DecisionId::new(Timestamp::from_seconds(1), 7);
    let (open, closed) = (decision.clone(), decision.clone());
    let relay = MockRelay::start(move |request| {
        let (open, closed) = (open.clone(), closed.clone());
        async move {
            let vault = request.headers().get("host").is_some_and(|host| host == "vault");
            let mut answer = match request.method().as_str() {
                "CONNECT" => echo(request),
                _ if vault => return refusal(&Problem::new(Code::PolicyDenied).decision(closed)),
                _ => http::Response::new(crate::link::full("hello")),
            };
            answer.headers_mut().insert(names::DECISION, open.as_str().parse().unwrap());
            answer
        }
    });
    let agent = Running::start(relay.uplink("t").await).await;
    agent.uplink.set_apps(vec![entry("db", AppKind::Tcp), entry("wiki", AppKind::Http), entry("vault", AppKind::Http)]);
    let mut events = agent.client.events().await.unwrap();
    while !matches!(events.next().await.unwrap(), Some(LocalEvent::Traffic { .. })) {}

    let AppConnection { mut bytes, .. } = agent.client.connect(&db()).await.unwrap();
    let (entries, apps) = told(&mut events).await;
    assert_eq!((entries[0].kind, &entries[0].decision), (ActivityKind::Stream, &Some(decision.clone())));
    let used = apps.iter().rfind(|used| used.app == db()).unwrap();
    assert_eq!(used.streams, 1, "{apps:?}");
    bytes.shutdown().await.unwrap();
    bytes.read_to_end(&mut Vec::new()).await.unwrap();
    loop {
        if let Some(LocalEvent::Traffic { apps }) = events.next().await.unwrap() {
            assert!(apps[0].latency_ms.is_some() && apps[0].last_used.is_some(), "{apps:?}");
            if apps[0].streams == 0 {
                break;
            }
        }
    }

    let answer = agent.http("wiki", "/page?token=secret").await;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("postern-"), "{answer}");
    assert!(agent.http("vault", "/gold").await.contains(decision.as_str()));
    let kept = agent.client.activity().await.unwrap().entries;
    let [refused, allowed, _] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!(
        (refused.path.as_deref(), refused.status, &refused.decision),
        (Some("/gold"), None, &Some(decision.clone()))
    );
    assert_eq!(refused.problem.as_ref().unwrap().code, Code::PolicyDenied);
    assert_eq!((allowed.method.as_deref(), allowed.path.as_deref()), (Some("GET"), Some("/page")), "without the query");
    assert_eq!((allowed.status, &allowed.decision, &allowed.problem), (Some(200), &Some(decision), &None));
    assert_eq!(kept.iter().map(|entry| entry.number).collect::<Vec<_>>(), [3, 2, 1]);
}

/// Many requests make few events, and a reader is told the newest of them.
#[tokio::test]
async fn activity_is_told_at_its_own_pace() {
    let relay = MockRelay::start(|_| async { http::Response::new(crate::link::full("hello")) });
    let agent = Running::start(relay.uplink("t").await).await;
    let mut events = agent.client.events().await.unwrap();
    while !matches!(events.next().await.unwrap(), Some(LocalEvent::Traffic { .. })) {}
    let began = std::time::Instant::now();
    let wiki: AppName = "wiki".parse().unwrap();
    for _ in 0..400 {
        let asked = Asked::request(&http::Request::get("/").body(()).unwrap());
        agent.uplink.activity().allowed(&wiki, asked, Some(200), None);
    }
    let (mut newest, mut counts) = (0, Vec::new());
    while newest < 400 {
        if let Some(LocalEvent::Activity { entries }) = events.next().await.unwrap() {
            assert!(entries[0].number > newest, "the newest first, and none twice");
            (newest, _) = (entries[0].number, counts.push(entries.len()));
        }
    }
    assert!(counts.iter().all(|count| *count <= 100), "{counts:?}");
    let most = 2 + began.elapsed().as_millis() / 250;
    assert!(counts.len() as u128 <= most, "{counts:?}");
}

/// Set by the desktop, told to everybody who follows, and kept from others on this machine.
#[tokio::test]
async fn settings_are_told_set_and_taken_at_once() {
    let agent = Running::start(Uplink::new()).await;
    agent.uplink.set_apps(vec![entry("wiki", AppKind::Http)]);
    let mut events = agent.client.events().await.unwrap();
    while !matches!(events.next().await.unwrap(), Some(LocalEvent::Apps { apps }) if apps.len() == 1) {}
    assert_eq!(agent.client.settings().await.unwrap(), Settings::default());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let wanted = Settings { http_port: free, ..Settings::default() };
    assert_eq!(agent.client.set_settings(&wanted).await.unwrap(), wanted);
    let Some(LocalEvent::Apps { apps }) = next(&mut events).await else { panic!("the apps moved") };
    assert_eq!(apps[0].local, format!("http://wiki.localhost:{free}/"));
    assert_eq!(agent.client.settings().await.unwrap(), wanted);
    assert!(is_private(&agent.dir.path().join("settings.json")));
}
