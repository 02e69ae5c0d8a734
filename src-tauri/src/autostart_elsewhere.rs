//! By the plugin: a launch agent on macOS, the registry's `Run` on Windows.

use tauri::{AppHandle, Builder, Wry};
use tauri_plugin_autostart::{MacosLauncher, ManagerExt as _};

pub(super) fn prepare(builder: Builder<Wry>) -> Builder<Wry> {
    builder.plugin(tauri_plugin_autostart::init(MacosLauncher::LaunchAgent, Some(vec![crate::HIDDEN])))
}

pub(super) fn set(app: &AppHandle, on: bool) -> Result<(), String> {
    let autostart = app.autolaunch();
    let done = if on { autostart.enable() } else { autostart.disable() };
    done.map_err(|error| error.to_string())
}
