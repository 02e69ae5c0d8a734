//! Signing out at the provider ends what was started from there, by its back channel: npm's `oidc-provider`, and
//! Glewlwyd, whose logout tokens are of an older kind.

use crate::Office;
use http::Request;
use postern_tests::forge::{claims_of, header_of};
use postern_tests::nginx::free_address;
use postern_tests::wait::{SHORT, within};
use postern_tests::{Agent, App, Browser, Glewlwyd, Keyring, Relay, Settings, Upstream, World};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A person signs out in the browser: the open stream is cut, the next request refused, the other device untouched.
#[tokio::test]
async fn signing_out_at_the_provider_cuts_the_stream_and_refuses_the_next_request() {
    let office = Office::open().await;
    office.provider.logs_out_at(&office.relay).await;
    let mut browser = Browser::of("ada");
    office.agent.login(&office.relay, &mut browser).await;
    let second = Agent::start(&office.world, "second", Some(&office.keyring)).await;
    second.login(&office.relay, &mut Browser::of("ada")).await;
    let mut stream = TcpStream::connect(("127.0.0.1", office.agent.port("echo").await)).await.unwrap();
    stream.write_all(b"one").await.unwrap();
    let mut back = [0; 3];
    within(SHORT, "an echo", stream.read_exact(&mut back)).await.unwrap();

    browser.sign_out(&format!("{}session/end", office.provider.issuer)).await;
    let end = within(SHORT, "the stream ends", stream.read(&mut back)).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    assert_eq!(office.agent.get("wiki", "/").await.refusal(), (407, "session_revoked"));
    assert_eq!(office.agent.reaches("revoked").await["problem"]["code"], "session_revoked");
    let cut = office.relay.audited("the cut", |record| record["event"] == "stream_cut").await;
    assert_eq!((cut["app"].as_str(), cut["code"].as_str()), (Some("echo"), Some("session_revoked")), "{cut}");
    let told = office.relay.audited("the logout", |record| record["event"] == "back_channel_logout").await;
    assert_eq!((told["result"].as_str(), told["principal"]["subject"].as_str()), (Some("allow"), Some("ada")));
    assert_eq!(second.get("wiki", "/").await.status, 200, "that is another session of the provider");

    // A57: what went over the back channel once is worth nothing to whoever saw it.
    let tokens = office.provider.logout_tokens().await;
    assert_eq!(tokens.len(), 1);
    assert_eq!(
        (header_of(&tokens[0])["typ"].as_str(), claims_of(&tokens[0])["sub"].as_str()),
        (Some("logout+jwt"), Some("ada"))
    );
    office.agent.login(&office.relay, &mut Browser::of("ada")).await;
    let replay = Request::post("/backchannel-logout")
        .header("host", office.relay.public.to_string())
        .header("content-type", "application/x-www-form-urlencoded");
    let reply = office.relay.public(replay.body(format!("logout_token={}", tokens[0])).unwrap()).await;
    assert_eq!((reply.status.as_u16(), reply.json()["error"].as_str()), (400, Some("invalid_request")));
    assert_eq!(office.agent.get("wiki", "/").await.status, 200, "signed in again, and so it stays");
}

/// The same with Debian's Glewlwyd, to which the relay listens by a switch.
#[tokio::test]
async fn signing_out_at_glewlwyd_cuts_the_stream_and_refuses_the_next_request() {
    let world = World::new();
    let provider = Glewlwyd::start(&world).await;
    let keyring = Keyring::unlocked(&world).await;
    let (wiki, echo) = (Upstream::plain().await, Upstream::echo().await);
    let port = free_address().port();
    let settings = Settings::new(&provider.issuer)
        .app(App::http("wiki", wiki.address))
        .app(App::tcp("echo", echo.address))
        .set("provider", "scopes", "[\"openid\"]")
        .set("provider", "redirect_port", &port.to_string())
        .set("provider", "backchannel_logout_untyped", "true")
        .policy("@id(\"all\") permit(principal, action, resource);");
    let relay = Relay::start(&world, settings).await;
    provider.register(port, &relay).await;
    let agent = Agent::start(&world, "agent", Some(&keyring)).await;
    let mut browser = provider.browser().await;
    let mut login = agent.login_begun(&relay, &[]);
    // "Go on" is what its page adds once the person agreed.
    browser.sign_in(&format!("{}&g_continue", login.first_line().await)).await;
    login.output().await.ok();

    let mut stream = TcpStream::connect(("127.0.0.1", agent.port("echo").await)).await.unwrap();
    stream.write_all(b"one").await.unwrap();
    let mut back = [0; 3];
    within(SHORT, "an echo", stream.read_exact(&mut back)).await.unwrap();
    provider.sign_out(&mut browser).await;
    let end = within(SHORT, "the stream ends", stream.read(&mut back)).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    assert_eq!(agent.get("wiki", "/").await.refusal(), (407, "session_revoked"));
    let told = relay.audited("the logout", |record| record["event"] == "back_channel_logout").await;
    assert_eq!((told["result"].as_str(), told["code"].as_str()), (Some("allow"), None), "{told}");
    assert!(told["detail"].as_str().unwrap().contains("sessions ended: 1"), "{told}");
}
