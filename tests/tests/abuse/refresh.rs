//! A stolen refresh token: A12.

use http::Request;
use postern_tests::client::http;
use postern_tests::{Agent, App, Browser, Provider, Relay, Settings, Upstream, World};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A12: a refresh token that a thief used first is refused when the agent uses it, with every token that came of it. The
/// session ends at the relay, its live stream is cut, and the user sees why.
#[tokio::test]
async fn a12_a_refresh_token_used_twice_ends_the_session() {
    let world = World::new();
    let provider = Provider::start(&world).await;
    let echo = Upstream::echo().await;
    let settings = Settings::new(&provider.issuer).app(App::tcp("echo", echo.address));
    // The session token outlives the provider's token by far: what ends the stream is not the clock.
    let settings = settings.set("provider", "token_max_age", "\"20s\"").set("session", "token_lifetime", "\"20s\"");
    let relay = Relay::start(&world, settings).await;
    let agent = Agent::start(&world, "agent", None).await;
    agent.login_with(&relay, &mut Browser::of("ada"), &["--memory-only"]).await.ok();
    let mut stream = TcpStream::connect(("127.0.0.1", agent.port("echo").await)).await.unwrap();
    stream.write_all(b"alive").await.unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"alive");

    let stolen = provider.refresh_token("ada").await;
    let (status, thiefs) = refresh(&provider, &stolen).await;
    assert_eq!(status, 200, "the thief is first: {thiefs}");
    let new = thiefs["refresh_token"].as_str().unwrap().to_owned();
    assert_ne!(new, stolen, "the provider rotates");

    let status = agent.reaches("expired").await;
    assert_eq!(status["problem"]["code"], "refresh_refused", "{status}");
    let shown = agent.run(&["status"]).await;
    assert!(shown.stdout.contains("refresh_refused") && shown.stdout.contains("Sign in again"), "{shown:?}");
    let mut rest = Vec::new();
    let end =
        postern_tests::wait::within(std::time::Duration::from_secs(10), "the cut", stream.read_to_end(&mut rest)).await;
    assert!(end.is_err() || rest.is_empty(), "nothing more comes: {end:?} {rest:?}");
    let cut = relay.audited("the cut", |record| record["event"] == "stream_cut").await;
    assert_eq!(cut["code"], "session_revoked", "by the sign-out, and not by the end of its token: {cut}");
    let record = relay.audited("the sign-out", |record| record["event"] == "sign_out").await;
    assert!(record["detail"].as_str().unwrap().contains("refresh_refused"), "{record}");
    assert_eq!(record["result"], json!("allow"));
    assert_eq!(refresh(&provider, &new).await.0, 400, "the thief's own token went with the family");
}

async fn refresh(provider: &Provider, token: &str) -> (u16, serde_json::Value) {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs([("grant_type", "refresh_token"), ("client_id", "postern"), ("refresh_token", token)]);
    let request = Request::post("/token").header("host", provider.issuer.authority());
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(form.finish()).unwrap();
    let reply = http(provider.address(), request).await;
    (reply.status.as_u16(), reply.json())
}
