//! The desktop: window and tray of an employee. It holds no secret and opens no network connection: all it knows comes from
//! the agents' local API, and all it does they do.

// Without this a terminal opens beside the window.
#![cfg_attr(all(windows, not(debug_assertions)), windows_subsystem = "windows")]

mod autostart;
mod bundle;
mod commands;
mod feed;
mod follow;
mod model;
mod notices;
mod open;
mod organisations;
mod preferences;
mod program;
mod shell;
mod tray;
#[cfg(test)]
mod typescript;
mod window;
mod words;

use organisations::Places;
use preferences::PreferencesFile;
use shell::Shell;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use tauri::{App, Manager as _, RunEvent, WindowEvent};

/// Starts in the tray alone, as at login.
const HIDDEN: &str = "--hidden";
const HELP: &str = "Usage: postern-desktop [--hidden]\n\nOpens Postern's window. --hidden starts it in the tray, where there is one.\n";

fn main() -> ExitCode {
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            HIDDEN => {}
            "--version" | "-V" => return say(&format!("postern-desktop {}\n", env!("CARGO_PKG_VERSION")), true),
            "--help" | "-h" => return say(HELP, true),
            _ => {
                say(HELP, false);
                return ExitCode::from(2);
            }
        }
    }
    if cfg!(target_os = "linux") && ["DISPLAY", "WAYLAND_DISPLAY"].iter().all(|name| std::env::var_os(name).is_none()) {
        return say("postern-desktop needs a display. Without one, use: postern login\n", false);
    }
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_max_level(tracing::Level::INFO).init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => say(&format!("postern-desktop could not start: {error}\n"), false),
    }
}

fn say(text: &str, good: bool) -> ExitCode {
    // Nobody need be reading.
    if good {
        let _ = std::io::stdout().write_all(text.as_bytes());
        return ExitCode::SUCCESS;
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::FAILURE
}

fn run() -> tauri::Result<()> {
    // First, so that a second start does nothing else.
    let builder = tauri::Builder::default()
        .plugin(tauri_plugin_single_instance::init(|app, _, _| window::show(app)))
        .plugin(tauri_plugin_opener::Builder::new().open_js_links_on_click(false).build())
        .plugin(tauri_plugin_clipboard_manager::init())
        .plugin(tauri_plugin_notification::init());
    let app = autostart::prepare(builder)
        .invoke_handler(tauri::generate_handler![
            commands::subscribe,
            commands::start_agent,
            commands::restart_agent,
            commands::install_agent,
            commands::uninstall_agent,
            commands::add_organisation,
            commands::remove_organisation,
            commands::login,
            commands::reopen_sign_in,
            commands::cancel_login,
            commands::logout,
            commands::open_app,
            commands::activity,
            commands::doctor,
            commands::logs,
            commands::save_bundle,
            commands::agent_settings,
            commands::set_agent_settings,
            commands::set_preferences,
            commands::copy,
        ])
        .setup(|app| Ok(set_up(app)?))
        .build(tauri::generate_context!())?;
    app.run(|app, event| {
        if let RunEvent::WindowEvent { event: WindowEvent::CloseRequested { api, .. }, .. } = event {
            api.prevent_close();
            let app = app.clone();
            tauri::async_runtime::spawn(async move { put_away(&app).await });
        }
    });
    Ok(())
}

fn set_up(app: &App) -> tauri::Result<()> {
    let handle = app.handle().clone();
    let places = Places::find().map_err(|problem| std::io::Error::other(problem.to_string()))?;
    let preferences = PreferencesFile::in_dir(&app.path().app_config_dir()?);
    let shell = Arc::new(Shell::new(handle.clone(), places, preferences));
    app.manage(Arc::clone(&shell));
    let hidden = std::env::args().any(|argument| argument == HIDDEN) && shell.feed.preferences().start_hidden;
    window::make(&handle, !hidden)?;
    let feed = Arc::clone(&shell.feed);
    tauri::async_runtime::spawn(async move { shell.begin().await });
    tauri::async_runtime::spawn(notices::watch(handle.clone(), Arc::clone(&feed)));
    tauri::async_runtime::spawn(async move {
        if hidden && !tray::host::exists().await {
            window::show(&handle);
        }
        tray::host::appears().await;
        tray::watch(handle, feed).await;
    });
    Ok(())
}

/// A closed window stays in the tray; without a tray the program ends. The agent runs on either way.
async fn put_away(app: &tauri::AppHandle) {
    let window = app.get_webview_window(window::LABEL);
    let hidden = tray::is_up().await && window.is_some_and(|window| window.hide().is_ok());
    if !hidden {
        app.exit(0);
    }
}
