//! The provider refuses to renew a sign-in: streams of apps that hold wait for the person, and go on in the same session.

use http::Request;
use postern_tests::client::http;
use postern_tests::{Agent, App, Browser, Provider, Relay, Settings, Upstream, World, eventually};
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A session with a stream to `db`, which holds, and one to `git`, which does not.
struct Session {
    db: TcpStream,
    git: TcpStream,
    id: Value,
    agent: Agent,
    relay: Relay,
    provider: Provider,
    _upstream: Upstream,
    _world: World,
}

impl Session {
    async fn open(hold_for: &'static str) -> Self {
        let world = World::new();
        let provider = Provider::start(&world).await;
        let upstream = Upstream::echo().await;
        let apps = [App::tcp("db", upstream.address).held(hold_for), App::tcp("git", upstream.address)];
        let settings = apps.into_iter().fold(Settings::new(&provider.issuer), Settings::app);
        // The provider's token is renewed every few seconds, and the session's lives as long as it.
        let settings = settings.set("provider", "token_max_age", "\"30s\"").set("session", "token_lifetime", "\"30s\"");
        let relay = Relay::start(&world, settings).await;
        let agent = Agent::start(&world, "agent", None).await;
        agent.login_with(&relay, &mut Browser::of("ada"), &["--memory-only"]).await.ok();
        let id = agent.status().await["session"]["id"].clone();
        let mut streams = Vec::new();
        for app in ["db", "git"] {
            let mut stream = TcpStream::connect(("127.0.0.1", agent.port(app).await)).await.unwrap();
            echo(&mut stream, b"before").await;
            streams.push(stream);
        }
        let (git, db) = (streams.pop().unwrap(), streams.pop().unwrap());
        Self { db, git, id, agent, relay, provider, _upstream: upstream, _world: world }
    }

    /// Ends the sign-in at the provider: the next refresh is refused.
    async fn end_sign_in(&self) {
        let token = self.provider.refresh_token("ada").await;
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs([("token", token.as_str()), ("client_id", "postern")]);
        let request = Request::post("/token/revocation").header("host", self.provider.issuer.authority());
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form.finish()).unwrap();
        assert_eq!(http(self.provider.address(), request).await.status, 200);
    }

    /// Waits until a record of this event is in the audit log.
    async fn audited(&self, event: &str) -> Value {
        self.relay.audited(event, |record| record["event"] == event && record["session"] == self.id).await
    }
}

async fn echo(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).await.unwrap();
    let mut got = vec![0; text.len()];
    within(stream.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, text);
}

async fn within<F: Future>(future: F) -> F::Output {
    postern_tests::wait::within(Duration::from_secs(60), "the stream moves", future).await
}

/// Same person, same device, same session, same stream.
#[tokio::test]
async fn a_held_stream_goes_on_after_a_real_sign_in() {
    let mut session = Session::open("5m").await;
    session.end_sign_in().await;
    let status = session.agent.reaches("expired").await;
    assert_eq!(status["problem"]["code"], "refresh_refused", "{status}");
    assert!(within(session.git.read(&mut [0])).await.is_err(), "an app that does not hold is cut at once");
    let record = session.audited("session_lapse").await;
    assert!(record["detail"].as_str().unwrap().contains("refresh_refused; streams cut: 1"), "{record}");
    session.db.write_all(b"during").await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(500), session.db.read_u8()).await;
    assert!(early.is_err(), "no byte passes: {early:?}");
    let why = eventually("hold and cut are told", async || {
        let why = session.agent.run(&["why", "--json"]).await.json();
        why["problem"]["decision"].is_string().then_some(why)
    })
    .await;
    assert!(why["problem"]["fix"].as_str().unwrap().contains("postern login"), "{why}");
    let shown = session.agent.run(&["status"]).await;
    assert!(shown.stdout.contains("sign in again"), "{shown:?}");

    let mut other = session.agent.login_begun(&session.relay, &[]);
    let page = Browser::of("eve").sign_in(&other.first_line().await).await;
    assert!(page.reply.text().contains("another user"), "nobody else goes on with it: {page:?}");
    assert_eq!(other.output().await.code, 1);
    session.agent.login_with(&session.relay, &mut Browser::of("ada"), &[]).await.ok();
    let status = session.agent.status().await;
    assert_eq!((&status["state"], &status["session"]["id"]), (&Value::from("online"), &session.id), "{status}");
    let mut late = [0; 6];
    within(session.db.read_exact(&mut late)).await.unwrap();
    assert_eq!(&late, b"during", "nothing is lost");
    echo(&mut session.db, b"after").await;
    // The new sign-in is renewed like the first.
    let refreshed = session.provider.counts().await["refresh"].as_u64().unwrap();
    eventually("a refresh", async || {
        (session.provider.counts().await["refresh"].as_u64().unwrap() > refreshed).then_some(())
    })
    .await;
    echo(&mut session.db, b"and on").await;
    let ended = session.relay.audit().into_iter().find(|record| record["event"] == "sign_out");
    assert_eq!(ended, None, "the session never ended");
}

/// Nobody signs in: the stream is cut, relay and agent end the session.
#[tokio::test]
async fn a_held_session_that_nobody_signs_in_to_ends() {
    let mut session = Session::open("5s").await;
    session.end_sign_in().await;
    session.audited("session_lapse").await;
    assert!(within(session.db.read(&mut [0])).await.is_err(), "cut in the end");
    let record = session.audited("sign_out").await;
    assert!(record["detail"].as_str().unwrap().contains("refresh_refused"), "{record}");
    let status = eventually("the agent lets go of the session", async || {
        let status = session.agent.status().await;
        status["session"].is_null().then_some(status)
    })
    .await;
    assert_eq!((&status["state"], &status["problem"]["code"]), (&"expired".into(), &"refresh_refused".into()));
    eventually("the cut is told", async || {
        let why = session.agent.run(&["why", "--json"]).await.json();
        (why["kind"] == "cut" && why["app"] == "db").then_some(())
    })
    .await;
    session.agent.login_with(&session.relay, &mut Browser::of("ada"), &["--memory-only"]).await.ok();
    let status = session.agent.status().await;
    assert_ne!(status["session"]["id"], session.id, "what comes after is another session");
}
