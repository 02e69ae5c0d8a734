//! What the agent keeps fresh by itself, and what it survives.

use crate::Office;
use postern_tests::forge::now;
use postern_tests::{Agent, Settings, eventually};
use serde_json::{Value, json};

/// Lifetimes short enough to see each of them end several times, long enough for a busy machine.
fn short_lived(settings: Settings) -> Settings {
    settings.set("session", "token_lifetime", "\"6s\"").set("certificate", "lifetime", "\"15s\"").set(
        "provider",
        "token_max_age",
        "\"12s\"",
    )
}

/// Session token, provider token and certificate are all renewed in the background, and no request ever fails.
#[tokio::test]
async fn everything_that_ends_is_renewed_before_it_does() {
    let office = Office::with(short_lived).await;
    office.sign_in().await;
    let first = office.agent.status().await;
    let (mut tokens, mut certificates) = (vec![token_end(&first)], vec![certificate_end(&first)]);
    eventually("two new certificates and four new session tokens", async || {
        let reply = office.agent.get("wiki", "/").await;
        assert_eq!(reply.status, 200, "a request failed during renewals: {}", reply.text());
        let status = office.agent.status().await;
        assert_eq!(status["state"], "online", "{status}");
        assert_eq!(status["session"]["id"], first["session"]["id"], "it is one session all along");
        if tokens.last() != Some(&token_end(&status)) {
            tokens.push(token_end(&status));
        }
        if certificates.last() != Some(&certificate_end(&status)) {
            certificates.push(certificate_end(&status));
        }
        (tokens.len() > 4 && certificates.len() > 2).then_some(())
    })
    .await;
    assert!(tokens.is_sorted() && certificates.is_sorted());
    assert!(certificates[2] / 1000 > now());
    let refreshed = office.provider.counts().await["refresh"].as_u64().unwrap();
    assert!(refreshed >= 2, "the provider was asked {refreshed} times: the relay takes no token older than 12 s");
}

/// A user disabled at the provider is out when the last token accepted is too old, and is told so.
#[tokio::test]
async fn a_user_disabled_at_the_provider_is_out_within_the_stated_time() {
    let office = Office::with(short_lived).await;
    office.sign_in().await;
    assert_eq!(office.agent.get("wiki", "/").await.status, 200);
    office.provider.disable("ada").await;
    let status = office.agent.reaches("expired").await;
    assert_eq!(status["problem"]["code"], "refresh_refused", "{status}");
    assert_eq!(office.agent.get("wiki", "/").await.refusal(), (401, "refresh_refused"));
}

/// Groups are those of the provider's newest token; when they go, access goes.
#[tokio::test]
async fn groups_follow_the_provider() {
    let office = Office::with(short_lived).await;
    office.sign_in().await;
    assert_eq!(office.agent.get("wiki", "/").await.status, 200);
    office.provider.account("ada", json!({"name": "Ada Lovelace"})).await;
    eventually("without the claim there are no groups", async || {
        (office.agent.get("wiki", "/").await.status == 403).then_some(())
    })
    .await;
    office.provider.account("ada", json!({"groups": ["staff"]})).await;
    eventually("with the group there is access", async || {
        (office.agent.get("wiki", "/").await.status == 200).then_some(())
    })
    .await;
}

/// A restarted agent takes up its session from the keyring: no sign-in, no new session, the same ports.
#[tokio::test]
async fn a_restarted_agent_resumes_from_the_keyring() {
    let mut office = Office::open().await;
    office.sign_in().await;
    let before = office.agent.status().await;
    let (port, echo) = (office.agent.http_port, office.agent.port("echo").await);
    let asked = office.provider.counts().await["authorization"].clone();
    office.agent.stop().await.ok();
    assert!(!office.agent.state.join("agent.sock").exists(), "the socket goes with the agent");
    office.agent.run_again().await;
    let after = office.agent.reaches("online").await;
    assert_eq!(after["session"]["id"], before["session"]["id"]);
    assert_eq!(after["device"]["id"], before["device"]["id"]);
    assert_eq!(office.provider.counts().await["authorization"], asked, "nobody had to sign in");
    assert_eq!((office.agent.http_port, office.agent.port("echo").await), (port, echo), "bookmarks still work");
    assert_eq!(office.agent.get("wiki", "/").await.status, 200);
    assert_eq!(postern_tests::secrets::find(&office.agent.state, &[]), [""; 0]);
    assert_eq!(
        postern_tests::secrets::find(office.keyring.directory(), &[]),
        [""; 0],
        "the keyring's file is encrypted"
    );
}

/// The refresh token that the provider gave last is the one that is kept: an old one would end the session there.
#[tokio::test]
async fn a_rotated_refresh_token_survives_a_restart() {
    let mut office = Office::with(short_lived).await;
    office.sign_in().await;
    let session = office.agent.status().await["session"]["id"].clone();
    for refreshes in [1, 3] {
        eventually(&format!("{refreshes} refreshes"), async || {
            (office.provider.counts().await["refresh"].as_u64().unwrap() >= refreshes).then_some(())
        })
        .await;
        assert_eq!(office.agent.get("wiki", "/").await.status, 200);
        office.agent.stop().await.ok();
        office.agent.run_again().await;
        assert_eq!(office.agent.reaches("online").await["session"]["id"], session);
    }
}

/// A relay that restarts, softly or not, is reached again without anybody doing anything.
#[tokio::test]
async fn a_restarted_relay_is_reached_again() {
    let mut office = Office::open().await;
    office.sign_in().await;
    let session = office.agent.status().await["session"]["id"].clone();
    for softly in [true, false] {
        if softly {
            office.relay.stop().await.ok();
        } else {
            office.relay.kill().await;
        }
        if softly {
            // The agent was told, so it need not wait to know.
            let refused = office.agent.get("wiki", "/").await;
            assert!(refused.status.is_server_error(), "{refused:?}");
            assert!(["relay_unreachable", "draining"].contains(&refused.refusal().1), "{refused:?}");
        }
        office.relay.serve_again(None).await;
        let status = office.agent.reaches("online").await;
        assert_eq!(status["session"]["id"], session, "the session outlives the relay's process");
        eventually("requests pass again", async || (office.agent.get("wiki", "/").await.status == 200).then_some(()))
            .await;
    }
    office.relay.admin(&["audit", "verify"]).await.ok();
}

/// A provider that cannot be reached for a while costs nothing while tokens last, and is made up for after.
#[tokio::test]
async fn a_provider_that_is_away_does_not_end_the_session() {
    let mut office = Office::open().await;
    office.sign_in().await;
    office.provider.stop().await;
    for _ in 0..10 {
        assert_eq!(office.agent.get("wiki", "/").await.status, 200);
    }
    let other = Agent::start(&office.world, "other", Some(&office.keyring)).await;
    let refused = other.login_begun(&office.relay, &[]).output().await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("provider_unreachable"), "{refused:?}");
    let again = office.agent.run(&["login"]).await.ok();
    assert!(again.stdout.contains("online"), "who is signed in need not sign in: {again:?}");
    assert_eq!(office.agent.get("wiki", "/").await.status, 200);
}

fn token_end(status: &Value) -> u64 {
    status["session"]["token_expires"].as_u64().unwrap()
}

fn certificate_end(status: &Value) -> u64 {
    status["device"]["certificate_expires"].as_u64().unwrap()
}
