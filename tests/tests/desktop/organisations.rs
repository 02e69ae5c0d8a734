//! A second organisation beside the first: its own agent, sign-in and apps; and its end, also where its agent has ended before.

use crate::office::Office;
use postern_tests::Browser;

#[tokio::test]
async fn a_second_organisation_comes_and_leaves_nothing() {
    let mut office = Office::open().await;
    office.sign_in_by_command().await;
    office.desktop.start().await.stands_at("Connected").await;
    let first = office.desktop.status().await["session"]["id"].clone();
    let window = office.window();
    window.press("Settings").await;
    window.press("Add an organisation").await;
    window.stands_at("Welcome to Postern").await;
    let state = office.desktop.state.join("organisations/organisation-2");
    let of_second = |arguments: &[&str]| {
        let place = state.display().to_string();
        [&["--state-dir", &place], arguments].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let second = async |arguments: &[&str]| {
        let arguments = of_second(arguments);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        office.desktop.postern(&arguments).await
    };
    // Which authority it is to trust an administrator would say; it is read when the agent starts.
    second(&["agent", "stop"]).await.ok();
    let config = format!("ca_file = \"{}\"\n", office.relay.authority_file().display());
    std::fs::write(state.join("config.toml"), config).unwrap();
    window.press("Start the agent").await;
    window.stands_at("Welcome to Postern").await;

    let opened = office.desktop.all_opened().len();
    window.types("Your organisation's address", &office.relay.address()).await;
    window.press("Sign in").await;
    let page = Browser::of("ada").sign_in(&office.desktop.opened(opened + 1).await).await;
    assert!(page.reply.status.is_success(), "{page:?}");
    window.stands_at("Connected").await;
    let session = second(&["status", "--json"]).await.json()["session"]["id"].clone();
    assert!(session.is_string() && session != first, "{session}");
    assert_eq!(office.desktop.status().await["session"]["id"], first, "the first goes on");

    // Its keys can only be wiped, and its session ended, by its agent: that is started for it.
    second(&["agent", "stop"]).await.ok();
    window.stands_at("The agent is not running").await;
    window.press("Settings").await;
    window.click("//button[starts-with(@aria-label, 'Remove ')]").await;
    window.click("//*[@role='alertdialog']//button[normalize-space()='Remove']").await;
    let ended = office.relay.audited("its end", |record| record["event"] == "sign_out" && record["session"] == session);
    ended.await;
    postern_tests::eventually("its directory is gone", async || (!state.exists()).then_some(())).await;
    window.press("Home").await;
    window.stands_at("Connected").await;
    assert_eq!(office.desktop.status().await["session"]["id"], first);
    office.desktop.keep_picture("after-removal").await;
    office.nothing_is_secret().await;
}
