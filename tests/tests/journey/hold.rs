//! Hold, don't drop: a stream whose user has to sign in afresh stands still, loses nothing, and goes on where it was.

use crate::desk::{Desk, parameter};
use postern_protocol::Timestamp;
use postern_tests::wait::{SHORT, within};
use postern_tests::{App, Browser, eventually};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What is in the group wants a sign-in of the last fifteen seconds.
const POLICY: &str = r#"@id("all")
permit(principal, action, resource);

@id("fresh")
@reason("The database wants a sign-in of the last fifteen seconds.")
@max_age("15")
forbid(principal, action, resource in AppGroup::"vault") unless { context has auth_age && context.auth_age < 15 };
"#;

/// A quarter of a megabyte, different everywhere.
fn pattern(seed: u32) -> Vec<u8> {
    (0..64 * 1024_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).wrapping_add(seed).to_be_bytes()).collect()
}

/// Two ends of one stream to `db`.
struct Line {
    client: TcpStream,
    app: TcpStream,
}

impl Line {
    /// Opens one, and sees that it carries bytes both ways.
    async fn open(desk: &Desk, listener: &TcpListener) -> Self {
        let client = TcpStream::connect(("127.0.0.1", desk.agent.port("db").await)).await.unwrap();
        let (app, _) = within(SHORT, "the app is called", listener.accept()).await.unwrap();
        let mut line = Self { client, app };
        line.talks().await;
        line
    }

    async fn talks(&mut self) {
        let (mut there, mut back) = ([0; 5], [0; 6]);
        self.client.write_all(b"hello").await.unwrap();
        within(SHORT, "the app is greeted", self.app.read_exact(&mut there)).await.unwrap();
        self.app.write_all(b"answer").await.unwrap();
        within(SHORT, "the client is answered", self.client.read_exact(&mut back)).await.unwrap();
        assert_eq!((&there, &back), (b"hello", b"answer"));
    }
}

/// Nothing arrives at either end, although others' bytes do over the same connection.
async fn is_still(desk: &Desk, app: &mut (impl AsyncRead + Unpin), client: &mut (impl AsyncRead + Unpin)) {
    for _ in 0..3 {
        assert_eq!(desk.agent.get("wiki", "/").await.status, 200, "the connection carries what is not held");
    }
    let (mut there, mut back) = ([0; 1], [0; 1]);
    let quiet = Duration::from_millis(500);
    let (app, client) = tokio::join!(
        tokio::time::timeout(quiet, app.read(&mut there)),
        tokio::time::timeout(quiet, client.read(&mut back)),
    );
    assert!(app.is_err() && client.is_err(), "to the app {app:?}, to the client {client:?}");
}

/// A desk where every ID token says when the person signed in, and a database behind it that holds for so long.
async fn desk(hold_for: &'static str) -> (Desk, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let db = App::tcp("db", listener.local_addr().unwrap()).denied().held(hold_for);
    let desk = Desk::new(true, json!({ "authTime": true }), |settings| settings.policy(POLICY).app(db)).await;
    desk.sign_in(&mut Browser::of("ada")).await;
    (desk, listener)
}

fn is(event: &'static str, app: &'static str) -> impl Fn(&Value) -> bool {
    move |record| record["event"] == event && record["app"] == app
}

/// Once the sign-in is too old the stream stands still, and one of an app that does not hold is cut. What both ends write
/// meanwhile arrives whole and in order when the person has signed in on the page that opened by itself.
#[tokio::test]
async fn a_held_stream_goes_on_where_it_was_after_a_fresh_sign_in() {
    let (desk, listener) = desk("2m").await;
    let mut line = Line::open(&desk, &listener).await;
    let mut cut = TcpStream::connect(("127.0.0.1", desk.agent.port("safe").await)).await.unwrap();
    cut.write_all(b"one").await.unwrap();
    within(SHORT, "an echo", cut.read_exact(&mut [0; 3])).await.unwrap();

    let held = desk.relay.audited("the hold", is("stream_held", "db")).await;
    assert_eq!((&held["code"], &held["streams"]), (&json!("step_up_required"), &json!(1)), "{held}");
    let end = within(SHORT, "the other stream is cut", cut.read(&mut [0; 1])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    assert_eq!(desk.relay.audited("the cut", is("stream_cut", "safe")).await["code"], "step_up_required");
    let url = desk.opened(1).await;
    assert_eq!(parameter(&url, "max_age").as_deref(), Some("15"), "{url}");
    let why = desk.agent.run(&["why", held["decision"].as_str().unwrap(), "--json"]).await.ok().json();
    assert_eq!(
        (&why["kind"], &why["app"], &why["problem"]["step_up"]["max_age"]),
        (&json!("held"), &json!("db"), &json!(15))
    );

    let (up, down) = (pattern(1), pattern(2));
    let (mut at_app, mut at_client) = (vec![0; up.len()], vec![0; down.len()]);
    let ((mut client_in, mut client_out), (mut app_in, mut app_out)) = (line.client.split(), line.app.split());
    let writing = async { tokio::try_join!(client_out.write_all(&up), app_out.write_all(&down)).unwrap() };
    let reading = async {
        is_still(&desk, &mut app_in, &mut client_in).await;
        let page = Browser::of("ada").sign_in(&url).await;
        assert_eq!(page.reply.status, 200, "{page:?}");
        let whole = async { tokio::try_join!(app_in.read_exact(&mut at_app), client_in.read_exact(&mut at_client)) };
        within(SHORT, "all of it arrives", whole).await.unwrap();
    };
    tokio::join!(writing, reading);
    assert!(at_app == up && at_client == down, "every byte, in order");
    line.talks().await;
    let again = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(again.is_err(), "it is the same stream, and no second one was opened");
}

/// Nobody signs in: the stream is cut when its time is over, at both ends, and nothing of what was written meanwhile
/// has passed.
#[tokio::test]
async fn a_held_stream_is_cut_when_nobody_signs_in() {
    let (desk, listener) = desk("6s").await;
    let mut line = Line::open(&desk, &listener).await;
    let held = desk.relay.audited("the hold", is("stream_held", "db")).await;
    line.client.write_all(b"late").await.unwrap();
    line.app.write_all(b"late").await.unwrap();
    is_still(&desk, &mut line.app, &mut line.client).await;
    let (mut there, mut back) = ([0; 1], [0; 1]);
    let end = within(SHORT, "the app's socket ends", line.app.read(&mut there)).await;
    assert!(end.is_err(), "reset, so that the app does not take it for the end: {end:?}");
    let end = within(SHORT, "the client's socket ends", line.client.read(&mut back)).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    let cut = desk.relay.audited("the cut", is("stream_cut", "db")).await;
    assert_eq!(cut["code"], "step_up_required");
    let lived = milliseconds(&cut) - milliseconds(&held);
    assert!((6000..8000).contains(&lived), "held for {lived} ms");
    eventually("the agent remembers the cut", async || {
        let why = desk.agent.run(&["why", cut["decision"].as_str().unwrap(), "--json"]).await;
        (why.code == 0).then(|| assert_eq!(why.json()["kind"], "cut"))
    })
    .await;
}

fn milliseconds(record: &Value) -> u64 {
    Timestamp::parse(record["time"].as_str().unwrap()).unwrap().millis()
}
