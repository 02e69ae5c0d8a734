//! Revocation: the next request is refused at once, and a new sign-in does what it should.

use crate::Office;
use postern_tests::wait::{SHORT, within};
use postern_tests::{Agent, Browser};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A revoked session ends; a new sign-in on the same device starts another.
#[tokio::test]
async fn a_revoked_session_is_refused_at_once_and_a_new_sign_in_helps() {
    let office = Office::open().await;
    office.sign_in().await;
    let session = id(&office.agent, "session").await;
    assert_eq!(office.agent.get("wiki", "/").await.status, 200);
    office.relay.revoke("session", &session).await.ok();
    let reply = office.agent.get("wiki", "/").await;
    assert_eq!(reply.refusal(), (407, "session_revoked"));
    assert_eq!(office.agent.reaches("revoked").await["problem"]["code"], "session_revoked");
    office.sign_in().await;
    assert_ne!(id(&office.agent, "session").await, session);
    assert_eq!(office.agent.get("wiki", "/").await.status, 200);
    on_record(&office, &session).await;
}

/// A revoked device stays out whoever signs in on its key; a new key is a new device.
#[tokio::test]
async fn a_revoked_device_is_refused_at_once_and_its_key_stays_out() {
    let office = Office::open().await;
    office.sign_in().await;
    let device = id(&office.agent, "device").await;
    office.relay.revoke("device", &device).await.ok();
    let reply = office.agent.get("wiki", "/").await;
    assert_eq!(reply.refusal(), (403, "device_revoked"));
    office.agent.reaches("revoked").await;
    // Signing in again makes a new key, for which the administrator's word about the old one does not count.
    office.agent.run(&["logout"]).await.ok();
    office.sign_in().await;
    assert_ne!(id(&office.agent, "device").await, device);
    assert_eq!(office.agent.get("wiki", "/").await.status, 200);
    on_record(&office, &device).await;
}

/// A revoked user stays out on every device, though the provider would still vouch for him.
#[tokio::test]
async fn a_revoked_user_is_refused_at_once_everywhere() {
    let office = Office::open().await;
    office.sign_in().await;
    let second = Agent::start(&office.world, "second", Some(&office.keyring)).await;
    second.login(&office.relay, &mut Browser::of("ada")).await;
    let other = Agent::start(&office.world, "other", Some(&office.keyring)).await;
    office.provider.account("bob", serde_json::json!({"groups": ["staff"]})).await;
    other.login(&office.relay, &mut Browser::of("bob")).await;
    for agent in [&office.agent, &second, &other] {
        assert_eq!(agent.get("wiki", "/").await.status, 200);
    }
    office.relay.revoke("user", "ada").await.ok();
    for agent in [&office.agent, &second] {
        assert_eq!(agent.get("wiki", "/").await.refusal(), (403, "principal_revoked"));
    }
    assert_eq!(other.get("wiki", "/").await.status, 200, "nobody else is touched");
    let mut login = office.agent.login_begun(&office.relay, &[]);
    Browser::of("ada").sign_in(&login.first_line().await).await;
    let output = login.output().await;
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("principal_revoked"), "{output:?}");
    on_record(&office, "ada").await;
}

/// A stream that lives when its session is revoked is cut, in both directions.
#[tokio::test]
async fn a_live_stream_of_a_revoked_session_is_cut() {
    let office = Office::open().await;
    office.sign_in().await;
    let mut stream = TcpStream::connect(("127.0.0.1", office.agent.port("echo").await)).await.unwrap();
    stream.write_all(b"one").await.unwrap();
    let mut back = [0; 3];
    within(SHORT, "an echo", stream.read_exact(&mut back)).await.unwrap();
    office.relay.revoke("session", &id(&office.agent, "session").await).await.ok();
    let end = within(SHORT, "the stream ends", stream.read(&mut back)).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    assert_eq!(office.echo.log().connections.concat(), b"one", "nothing more went upstream");
    let record = office.relay.audited("the cut", |record| record["event"] == "stream_cut").await;
    assert_eq!((record["app"].as_str(), record["code"].as_str()), (Some("echo"), Some("session_revoked")), "{record}");
}

/// What was revoked stays so when the relay restarts, and a revocation made while it is down counts as well.
#[tokio::test]
async fn revocations_outlive_the_relays_process() {
    let mut office = Office::open().await;
    office.sign_in().await;
    let session = id(&office.agent, "session").await;
    office.relay.stop().await.ok();
    office.relay.revoke("session", &session).await.ok();
    office.relay.serve_again(None).await;
    assert_eq!(office.agent.reaches("revoked").await["problem"]["code"], "session_revoked");
    office.sign_in().await;
    let device = id(&office.agent, "device").await;
    office.relay.revoke("device", &device).await.ok();
    office.relay.kill().await;
    office.relay.serve_again(None).await;
    office.agent.reaches("revoked").await;
    assert_eq!(office.agent.get("wiki", "/").await.refusal(), (403, "device_revoked"));
}

async fn id(agent: &Agent, of: &str) -> String {
    agent.status().await[of]["id"].as_str().unwrap().to_owned()
}

async fn on_record(office: &Office, id: &str) {
    office
        .relay
        .audited("the revocation", |record| record.to_string().contains("revo") && record.to_string().contains(id))
        .await;
}
