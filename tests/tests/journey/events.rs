//! Security events in mid-stream (A52): what each kind does to the streams of whom it is about, a TCP stream and a stream
//! of server-sent events, and that it does nothing to those of others.

use crate::Office;
use http::Request;
use postern_tests::forge::{now, random};
use postern_tests::wait::{SHORT, within};
use postern_tests::{Agent, App, Browser, StandIn, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";

/// An office where somebody watches over accounts and devices, and two people with open streams.
struct Watched {
    ada: Streams,
    bob: Streams,
    ledger: TcpListener,
    transmitter: StandIn,
    bobs: Agent,
    office: Office,
    signed_in: u64,
}

/// The streams of one person.
struct Streams {
    database: Ends,
    news: Ends,
}

/// The two ends of a stream, both in the test's hands.
struct Ends {
    local: TcpStream,
    app: TcpStream,
}

impl Watched {
    async fn new() -> Self {
        let transmitter = StandIn::start().await;
        let listen = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (database, news, ledger) = (listen().await, listen().await, listen().await);
        let at = |listener: &TcpListener| listener.local_addr().unwrap();
        let office = Office::with(|settings| {
            let settings = settings.app(App::tcp("db", at(&database))).app(App::http("news", at(&news)));
            settings.app(App::tcp("ledger", at(&ledger)).held("2m")).transmitter(&transmitter.issuer)
        })
        .await;
        office.provider.account("bob", json!({"groups": ["staff"]})).await;
        office.sign_in().await;
        let signed_in = now();
        let bobs = Agent::start(&office.world, "bob", Some(&office.keyring)).await;
        bobs.login(&office.relay, &mut Browser::of("bob")).await;
        let open = async |agent: &Agent| Streams {
            database: Ends::tcp(agent, "db", &database).await,
            news: Ends::events(agent, &news).await,
        };
        let (ada, bob) = (open(&office.agent).await, open(&bobs).await);
        Self { ada, bob, ledger, transmitter, bobs, office, signed_in }
    }

    /// Pushes an event about the person or device that `about` names.
    async fn tell(&self, kind: &str, about: Value, event: Value) {
        let claims = json!({
            "iss": self.transmitter.issuer, "aud": "urn:relay", "jti": random(12), "iat": now(), "sub_id": about,
            "events": { format!("{CAEP}{kind}"): event },
        });
        let token = self.transmitter.key.sign(&json!({"typ": "secevent+jwt"}), &claims);
        let request = Request::post("/ssf/events").header("host", self.office.relay.public.to_string());
        let request = request.header("content-type", "application/secevent+jwt").body(token).unwrap();
        let reply = self.office.relay.public(request).await;
        assert_eq!(reply.status, 202, "{kind}: {}", reply.text());
    }

    fn user(&self) -> Value {
        let issuer = self.office.provider.issuer.as_str().trim_end_matches('/');
        json!({"format": "iss_sub", "iss": issuer, "sub": "ada"})
    }

    /// Ada's streams end at both ends, with a record that says why; Bob's go on.
    async fn only_adas_are_cut(&mut self, code: &str) {
        self.ada.database.cut().await;
        self.ada.news.broken_off().await;
        for app in ["db", "news"] {
            let cut = |record: &Value| record["event"] == "stream_cut" && record["app"] == app;
            let cut = self.office.relay.audited("the cut", cut).await;
            assert_eq!((&cut["code"], &cut["principal"]["subject"]), (&json!(code), &json!("ada")), "{cut}");
        }
        self.bob.go_on().await;
        assert_eq!(self.bobs.get("wiki", "/").await.status, 200);
    }
}

impl Streams {
    async fn go_on(&mut self) {
        self.database.talks().await;
        self.news.brings("data: more\n\n").await;
    }
}

impl Ends {
    async fn tcp(agent: &Agent, app: &str, listener: &TcpListener) -> Self {
        let local = TcpStream::connect(("127.0.0.1", agent.port(app).await)).await.unwrap();
        let (app, _) = within(SHORT, "the app is called", listener.accept()).await.unwrap();
        let mut ends = Self { local, app };
        ends.talks().await;
        ends
    }

    /// A request that is answered with events, of which the first has come.
    async fn events(agent: &Agent, listener: &TcpListener) -> Self {
        let mut local = TcpStream::connect(agent.http()).await.unwrap();
        let head = format!("GET / HTTP/1.1\r\nhost: {}\r\naccept: text/event-stream\r\n\r\n", agent.authority("news"));
        local.write_all(head.as_bytes()).await.unwrap();
        let (mut app, _) = within(SHORT, "the app is called", listener.accept()).await.unwrap();
        read_until(&mut app, "\r\n\r\n").await;
        app.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await
            .unwrap();
        let mut ends = Self { local, app };
        ends.brings("data: first\n\n").await;
        ends
    }

    async fn talks(&mut self) {
        let (mut there, mut back) = ([0; 5], [0; 6]);
        self.local.write_all(b"hello").await.unwrap();
        within(SHORT, "the app is greeted", self.app.read_exact(&mut there)).await.unwrap();
        self.app.write_all(b"answer").await.unwrap();
        within(SHORT, "the client is answered", self.local.read_exact(&mut back)).await.unwrap();
        assert_eq!((&there, &back), (b"hello", b"answer"));
    }

    async fn brings(&mut self, event: &str) {
        self.app.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await.unwrap();
        read_until(&mut self.local, event).await;
    }

    /// Both ends are reset, so that neither takes it for the end.
    async fn cut(&mut self) {
        let end = within(SHORT, "the client's socket ends", self.local.read(&mut [0; 1])).await;
        assert!(end.is_err(), "{end:?}");
        let end = within(SHORT, "the app's socket ends", self.app.read(&mut [0; 1])).await;
        assert!(end.is_err(), "{end:?}");
    }

    /// The answer ends without an end, and the app's connection is closed.
    async fn broken_off(&mut self) {
        let mut rest = Vec::new();
        let _reset_or_closed = within(SHORT, "the answer breaks off", self.local.read_to_end(&mut rest)).await;
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&rest));
        let end = within(SHORT, "the app's connection ends", self.app.read(&mut [0; 1])).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
}

