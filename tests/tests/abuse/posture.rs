//! What an agent says of its device is its own word and no more: A24.

use crate::Site;
use postern_tests::{App, Upstream};
use serde_json::json;

/// Healthy devices may use the wiki; the vault asks for a posture that somebody else vouches for.
const POLICY: &str = r#"@id("healthy")
permit(principal, action, resource == App::"wiki")
  when { context has posture && context.posture has firewall && context.posture.firewall };

@id("attested")
permit(principal, action, resource == App::"vault")
  when { context has posture && context.posture.self_asserted == false };
"#;

/// A24: an agent that lies gets what rests on its word, and nothing that asks for more than its word. Whatever it adds
/// to its report, the posture stays self-asserted.
#[tokio::test]
async fn a24_a_lying_agents_posture_stays_self_asserted() {
    let vault = Upstream::plain().await;
    let site = Site::with(|settings| settings.app(App::http("vault", vault.address)).policy(POLICY)).await;
    let (ada, quic) = site.signed_in("ada").await;
    let report = async |posture: &serde_json::Value| {
        let request = ada.request("POST", "postern.relay", "/posture").header("content-type", "application/json");
        quic.send(request.body(posture.to_string()).unwrap()).await.unwrap()
    };
    assert_eq!(
        ada.get(&quic, "wiki", "/").await.refusal(),
        (403, "policy_denied"),
        "it has said nothing of a firewall"
    );
    let perfect = json!({
        "os": "linux", "os_version": "99", "kernel_version": "99.0", "agent_version": "99.0", "key_storage": "tpm",
        "disk_encrypted": true, "firewall": true, "screen_lock": true,
    });
    let with = |name: &str, value: serde_json::Value| {
        let mut lie = perfect.clone();
        lie[name] = value;
        lie
    };
    let lies = [
        perfect.clone(),
        with("self_asserted", json!(false)),
        with("attested", json!(true)),
        with("posture", json!({"self_asserted": false})),
        with("age", json!(-1)),
        with("key_storage", json!("tpm\",\"self_asserted\":false,\"x\":\"")),
    ];
    for lie in &lies {
        let reply = report(lie).await;
        assert_eq!(reply.status, 204, "{lie}: {}", reply.text());
        assert_eq!(ada.get(&quic, "wiki", "/").await.status, 200, "its word counts where the policy takes it: {lie}");
        assert_eq!(ada.get(&quic, "vault", "/").await.refusal(), (403, "policy_denied"), "{lie}");
    }
    // The word of the moment counts: one that admits to have no firewall is out at the next request.
    assert_eq!(report(&with("firewall", json!(false))).await.status, 204);
    assert_eq!(ada.get(&quic, "wiki", "/").await.refusal(), (403, "policy_denied"));
    for bad in [json!([]), json!("x"), with("os", json!("x".repeat(200))), with("firewall", json!("yes"))] {
        assert_eq!(report(&bad).await.refusal(), (400, "request_invalid"), "{bad}");
    }
    assert_eq!(ada.get(&quic, "wiki", "/").await.refusal(), (403, "policy_denied"), "a bad report changes nothing");
    assert_eq!(vault.requests().len(), 0);
    let reports = site.relay.audit().into_iter().filter(|record| record["event"] == "posture").count();
    assert!(reports >= 3, "reports that differ are on record: {reports}");
}
