//! How the program behaves: it remembers what was chosen, and it rests while nothing happens.

use crate::office::Office;
use postern_tests::stand_in_agent::Ear;
use postern_tests::{Desktop, World};
use std::time::{Duration, Instant};

/// How long it is watched while nothing happens.
const WATCHED: Duration = Duration::from_secs(10);
/// The aim is one in a hundred; machines differ.
const MOST_BUSY: f64 = 0.03;

#[tokio::test]
async fn theme_and_language_are_remembered() {
    let world = World::new();
    let mut desktop = Desktop::new(&world).await;
    let look =
        "return [document.documentElement.dataset.theme, document.documentElement.lang, document.documentElement.dir]";
    desktop.start().await;
    let window = desktop.window();
    window.press("Settings").await;
    let entry = desktop.config().join("autostart/Postern.desktop");
    window.click("//label[normalize-space()='Start at login']").await;
    window.until("an entry to start at login", async || entry.is_file().then_some(())).await;
    window.click("//label[normalize-space()='Start at login']").await;
    window.until("no entry any more", async || (!entry.exists()).then_some(())).await;
    window.chooses("Colours", "dark").await;
    window.chooses("Language", "ar").await;
    window.stands_at("الإعدادات").await;
    desktop.keep_picture("settings-dark-ar").await;
    assert_eq!(desktop.window().run(look).await, serde_json::json!(["dark", "ar", "rtl"]));
    desktop.quit().await;
    desktop.start().await;
    let window = desktop.window();
    window
        .until("dark and Arabic again", async || {
            (window.run(look).await == serde_json::json!(["dark", "ar", "rtl"])).then_some(())
        })
        .await;
}

#[tokio::test]
async fn while_nothing_happens_it_rests_and_asks_nothing() {
    let mut office = Office::open().await;
    office.sign_in_by_command().await;
    let ear = Ear::at(&office.desktop.state.join("agent.sock"));
    office.desktop.start().await.stands_at("Connected").await;
    office.window().sees("The wiki").await;
    office.desktop.keep_picture("at-rest").await;
    // WebKit has work for some seconds after a start, though not at once.
    postern_tests::eventually("the window settles", async || {
        (busy_for(&office, Duration::from_secs(5)).await < MOST_BUSY).then_some(())
    })
    .await;
    let before = ear.calls();
    assert!(before > 0, "it listens");
    let busy = busy_for(&office, WATCHED).await;
    eprintln!("desktop: idle, all its processes compute {:.2} % of one core over {WATCHED:?}", busy * 100.0);
    assert!(busy < MOST_BUSY, "{busy}");
    assert_eq!(ear.calls(), before, "events are pushed, never asked for");
    office.nothing_is_secret().await;
}

/// The share of one core that all the program's processes took meanwhile.
async fn busy_for(office: &Office, time: Duration) -> f64 {
    let computed = || office.desktop.processes().iter().map(|process| process.computed).sum::<Duration>();
    let (began, before) = (Instant::now(), computed());
    tokio::time::sleep(time).await;
    computed().saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64()
}