async fn read_until(stream: &mut TcpStream, end: &str) {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(end) {
        let mut byte = [0];
        within(SHORT, end, stream.read_exact(&mut byte)).await.unwrap();
        text.extend(byte);
    }
}

/// A52: the sessions of the user end, and what lived in them.
#[tokio::test]
async fn a52_a_revoked_session_takes_its_streams_along() {
    let mut watched = Watched::new().await;
    watched.tell("session-revoked", watched.user(), json!({})).await;
    watched.only_adas_are_cut("session_revoked").await;
    let agent = &watched.office.agent;
    assert_eq!(agent.reaches("revoked").await["problem"]["code"], "session_revoked");
    assert_eq!(agent.get("wiki", "/").await.refusal(), (407, "session_revoked"));
    watched.office.sign_in().await;
    assert_eq!(agent.get("wiki", "/").await.status, 200, "she may sign in again");
}

/// A52: a credential that was taken away or changed does the same; one that was added takes nothing.
#[tokio::test]
async fn a52_a_changed_credential_ends_streams_and_a_new_one_does_not() {
    let mut watched = Watched::new().await;
    let credential = |change: &str| json!({"credential_type": "password", "change_type": change});
    watched.tell("credential-change", watched.user(), credential("create")).await;
    watched.ada.go_on().await;
    watched.tell("credential-change", watched.user(), credential("update")).await;
    watched.only_adas_are_cut("session_revoked").await;
    assert_eq!(watched.office.agent.reaches("revoked").await["problem"]["code"], "session_revoked");
}

/// A52: a device that is not compliant loses its streams and keeps its session, so that access returns with compliance.
#[tokio::test]
async fn a52_a_device_out_of_order_loses_its_streams_until_it_is_in_order() {
    let mut watched = Watched::new().await;
    let before = watched.office.agent.status().await;
    let device = json!({"format": "complex", "device": {"format": "opaque", "id": before["device"]["id"]}});
    let status = |from: &str, to: &str| json!({"previous_status": from, "current_status": to});
    watched.tell("device-compliance-change", device.clone(), status("compliant", "not-compliant")).await;
    let told = now();
    watched.only_adas_are_cut("device_not_compliant").await;
    let agent = &watched.office.agent;
    assert_eq!(agent.get("wiki", "/").await.refusal(), (403, "device_not_compliant"));
    assert_eq!(agent.status().await["state"], "online", "the session lives on");
    // Of two words of the same second the stricter counts.
    eventually("the next second", async || (now() > told).then_some(())).await;
    watched.tell("device-compliance-change", device, status("not-compliant", "compliant")).await;
    assert_eq!(agent.get("wiki", "/").await.status, 200);
    assert_eq!(agent.status().await["session"]["id"], before["session"]["id"]);
}

/// A52: when what a token says is no longer true, streams that rest on it are cut, but for one of an app that holds: it
/// goes on by itself with the token that the agent fetches at once, and so does all else, with what is true now.
#[tokio::test]
async fn a52_changed_claims_cut_streams_or_hold_them_until_the_agent_has_a_new_token() {
    let mut watched = Watched::new().await;
    let mut ledger = Ends::tcp(&watched.office.agent, "ledger", &watched.ledger).await;
    let session = watched.office.agent.status().await["session"]["id"].clone();
    let groups = json!({"groups": ["staff", "night-shift"]});
    watched.office.provider.account("ada", groups.clone()).await;
    // A token of the same second as the change could not be told from a newer one.
    eventually("the next second", async || (now() > watched.signed_in).then_some(())).await;
    watched.tell("token-claims-change", watched.user(), json!({"claims": groups})).await;
    watched.only_adas_are_cut("token_expired").await;
    let held = |record: &Value| record["event"] == "stream_held" && record["app"] == "ledger";
    assert_eq!(watched.office.relay.audited("the hold", held).await["code"], "token_expired");
    ledger.talks().await;
    let agent = &watched.office.agent;
    let status = agent.status().await;
    assert_eq!((&status["state"], &status["session"]["id"]), (&json!("online"), &session), "nobody had to sign in");
    assert!(status["principal"]["groups"].to_string().contains("night-shift"), "{status}");
    assert_eq!(agent.get("wiki", "/").await.status, 200);
}
