//! A day at the window: from a machine without an agent, through apps, a refusal and a revocation, to being signed out.

use crate::office::Office;
use postern_tests::client::get;
use postern_tests::{Browser, eventually};
use std::time::Duration;

/// A window may take this long on a machine that is busy with other tests; the figure is printed.
const START: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_day_at_the_window() {
    let mut office = Office::open().await;
    office.desktop.start().await;
    let (painted, ready) = office.desktop.start_times().await;
    eprintln!("desktop: pages ready {ready:.2?} after the program's start, first picture {painted:.2?}");
    assert!(painted < START && ready < START, "{painted:?} {ready:?}");

    first_run(&office).await;
    let session = office.desktop.status().await["session"]["id"].as_str().unwrap().to_owned();
    office.nothing_is_secret().await;
    an_app_is_opened(&office).await;
    an_app_is_denied(&office).await;
    an_app_asks_for_more(&office).await;
    assert_eq!(office.desktop.status().await["session"]["id"], session.as_str(), "it is the same session");
    access_is_withdrawn(&office, &session).await;
    office.nothing_is_secret().await;
    signing_out(&office).await;
}

/// No agent; start it; the address; the browser; each step; home.
async fn first_run(office: &Office) {
    let (desktop, window) = (&office.desktop, office.window());
    window.stands_at("The agent is not running").await;
    desktop.keep_picture("1-no-agent").await;
    window.press("Start the agent").await;
    window.stands_at("Welcome to Postern").await;
    desktop.keep_picture("2-first-run").await;
    window.types("Your organisation's address", &office.relay.address()).await;
    window.press("Sign in").await;
    window.sees("Finish signing in, in your browser").await;
    desktop.keep_picture("3-signing-in").await;
    let url = desktop.opened(1).await;
    window.press("Open the page again").await;
    assert_eq!(desktop.opened(2).await, url, "the same page once more");
    window.press("Cancel sign-in").await;
    window.stands_at("Sign-in cancelled").await;
    desktop.keep_picture("4-cancelled").await;
    // What was typed is still there.
    window.press("Sign in").await;
    let page = Browser::of("ada").sign_in(&desktop.opened(3).await).await;
    assert!(page.reply.status.is_success(), "{page:?}");
    window.stands_at("Connected").await;
    window.sees("The wiki").await;
    desktop.keep_picture("5-home").await;
}

/// The browser gets the app's own address, and nothing that the app answers leads the desktop elsewhere.
async fn an_app_is_opened(office: &Office) {
    let (address, authority) = office.place_of("wiki").await;
    office.window().press("Open wiki").await;
    assert_eq!(office.desktop.opened(4).await, format!("http://{authority}/"));
    assert_eq!(get(address, &authority, "/").await.text(), "the wiki");
    assert_eq!(get(address, &authority, "/away").await.header("location"), "http://127.0.0.1:9/elsewhere");
    assert_eq!(office.wiki.requests().len(), 2);
    assert_eq!(office.desktop.all_opened().len(), 4, "A19: a redirect is the browser's affair");
}

/// What was refused, why, by which decision, and what to do.
async fn an_app_is_denied(office: &Office) {
    let window = office.window();
    let (address, authority) = office.place_of("vault").await;
    let reply = get(address, &authority, "/plans").await;
    assert_eq!(reply.refusal(), (403, "policy_denied"));
    let decision = reply.header("postern-decision").to_owned();
    window.sees("vault was denied").await;
    office.desktop.keep_picture("6-denied-notice").await;
    window.keys(&["\u{e009}", "4"]).await;
    window.stands_at("Activity").await;
    window.sees("GET /plans").await;
    window.sees("The vault is for its keepers only.").await;
    window.press("What to do").await;
    window.sees("Ask security@corp.example to make you a keeper.").await;
    window.press(&format!("Copy decision id {decision}")).await;
    window.sees("Copied: Decision").await;
    office.desktop.keep_picture("7-activity").await;
    let record = office.relay.audited("the refusal", |record| record["decision"] == decision.as_str()).await;
    assert_eq!((&record["app"], &record["path"]), (&"vault".into(), &"/plans".into()), "{record}");
    window.press("Home").await;
}

/// An app that wants a stronger sign-in says so, and gets it before anybody asked for the app; the session goes on.
async fn an_app_asks_for_more(office: &Office) {
    let window = office.window();
    window.sees("Payroll wants a sign-in with a hardware key.").await;
    window.press("Sign in once more").await;
    let page = office.desktop.opened(5).await;
    assert!(page.contains("acr_values=phr"), "{page}");
    let page = Browser::of("ada").sign_in(&page).await;
    assert!(page.reply.status.is_success(), "{page:?}");
    window.press("Open payroll").await;
    let (address, authority) = office.place_of("payroll").await;
    assert_eq!(get(address, &authority, "/slips").await.text(), "GET /slips");
    assert_eq!(office.desktop.opened(6).await, format!("http://{authority}/"));
    office.desktop.keep_picture("8-stronger").await;
}

/// The organisation withdraws the session: the window says so at once, and a new sign-in is offered.
async fn access_is_withdrawn(office: &Office, session: &str) {
    let window = office.window();
    office.relay.revoke("session", session).await.ok();
    window.stands_at("Access was withdrawn").await;
    office.desktop.keep_picture("9-revoked").await;
    let before = office.desktop.all_opened().len();
    window.press("Sign in to Example Corp").await;
    let page = Browser::of("ada").sign_in(&office.desktop.opened(before + 1).await).await;
    assert!(page.reply.status.is_success(), "{page:?}");
    window.stands_at("Connected").await;
    assert_ne!(office.desktop.status().await["session"]["id"], session);
}

/// The way out asks before, and leaves nothing.
async fn signing_out(office: &Office) {
    let window = office.window();
    window.press("Session").await;
    window.stands_at("Session").await;
    office.desktop.keep_picture("10-session").await;
    window.press("Sign out").await;
    window.sees("Sign out of Example Corp?").await;
    office.desktop.keep_picture("11-sign-out").await;
    window.click("//*[@role='alertdialog']//button[normalize-space()='Sign out']").await;
    window.stands_at("Signed out").await;
    office.desktop.keep_picture("12-signed-out").await;
    eventually("the agent has signed out", async || {
        (office.desktop.status().await["state"] == "signed_out").then_some(())
    })
    .await;
}
