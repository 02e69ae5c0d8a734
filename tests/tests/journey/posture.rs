//! The device's posture reaches the relay continually, not only with the session.

use crate::Office;
use std::time::{Duration, Instant};

/// Whoever's posture is older than a minute is out.
const POLICY: &str = r#"@id("fresh")
permit(principal, action, resource) when { context has posture && context.posture.age < 60 };
"#;

/// With a session token that lives for ten minutes, only the reports of their own keep the posture young.
#[tokio::test]
async fn posture_is_reported_at_least_every_minute() {
    let office = Office::with(|settings| settings.policy(POLICY).set("session", "token_lifetime", "\"10m\"")).await;
    office.sign_in().await;
    let status = office.agent.status().await;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(status["posture"]["kernel_version"], kernel.trim(), "{status}");
    assert_eq!(status["posture"]["os"], "linux");
    let shown = office.agent.run(&["status"]).await.ok().stdout;
    assert!(shown.contains("Disk encrypted") && shown.contains(kernel.trim()), "{shown}");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(75) {
        let reply = office.agent.get("wiki", "/").await;
        assert_eq!(reply.status, 200, "after {:?}: {}", began.elapsed(), reply.text());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
