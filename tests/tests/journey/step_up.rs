//! A policy asks for a fresh sign-in: the agent has the person sign in again, for the same session, and what was asked
//! for goes through.

use crate::desk::{Desk, parameter};
use http::Request;
use postern_tests::Browser;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The vault wants a sign-in of the last ten seconds; everything else any.
const POLICY: &str = r#"@id("all")
permit(principal, action, resource);

@id("fresh")
@reason("The vault wants a sign-in of the last ten seconds.")
@max_age("10")
forbid(principal, action, resource in AppGroup::"vault") unless { context has auth_age && context.auth_age < 10 };
"#;

async fn desk(with_browser: bool) -> Desk {
    let desk = Desk::new(with_browser, json!({}), |settings| settings.policy(POLICY)).await;
    desk.sign_in(&mut Browser::of("ada")).await;
    desk
}

/// The request waits for the person, who signs in once; it is one session all along. A sign-in that has become too old
/// again so soon opens no second page by itself, but the person can ask for one.
#[tokio::test]
async fn a_waiting_request_goes_through_after_a_fresh_sign_in() {
    let desk = desk(true).await;
    let session = desk.session().await;
    assert_eq!(desk.agent.get("wiki", "/").await.status, 200);
    assert_eq!(desk.provider.counts().await["authorization"], 1);
    let (one, other) = (desk.ask("vault"), desk.ask("vault"));
    let url = desk.opened(1).await;
    assert_eq!(parameter(&url, "max_age").as_deref(), Some("10"), "{url}");
    assert!(!one.is_finished(), "it waits");
    let page = Browser::of("ada").sign_in(&url).await;
    assert_eq!(page.reply.status, 200, "{page:?}");
    for asked in [one, other] {
        let reply = asked.await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    assert_eq!(desk.session().await, session, "it is the same session");
    assert_eq!(desk.all_opened().len(), 1, "one page for both requests");

    tokio::time::sleep(Duration::from_secs(11)).await;
    let reply = desk.agent.get("vault", "/").await;
    assert_eq!(reply.refusal(), (407, "step_up_required"), "no second page so soon");
    assert_eq!(reply.json()["reason"], "The vault wants a sign-in of the last ten seconds.");
    assert!(reply.json()["fix"].as_str().unwrap().contains("postern login"), "{}", reply.text());
    let mut browser = Browser::of("ada");
    desk.agent.login_with(&desk.relay, &mut browser, &[]).await.ok();
    assert_eq!(desk.agent.get("vault", "/").await.status, 200);
    assert_eq!(desk.session().await, session);
    assert_eq!(desk.upstreams[1].requests().len(), 3);
}

/// A TCP client waits as well. Bytes that came with a request are not kept back for a person: its sender is told.
#[tokio::test]
async fn a_tcp_connection_waits_and_a_request_with_a_body_is_told() {
    let desk = desk(true).await;
    let form = Request::post("/").header("accept", "text/html").body("amount=7").unwrap();
    let told = desk.agent.send("vault", form).await;
    assert_eq!((told.status.as_u16(), told.headers["postern-code"].to_str().unwrap()), (401, "step_up_required"));
    assert!(told.text().contains("repeat what you did"), "{}", told.text());
    let mut stream = TcpStream::connect(("127.0.0.1", desk.agent.port("safe").await)).await.unwrap();
    stream.write_all(b"first").await.unwrap();
    let page = Browser::of("ada").sign_in(&desk.opened(1).await).await;
    assert_eq!(page.reply.status, 200, "{page:?}");
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"first");
    assert_eq!(desk.upstreams[1].requests().len(), 0, "the form was not sent again behind the sender's back");
}

/// Where no browser opens, nobody waits for one: the refusal says what to do, and doing it helps.
#[tokio::test]
async fn without_a_browser_the_person_signs_in_by_hand() {
    let desk = desk(false).await;
    let reply = desk.agent.get("vault", "/").await;
    assert_eq!(reply.refusal(), (407, "step_up_required"), "{}", reply.text());
    assert!(reply.json()["fix"].as_str().unwrap().contains("--no-browser"), "{}", reply.text());
    let why = desk.agent.run(&["why", "--json"]).await.ok().json();
    assert_eq!(why["problem"]["step_up"]["max_age"], 10, "{why}");
    desk.agent.login_with(&desk.relay, &mut Browser::of("ada"), &[]).await.ok();
    assert_eq!(desk.agent.get("vault", "/").await.status, 200);
}

/// Nobody else steps in for the person whose session it is, and who declines is not asked at once again.
#[tokio::test]
async fn another_person_is_refused_and_declining_ends_the_wait() {
    let desk = desk(true).await;
    let session = desk.session().await;
    let asked = desk.ask("vault");
    let page = Browser::of("eve").sign_in(&desk.opened(1).await).await;
    assert!(page.reply.status.is_client_error(), "{page:?}");
    assert_eq!(asked.await.unwrap().refusal(), (401, "sign_in_failed"));
    let status = desk.agent.status().await;
    assert_eq!((&status["state"], &status["session"]["id"]), (&"online".into(), &session), "{status}");
    assert_eq!(status["principal"]["subject"], "ada");
    assert_eq!(desk.agent.get("wiki", "/").await.status, 200, "what she may do she still may");

    // By hand, and then she changes her mind.
    let mut login = desk.agent.login_begun(&desk.relay, &[]);
    let url = login.first_line().await;
    let mut browser = Browser::of("ada");
    let form = browser.sign_in_until(&url, |url| url.path().starts_with("/interaction")).await;
    let page = browser.sign_in(&format!("{form}/abort")).await;
    assert!(page.url.path() == "/callback", "{page:?}");
    let output = login.output().await;
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("sign_in_cancelled"), "{output:?}");
    assert_eq!(desk.agent.get("vault", "/").await.refusal(), (407, "step_up_required"));
    assert_eq!(desk.upstreams[1].requests().len(), 0);
}
