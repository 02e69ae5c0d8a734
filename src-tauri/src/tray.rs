//! The tray: where the agent stands, the apps, sign in and out, quit. Where there is no tray the window alone serves.

#[cfg(target_os = "linux")]
#[path = "tray/host_linux.rs"]
pub(crate) mod host;
#[cfg(not(target_os = "linux"))]
#[path = "tray/host_elsewhere.rs"]
pub(crate) mod host;

use crate::feed::{Feed, Known};
use crate::model::{Language, View};
use crate::shell::Shell;
use crate::words::{Words, words};
use crate::{model::DesktopEvent, window};
use postern_protocol::AppName;
use postern_protocol::control::AppKind;
use postern_protocol::local::{Carrier, State};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tauri::menu::{Menu, MenuEvent, MenuItem, PredefinedMenuItem};
use tauri::tray::{TrayIcon, TrayIconBuilder};
use tauri::{AppHandle, Manager as _};
use tokio::sync::broadcast::error::RecvError;

/// More would not fit a menu; the window has them all.
const MOST_APPS: usize = 12;
const APP: &str = "app:";

/// Has an icon been made?
static ICON: AtomicBool = AtomicBool::new(false);

/// What the menu shows. It is built again only when this changes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    language: Language,
    line: String,
    apps: Vec<AppName>,
    signed_in: Option<bool>,
}

/// Makes it and keeps it true until the program ends.
pub(crate) async fn watch(app: AppHandle, feed: Arc<Feed>) {
    let mut changes = feed.watch();
    let mut shown = None;
    let mut icon = None;
    loop {
        let now = look(&feed);
        if now != shown
            && let Some(menu) = now.as_ref()
        {
            icon = put(&app, icon, menu).await;
            ICON.store(icon.is_some(), Ordering::SeqCst);
            if icon.is_none() {
                return;
            }
            shown = now;
        }
        loop {
            match changes.recv().await {
                Err(RecvError::Closed) => return,
                Ok(DesktopEvent::Agent { .. } | DesktopEvent::AgentGone { .. } | DesktopEvent::Preferences { .. })
                | Err(RecvError::Lagged(_)) => break,
                Ok(_) => {}
            }
        }
    }
}

fn look(feed: &Feed) -> Option<Shown> {
    let preferences = feed.preferences();
    let words = words(preferences.language)?;
    let known = feed.known(&preferences.selected);
    let state = known.as_ref().and_then(Known::state);
    let apps = known.as_ref().filter(|_| state == Some(State::Online)).map(|known| &*known.apps).unwrap_or_default();
    let favourites = preferences.favourites.get(&preferences.selected).map(Vec::as_slice).unwrap_or_default();
    let mut names: Vec<_> = apps
        .iter()
        .filter(|app| app.entry.allowed && app.entry.kind == AppKind::Http && app.problem.is_none())
        .map(|app| app.entry.name.clone())
        .collect();
    names.sort_by_key(|name| !favourites.contains(name));
    names.truncate(MOST_APPS);
    let signed_in = state.map(|state| !matches!(state, State::SignedOut | State::Expired | State::Revoked));
    let carrier = known.and_then(|known| known.status).and_then(|status| status.carrier);
    Some(Shown { language: preferences.language, line: line(state, carrier, words).into(), apps: names, signed_in })
}

fn line(state: Option<State>, carrier: Option<Carrier>, words: &Words) -> &str {
    match (state, carrier) {
        (None, _) => &words.no_agent,
        (Some(State::SignedOut), _) => &words.signed_out,
        (Some(State::SigningIn | State::Enrolling), _) => &words.signing_in,
        (Some(State::Connecting), _) => &words.connecting,
        (Some(State::Online), Some(Carrier::Tcp)) => &words.degraded,
        (Some(State::Online), _) => &words.online,
        (Some(State::Offline), _) => &words.offline,
        (Some(State::Expired), _) => &words.expired,
        (Some(State::Revoked), _) => &words.revoked,
    }
}

/// Menus are made on the main thread, where the system wants them.
async fn put(app: &AppHandle, icon: Option<TrayIcon>, shown: &Shown) -> Option<TrayIcon> {
    let (told, made) = tokio::sync::oneshot::channel();
    let (handle, shown) = (app.clone(), shown.clone());
    let queued = app.run_on_main_thread(move || {
        let _ = told.send(put_now(&handle, icon, &shown));
    });
    match (queued, made.await) {
        (Ok(()), Ok(Ok(icon))) => Some(icon),
        (_, Ok(Err(error))) => {
            tracing::info!(%error, "this system has no tray");
            None
        }
        _ => None,
    }
}

fn put_now(app: &AppHandle, icon: Option<TrayIcon>, shown: &Shown) -> tauri::Result<TrayIcon> {
    let menu = menu(app, shown)?;
    if let Some(icon) = icon {
        icon.set_menu(Some(menu))?;
        icon.set_tooltip(Some(format!("Postern: {}", shown.line)))?;
        return Ok(icon);
    }
    let mut builder = TrayIconBuilder::with_id("postern").menu(&menu).on_menu_event(chosen);
    if let Some(image) = app.default_window_icon() {
        builder = builder.icon(image.clone());
    }
    builder.tooltip(format!("Postern: {}", shown.line)).build(app)
}

fn menu(app: &AppHandle, shown: &Shown) -> tauri::Result<Menu<tauri::Wry>> {
    let Some(words) = words(shown.language) else { return Menu::new(app) };
    let item = |id: &str, text: &str, enabled| MenuItem::with_id(app, id, text, enabled, None::<&str>);
    let menu = Menu::new(app)?;
    menu.append(&item("state", &shown.line, false)?)?;
    menu.append(&item("open", &words.open, true)?)?;
    if !shown.apps.is_empty() {
        menu.append(&PredefinedMenuItem::separator(app)?)?;
    }
    for name in &shown.apps {
        menu.append(&item(&format!("{APP}{name}"), name.as_str(), true)?)?;
    }
    menu.append(&PredefinedMenuItem::separator(app)?)?;
    match shown.signed_in {
        Some(true) => menu.append(&item("sign_out", &words.sign_out, true)?)?,
        Some(false) => menu.append(&item("sign_in", &words.sign_in, true)?)?,
        None => {}
    }
    menu.append(&item("quit", &words.quit, true)?)?;
    Ok(menu)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that Tauri calls")]
fn chosen(app: &AppHandle, event: MenuEvent) {
    let Some(shell) = app.try_state::<Arc<Shell>>() else { return };
    let shell = Arc::clone(&shell);
    let organisation = shell.feed.preferences().selected;
    let id = event.id().as_ref();
    match id {
        "open" => window::show(app),
        "quit" => app.exit(0),
        "sign_in" => {
            // The address may be wanted, and the steps should be seen.
            window::show(app);
            shell.feed.publish(DesktopEvent::Show { view: View::Home });
        }
        "sign_out" => {
            // The window says who could not be told of it, and asks before.
            window::show(app);
            shell.feed.publish(DesktopEvent::Show { view: View::Session });
        }
        _ => {
            let Some(Ok(name)) = id.strip_prefix(APP).map(str::parse::<AppName>) else { return };
            if let Err(problem) = shell.open_app(&organisation, &name) {
                tracing::warn!(code = %problem.code, detail = problem.detail, "an app was not opened");
                window::show(app);
            }
        }
    }
}

/// Is there an icon by which a hidden window can be found again?
pub(crate) async fn is_up() -> bool {
    ICON.load(Ordering::SeqCst) && host::exists().await
}
