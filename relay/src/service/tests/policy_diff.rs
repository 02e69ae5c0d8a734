//! What another policy would change for live streams: asked of the running relay, and nothing comes of it.

use super::upstreams::Upstream;
use super::world::{World, app};
use crate::admin::{self, AdminSocket};
use postern_protocol::Code;
use tokio::io::AsyncReadExt as _;

#[tokio::test]
async fn a_diff_counts_the_streams_that_would_be_cut_and_cuts_none() {
    let db = Upstream::tcp(|mut stream| async move {
        let _until_cut = stream.read(&mut [0; 1]).await;
    })
    .await;
    let holding = "on_lapse = \"hold\"\nhold_for = \"10m\"";
    let world = World::new(&[app("db", db.tcp_url(), ""), app("held", db.tcp_url(), holding)]).await;
    let (ada, bob) = (world.device("ada").await, world.device("bob").await);
    let port = db.addr.port();
    let mut open = Vec::new();
    for (device, app) in [(&ada, "db"), (&ada, "db"), (&ada, "held"), (&bob, "db")] {
        open.push(device.open(&format!("{app}:{port}")).await.unwrap());
    }
    let state_dir = world.relay.config.state_dir.clone();
    assert!(admin::policy_diff(&state_dir, "").await.is_none(), "no admin socket, no running relay");
    let socket = AdminSocket::bind(&state_dir).unwrap();
    let relay = world.relay.clone();
    let serving = tokio::spawn(async move { socket.serve(relay).await });

    let policy = r#"
        @id("all") permit (principal, action, resource);
        @id("not-ada") forbid (principal, action, resource == App::"db") when { principal.subject == "ada" };
        @id("fresh") @max_age("60") forbid (principal, action, resource == App::"held")
        unless { context has auth_age && context.auth_age < 60 };"#;
    let diff = admin::policy_diff(&state_dir, policy).await.unwrap().unwrap();
    assert_eq!((diff.streams, diff.cut, diff.held), (4, 2, 1));
    let told = |n: usize| {
        let change = &diff.changes[n];
        (change.principal.subject(), change.app.as_str(), change.code, change.policies[0].as_str(), change.streams)
    };
    assert_eq!(told(0), ("ada", "db", Code::PolicyDenied, "not-ada", 2));
    assert_eq!(told(1), ("ada", "held", Code::StepUpRequired, "fresh", 1));
    assert_eq!(diff.changes.len(), 2);
    let all = admin::policy_diff(&state_dir, "").await.unwrap().unwrap();
    assert_eq!((all.cut, all.held), (4, 0));
    let broken = admin::policy_diff(&state_dir, "permit").await.unwrap().unwrap_err();
    assert_eq!(broken.code, Code::ConfigInvalid);
    assert_eq!((world.relay.streams.len(), world.relay.snapshot.load().generation), (4, 0), "nothing has happened");
    serving.abort();
}
