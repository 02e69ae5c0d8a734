//! What is wrong, and how to mend it; and the bundle for an administrator, which holds no secret and no name.

use crate::Office;
use postern_tests::secrets::secrets_in;
use postern_tests::{Agent, App, Browser, Keyring, Relay, Settings, StandIn, Upstream, World, eventually};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

type Findings = BTreeMap<String, (String, Option<String>)>;

/// `postern doctor --json`: each check's result and code.
async fn examined(agent: &Agent) -> (i32, Findings) {
    let output = agent.run(&["doctor", "--json"]).await;
    let told = output.json();
    let text = |finding: &Value, key: &str| finding[key].as_str().map(str::to_owned);
    let findings =
        told["findings"].as_array().unwrap().iter().map(|finding| {
            (text(finding, "check").unwrap(), (text(finding, "result").unwrap(), text(finding, "code")))
        });
    (output.code, findings.collect())
}

#[tokio::test]
async fn the_doctor_follows_the_state_of_the_office() {
    let mut office = Office::open().await;
    let (code, findings) = examined(&office.agent).await;
    assert_eq!((code, findings["session"].1.as_deref()), (0, Some("not_signed_in")), "{findings:?}");
    assert_eq!(findings["relay_tcp"].0, "skipped", "{findings:?}");
    office.sign_in().await;
    office.agent.port("echo").await;
    let (code, findings) = examined(&office.agent).await;
    assert_eq!(code, 0);
    assert!(findings.values().all(|(result, _)| result == "ok"), "{findings:?}");

    office.relay.kill().await;
    let (code, findings) = examined(&office.agent).await;
    assert_eq!(code, 1);
    for check in ["relay_tcp", "relay_quic"] {
        assert_eq!(
            findings[check],
            ("failed".to_owned(), Some("relay_unreachable".to_owned())),
            "{check}: {findings:?}"
        );
    }
    assert_eq!(findings["keyring"].0, "ok");

    // A keyring that waits for its password keeps the doctor no longer than its own limit.
    let locked = Keyring::locked(&office.world).await;
    let agent = Agent::start(&office.world, "locked", Some(&locked)).await;
    let (code, findings) = examined(&agent).await;
    assert_eq!((code, findings["keyring"].1.as_deref()), (1, Some("keyring_locked")), "{findings:?}");
}

/// Behind a network that wants a sign-in of its own, status and doctor say so instead of blaming the relay; and no longer than that.
#[tokio::test]
async fn a_network_that_wants_a_sign_in_is_told_as_such() {
    let world = World::new();
    let provider = StandIn::start().await;
    let captive = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&captive);
    let network = Upstream::http(move |_| {
        let (page, nothing) =
            ("HTTP/1.1 302 Found\r\nlocation: http://login.hotel.example/\r\n", "HTTP/1.1 204 No Content\r\n");
        format!("{}content-length: 0\r\n\r\n", if seen.load(Ordering::SeqCst) { page } else { nothing }).into_bytes()
    })
    .await;
    let mut relay = Relay::start(&world, Settings::new(&provider.issuer)).await;
    let config = format!("captive_probe = \"http://{}/204\"\n", network.address);
    let agent = Agent::start_with(&world, "agent", None, &config, &[]).await;
    agent.login_with(&relay, &mut Browser::of("ada"), &["--memory-only"]).await.ok();
    assert_eq!(network.requests().len(), 0, "who is connected asks nobody");
    relay.stop().await;
    agent.reaches("offline").await;
    eventually("the network is blamed", async || {
        (agent.status().await["problem"]["code"] == "captive_portal").then_some(())
    })
    .await;
    assert_eq!(agent.status().await["state"], "offline");
    let (_, findings) = examined(&agent).await;
    assert_eq!(findings["captive_portal"], ("failed".to_owned(), Some("captive_portal".to_owned())), "{findings:?}");
    captive.store(false, Ordering::SeqCst);
    let (_, findings) = examined(&agent).await;
    assert_eq!(findings["captive_portal"], ("ok".to_owned(), None), "{findings:?}");
}

/// Every secret of the device, asked of its keyring, and the person's names: none is in what is handed on.
#[tokio::test]
async fn a_bundle_holds_no_secret_and_no_name() {
    let office = Office::with(|settings: Settings| settings.app(App::http("crm", ([127, 0, 0, 1], 1).into()))).await;
    office.sign_in().await;
    let canary = postern_tests::forge::random(24);
    office.agent.get("vault", &format!("/?token={canary}")).await;
    office.agent.get("crm", &format!("/?code={canary}")).await;
    let file = office.world.path("bundle.json");
    office.agent.run(&["doctor", "--bundle", file.to_str().unwrap()]).await.ok();
    let bytes = std::fs::read(&file).unwrap();
    let refresh_token = office.provider.refresh_token("ada").await;
    assert!(refresh_token.len() > 16, "the secret that is looked for");
    assert_eq!(secrets_in(&bytes, &[&canary, &refresh_token]), [""; 0]);
    let document: Value = serde_json::from_slice(&bytes).unwrap();
    let principal = office.agent.status().await["principal"].clone();
    let text = String::from_utf8(bytes).unwrap();
    for name in ["email", "name"] {
        assert!(principal[name].as_str().is_none_or(|name| !text.contains(name)), "{name} in {text}");
    }
    assert_eq!(document["status"]["principal"]["subject"], "[redacted]");
    let home = office.world.path("home");
    assert!(!text.contains(home.to_str().unwrap()), "the home directory: {text}");
    let refused: Vec<_> = document["refusals"].as_array().unwrap().iter().map(|refusal| &refusal["app"]).collect();
    assert!(refused.contains(&&Value::from("vault")), "the names of apps stay: {document}");
    assert!(document["log"].as_array().is_some_and(|log| !log.is_empty()));
    assert_eq!(document["status"]["state"], "online");
}
