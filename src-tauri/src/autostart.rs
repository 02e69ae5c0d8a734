//! Start at login.

#[cfg(not(target_os = "linux"))]
#[path = "autostart_elsewhere.rs"]
mod platform;
#[cfg(target_os = "linux")]
#[path = "autostart_linux.rs"]
mod platform;

use postern_protocol::{Code, Problem};
use tauri::{AppHandle, Builder, Wry};

/// What the system needs for it, before the program is built.
pub(crate) fn prepare(builder: Builder<Wry>) -> Builder<Wry> {
    platform::prepare(builder)
}

/// Turns it on or off.
pub(crate) fn set(app: &AppHandle, on: bool) -> Result<(), Problem> {
    platform::set(app, on)
        .map_err(|detail| Problem::new(Code::ServiceFailed).detail(format!("start at login: {detail}")))
}
