//! Builds in the pages and the list of commands that they may call.

use std::path::Path;
use tauri_build::{AppManifest, Attributes};

/// All of `src/commands.rs`.
const COMMANDS: &[&str] = &[
    "subscribe",
    "start_agent",
    "restart_agent",
    "install_agent",
    "uninstall_agent",
    "add_organisation",
    "remove_organisation",
    "login",
    "reopen_sign_in",
    "cancel_login",
    "logout",
    "open_app",
    "activity",
    "doctor",
    "logs",
    "save_bundle",
    "agent_settings",
    "set_agent_settings",
    "set_preferences",
    "copy",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pages = Path::new("../ui/dist/index.html");
    println!("cargo:rerun-if-changed={}", pages.display());
    if !pages.exists() {
        return Err("the window's pages are not built yet; run: cargo xtask ui".into());
    }
    tauri_build::try_build(Attributes::new().app_manifest(AppManifest::new().commands(COMMANDS)))?;
    Ok(())
}
