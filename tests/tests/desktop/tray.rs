//! The tray: it tells the state, opens apps and windows, and quits; without one a closed window is the program's end.

use crate::office::Office;
use postern_tests::{Desktop, Screen, Tray, World, eventually};

const TITLE: &str = "Postern";

fn runs(desktop: &Desktop) -> bool {
    desktop.processes().iter().any(|process| process.name.starts_with("postern-desktop"))
}

async fn ends(desktop: &Desktop) {
    eventually("the program ends", async || (!runs(desktop)).then_some(())).await;
}

#[tokio::test]
async fn the_tray_tells_the_state_opens_apps_and_outlives_the_window() {
    let mut office = Office::open().await;
    office.sign_in_by_command().await;
    office.desktop.start().await.stands_at("Connected").await;
    // As a panel that starts after the program, or anew.
    let tray = Tray::on(&office.desktop.bus()).await;
    let screen = Screen::of(office.desktop.display());
    let menu = tray.shows(&["Online", "Open Postern", "wiki", "Sign out", "Quit"]).await;
    assert!(!menu[0].enabled, "the state is not to be chosen");
    assert!(menu.iter().all(|line| line.label != "vault"), "what is denied is not offered: {menu:?}");

    let before = office.desktop.all_opened().len();
    tray.choose("wiki").await;
    let (_, authority) = office.place_of("wiki").await;
    assert_eq!(office.desktop.opened(before + 1).await, format!("http://{authority}/"));

    screen.until(TITLE, true).await;
    screen.close(TITLE);
    screen.until(TITLE, false).await;
    assert!(runs(&office.desktop), "it lives on in the tray");
    tray.choose("Open Postern").await;
    screen.until(TITLE, true).await;

    tray.choose("Sign out").await;
    office.window().stands_at("Session").await;
    office.desktop.postern(&["logout"]).await.ok();
    let menu = tray.shows(&["Signed out", "Sign in …", "Quit"]).await;
    assert!(menu.iter().all(|line| line.label != "wiki"), "{menu:?}");
    tray.choose("Quit").await;
    ends(&office.desktop).await;
    assert_eq!(office.desktop.status().await["state"], "signed_out", "the agent runs on");
}

#[tokio::test]
async fn without_a_tray_a_closed_window_is_the_end() {
    let world = World::new();
    let mut desktop = Desktop::new(&world).await;
    desktop.start().await.stands_at("The agent is not running").await;
    let screen = Screen::of(desktop.display());
    screen.until(TITLE, true).await;
    screen.close(TITLE);
    ends(&desktop).await;
}
