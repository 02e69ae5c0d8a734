//! A day at the window: from a machine without an agent to being signed out.

use postern_tests::{App, Browser, Desktop, Provider, Relay, Settings, Upstream, World};
use std::time::Duration;

/// A window may take this long on a machine that is busy with other tests; the figure is printed.
const START: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_day_at_the_window() {
    let world = World::new();
    let provider = Provider::start(&world).await;
    let (wiki, vault) = (Upstream::plain().await, Upstream::plain().await);
    let settings = Settings::new(&provider.issuer)
        .app(App::http("wiki", wiki.address))
        .app(App::http("vault", vault.address).denied());
    let relay = Relay::start(&world, settings).await;
    let mut desktop = Desktop::new(&world).await;
    desktop.trusts(&relay);

    desktop.start().await;
    let (painted, ready) = desktop.start_times().await;
    eprintln!("desktop: first picture {painted:.2?} after the program's start, pages ready {ready:.2?}");
    assert!(painted < START && ready < START, "{painted:?} {ready:?}");
    let window = desktop.window();
    window.stands_at("The agent is not running").await;
    desktop.keep_picture("1-no-agent").await;

    window.press("Start the agent").await;
    window.stands_at("Welcome to Postern").await;
    desktop.keep_picture("2-first-run").await;
    window.types("Your organisation's address", &relay.address()).await;
    window.press("Sign in").await;
    window.sees("Finish signing in, in your browser").await;
    desktop.keep_picture("3-signing-in").await;
    let page = Browser::of("ada").sign_in(&desktop.opened(1).await).await;
    assert!(page.reply.status.is_success(), "{page:?}");
    window.stands_at("Connected").await;
    window.sees("wiki").await;
    desktop.keep_picture("4-home").await;
}
