//! A policy asks for another sign-in where no page can open: of a session that was signed in with a code on another device,
//! and of a service account, which has nobody to sign in.

use crate::desk::Desk;
use crate::other_sign_ins::{service_config, thumbprint_in};
use http::Request;
use postern_tests::stand_in::RESOURCE;
use postern_tests::wait::{SHORT, within};
use postern_tests::{Agent, App, Provider, Relay, Reply, Settings, Upstream, World};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// The vault wants a sign-in of the last minute with a hardware key; everything else any.
const POLICY: &str = r#"@id("all")
permit(principal, action, resource);

@id("fresh-and-strong")
@reason("The vault wants a fresh sign-in with a hardware key.")
@max_age("60")
@acr_values("phr")
forbid(principal, action, resource in AppGroup::"vault") unless {
    context has auth_age && context.auth_age < 60 && context has acr && context.acr == "phr"
};
"#;

/// No page opens on the machine that nobody may be sitting at. The refusal says what to do, another code does it, for the
/// same session, and nobody else's will do.
#[tokio::test]
async fn a_session_of_a_device_code_steps_up_by_another_code() {
    let classes = json!({ "classes": { "ada": ["phr"], "eve": ["phr"] } });
    let desk = Desk::new(true, classes, |settings| settings.policy(POLICY)).await;
    desk.agent.login_by_code(&desk.relay, "ada", &["--memory-only"]).await.ok();
    let session = desk.session().await;
    assert_eq!(desk.agent.get("wiki", "/").await.status, 200);
    let reply = desk.agent.get("vault", "/").await;
    assert_eq!(reply.refusal(), (407, "step_up_required"));
    assert_eq!(reply.problem().reason.as_deref(), Some("The vault wants a fresh sign-in with a hardware key."));
    assert!(reply.problem().fix.unwrap().contains("postern login") && reply.text().contains("--device-code"));
    assert_eq!(desk.all_opened(), [""; 0], "whoever signed in elsewhere would not see a page here");

    let other = desk.agent.login_by_code(&desk.relay, "eve", &[]).await;
    assert!(other.code == 1 && other.stderr.contains("another user"), "{other:?}");
    assert_eq!(desk.agent.get("vault", "/").await.refusal(), (407, "step_up_required"));
    desk.agent.login_by_code(&desk.relay, "ada", &[]).await.ok();
    let reply = desk.agent.get("vault", "/").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(desk.session().await, session, "it is the same session");
    assert_eq!(desk.all_opened(), [""; 0]);
}

/// A service account is told that it cannot, and whom to turn to: once for each request, whatever kind of it.
#[tokio::test]
async fn a_service_account_is_refused_clearly_and_no_sign_in_begins() {
    let world = World::new();
    let provider = Provider::start(&world).await;
    let (wiki, vault, safe) = (Upstream::plain().await, Upstream::plain().await, Upstream::echo().await);
    let settings = Settings::new(&provider.issuer)
        .app(App::http("wiki", wiki.address))
        .app(App::http("vault", vault.address).denied())
        .app(App::tcp("safe", safe.address).denied())
        .set("provider", "resource", &format!("\"{RESOURCE}\""))
        .policy(POLICY);
    let mut relay = Relay::start(&world, settings.clone()).await;
    let agent = Agent::start_with(&world, "ci", None, &service_config(&world), &[]).await;
    let (address, authority) = (relay.address(), relay.authority_file());
    let login = ["login", &address, "--ca", authority.to_str().unwrap()];
    let thumbprint = thumbprint_in(&agent.run(&login).await.stderr).unwrap();
    relay.stop().await.ok();
    relay.serve_again(Some(settings.service_account("ci-runner", &thumbprint))).await;
    agent.run(&login).await.ok();
    let session = agent.reaches("online").await["session"]["id"].clone();
    assert_eq!(agent.get("wiki", "/").await.status, 200);

    let tokens = provider.counts().await["token"].clone();
    is_clear(&agent.get("vault", "/").await);
    is_clear(&agent.send("vault", Request::post("/").body("deploy=now").unwrap()).await);
    let mut stream = TcpStream::connect(("127.0.0.1", agent.port("safe").await)).await.unwrap();
    let end = within(SHORT, "the stream is refused", stream.read(&mut [0; 1])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    let why = agent.run(&["why", "--json"]).await.ok().json();
    assert_eq!((&why["kind"], &why["app"]), (&json!("stream"), &json!("safe")), "{why}");
    assert!(why["problem"]["fix"].as_str().unwrap().contains("administrator"), "{why}");

    let asked = |app: &str| relay.audit().iter().filter(|record: &&Value| record["app"] == app).count();
    assert_eq!((asked("vault"), asked("safe")), (2, 1), "each was decided once");
    assert_eq!(provider.counts().await["token"], tokens, "and nobody asked the provider for anything");
    let status = agent.status().await;
    assert_eq!((&status["state"], &status["session"]["id"]), (&json!("online"), &session), "{status}");
    assert_eq!(agent.get("wiki", "/").await.status, 200, "what it may do it still may");
    assert_eq!((vault.requests().len(), safe.log().connections.len()), (0, 0));
}

#[track_caller]
fn is_clear(reply: &Reply) {
    assert_eq!(reply.refusal(), (407, "step_up_required"));
    let problem = reply.problem();
    assert!(problem.detail.unwrap().contains("service account"), "{}", reply.text());
    let fix = problem.fix.unwrap();
    assert!(fix.contains("administrator") && !fix.contains("postern login") && !fix.contains("browser"), "{fix}");
}
