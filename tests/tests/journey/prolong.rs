//! What the desktop does for a person who signs in: give it up, or sign in again in time; and what it shows of the day.

use crate::desk::{Desk, parameter};
use postern_tests::process::Process;
use postern_tests::{App, Browser, Upstream, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The vault and the safe stay closed.
async fn desk() -> Desk {
    Desk::new(true, json!({}), |settings| settings).await
}

/// Gives up what waits; whoever asked for it is told, and nobody listens for the browser any more.
async fn give_up(desk: &Desk, mut login: Process, url: &str) {
    let redirect: url::Url = parameter(url, "redirect_uri").unwrap().parse().unwrap();
    let port = redirect.port().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_ok());
    assert_eq!(desk.agent.local("DELETE", "/v1/login").await.0, 204);
    let output = login.output().await;
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("sign_in_cancelled"), "{output:?}");
    eventually("nobody listens", async || TcpStream::connect(("127.0.0.1", port)).await.err()).await;
}

async fn echo(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, bytes);
}

/// A sign-in is given up and done after all; to prolong the session is given up, which costs nothing, and done: it is one
/// session, whose stream lives on.
#[tokio::test]
async fn a_sign_in_is_given_up_and_a_session_prolonged_in_time() {
    let desk =
        Desk::new(true, json!({}), |settings| settings.policy("@id(\"all\")\npermit(principal, action, resource);"))
            .await;
    let mut login = desk.agent.login_begun(&desk.relay, &["--memory-only"]);
    let url = login.first_line().await;
    assert_eq!(desk.agent.status().await["state"], "signing_in");
    give_up(&desk, login, &url).await;
    let status = desk.agent.status().await;
    assert_eq!((&status["state"], &status["problem"]), (&"signed_out".into(), &Value::Null), "{status}");

    desk.sign_in(&mut Browser::of("ada")).await;
    let first = desk.agent.status().await;
    assert_eq!((&first["carrier"], &first["session"]["ends"]), (&"quic".into(), &Value::Null), "{first}");
    let mut stream = TcpStream::connect(("127.0.0.1", desk.agent.port("safe").await)).await.unwrap();
    echo(&mut stream, b"before").await;

    let mut login = desk.agent.login_begun(&desk.relay, &["--renew"]);
    let url = login.first_line().await;
    assert_eq!(parameter(&url, "max_age").as_deref(), Some("0"), "{url}");
    give_up(&desk, login, &url).await;
    let status = desk.agent.status().await;
    assert_eq!((&status["state"], &status["session"]), (&"online".into(), &first["session"]));
    // By the clock of the provider, which tells seconds.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    desk.agent.login_with(&desk.relay, &mut Browser::of("ada"), &["--renew"]).await.ok();
    let status = desk.agent.status().await;
    assert_eq!(status["session"]["id"], first["session"]["id"]);
    let signed_in = |status: &Value| status["session"]["signed_in"].as_u64().unwrap();
    assert!(signed_in(&status) > signed_in(&first), "{status}");
    echo(&mut stream, b"after").await;
}

/// The relay wants people to sign in afresh: status tells when; who does so in time loses nothing; who does not is asked for it,
/// and goes on in the same session.
#[tokio::test]
async fn a_session_lasts_as_long_as_the_relay_lets_it() {
    let policy = "@id(\"all\")\npermit(principal, action, resource);";
    let upstream = Upstream::echo().await;
    let held = App::tcp("db", upstream.address).held("5m");
    let desk =
        Desk::new(true, json!({}), |settings| settings.policy(policy).app(held).set("session", "max_age", "\"30s\""))
            .await;
    let mut login = desk.agent.login_begun(&desk.relay, &["--memory-only"]);
    let url = login.first_line().await;
    assert_eq!(parameter(&url, "max_age").as_deref(), Some("30"), "{url}");
    Browser::of("ada").sign_in(&url).await;
    login.output().await.ok();
    let first = desk.agent.reaches("online").await;
    let ends = |status: &Value| status["session"]["ends"].as_u64().unwrap();
    let left = ends(&first).saturating_sub(first["session"]["signed_in"].as_u64().unwrap());
    assert!((20_000..=32_000).contains(&left), "{first}");
    let mut stream = TcpStream::connect(("127.0.0.1", desk.agent.port("db").await)).await.unwrap();
    echo(&mut stream, b"before").await;

    // Longer than an answer may be under way, by which the end is told.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    desk.agent.login_with(&desk.relay, &mut Browser::of("ada"), &["--renew"]).await.ok();
    let status = desk.agent.status().await;
    assert_eq!(status["session"]["id"], first["session"]["id"]);
    assert!(ends(&status) >= ends(&first) + 3_000, "{first} {status}");
    echo(&mut stream, b"after").await;

    let status = desk.agent.reaches("expired").await;
    assert_eq!(status["problem"]["code"], "step_up_required", "{status}");
    desk.agent.login_with(&desk.relay, &mut Browser::of("ada"), &[]).await.ok();
    assert_eq!(desk.agent.reaches("online").await["session"]["id"], first["session"]["id"]);
    echo(&mut stream, b"and on").await;
}

/// What went through and what did not, each with the decision that is in the relay's log.
#[tokio::test]
async fn the_days_activity_names_its_decisions() {
    let desk = desk().await;
    desk.sign_in(&mut Browser::of("ada")).await;
    assert_eq!(desk.agent.get("wiki", "/page?token=secret").await.status, 200);
    assert_eq!(desk.agent.get("vault", "/gold").await.refusal(), (403, "policy_denied"));
    let (status, activity) = desk.agent.local("GET", "/v1/activity").await;
    assert_eq!(status, 200);
    let entries = activity["entries"].as_array().unwrap();
    let [denied, allowed] = &entries[..] else { panic!("{activity}") };
    assert_eq!((&denied["path"], &denied["problem"]["code"]), (&"/gold".into(), &"policy_denied".into()));
    assert_eq!((&allowed["path"], &allowed["status"]), (&"/page".into(), &200.into()));
    for entry in entries {
        let record = desk.relay.audited("the decision", |record| record["decision"] == entry["decision"]).await;
        assert_eq!(record["app"], entry["app"]);
    }
}
