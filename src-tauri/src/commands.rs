//! The commands: all that the pages may ask for. Each is listed in `build.rs` and in the one capability, and none takes an
//! address, a path or a program. A refusal is a problem document.
#![expect(clippy::unreachable, reason = "in what Tauri's macro writes around an async command")]

use crate::model::{DesktopEvent, LoginWish, Preferences};
use crate::organisations::OrganisationId;
use crate::program::Act;
use crate::shell::Shell;
use crate::{autostart, bundle};
use postern_protocol::local::{Activity, Finding, Logs, Settings, SignedOut};
use postern_protocol::{AppName, Code, Problem};
use std::sync::Arc;
use tauri::ipc::Channel;
use tauri::{AppHandle, State};
use tauri_plugin_clipboard_manager::ClipboardExt as _;

/// Most bytes that are put on the clipboard: ids, addresses and command lines are short.
const MAX_COPIED: usize = 4096;

type Desktop<'a> = State<'a, Arc<Shell>>;

#[tauri::command]
pub(crate) async fn subscribe(shell: Desktop<'_>, channel: Channel<DesktopEvent>) -> Result<(), Problem> {
    shell.feed.attach(channel);
    Ok(())
}

#[tauri::command]
pub(crate) async fn start_agent(shell: Desktop<'_>, organisation: OrganisationId) -> Result<(), Problem> {
    shell.perform(Act::Start, &organisation).await
}

#[tauri::command]
pub(crate) async fn restart_agent(shell: Desktop<'_>, organisation: OrganisationId) -> Result<(), Problem> {
    shell.perform(Act::Stop, &organisation).await?;
    shell.perform(Act::Start, &organisation).await
}

#[tauri::command]
pub(crate) async fn install_agent(shell: Desktop<'_>, organisation: OrganisationId) -> Result<(), Problem> {
    shell.perform(Act::Install, &organisation).await
}

#[tauri::command]
pub(crate) async fn uninstall_agent(shell: Desktop<'_>, organisation: OrganisationId) -> Result<(), Problem> {
    shell.perform(Act::Uninstall, &organisation).await
}

#[tauri::command]
pub(crate) async fn add_organisation(shell: Desktop<'_>) -> Result<OrganisationId, Problem> {
    shell.add_organisation().await
}

#[tauri::command]
pub(crate) async fn remove_organisation(shell: Desktop<'_>, organisation: OrganisationId) -> Result<(), Problem> {
    shell.remove_organisation(&organisation).await
}

#[tauri::command]
pub(crate) async fn login(shell: Desktop<'_>, organisation: OrganisationId, request: LoginWish) -> Result<(), Problem> {
    Arc::clone(&shell).login(organisation, request).await
}

#[tauri::command]
pub(crate) async fn reopen_sign_in(shell: Desktop<'_>, organisation: OrganisationId) -> Result<(), Problem> {
    shell.reopen_sign_in(&organisation)
}

#[tauri::command]
pub(crate) async fn cancel_login(shell: Desktop<'_>, organisation: OrganisationId) -> Result<(), Problem> {
    shell.client(&organisation)?.cancel_login().await
}

#[tauri::command]
pub(crate) async fn logout(shell: Desktop<'_>, organisation: OrganisationId) -> Result<SignedOut, Problem> {
    shell.client(&organisation)?.logout().await
}

#[tauri::command]
pub(crate) async fn open_app(shell: Desktop<'_>, organisation: OrganisationId, app: AppName) -> Result<(), Problem> {
    shell.open_app(&organisation, &app)
}

#[tauri::command]
pub(crate) async fn activity(shell: Desktop<'_>, organisation: OrganisationId) -> Result<Activity, Problem> {
    shell.client(&organisation)?.activity().await
}

#[tauri::command]
pub(crate) async fn doctor(shell: Desktop<'_>, organisation: OrganisationId) -> Result<Vec<Finding>, Problem> {
    shell.doctor(&organisation).await
}

#[tauri::command]
pub(crate) async fn logs(shell: Desktop<'_>, organisation: OrganisationId) -> Result<Logs, Problem> {
    shell.client(&organisation)?.logs().await
}

#[tauri::command]
pub(crate) async fn save_bundle(
    app: AppHandle,
    shell: Desktop<'_>,
    organisation: OrganisationId,
) -> Result<String, Problem> {
    let bundle = shell.client(&organisation)?.bundle().await?;
    bundle::save(&app, &bundle)
}

#[tauri::command]
pub(crate) async fn agent_settings(shell: Desktop<'_>, organisation: OrganisationId) -> Result<Settings, Problem> {
    shell.client(&organisation)?.settings().await
}

#[tauri::command]
pub(crate) async fn set_agent_settings(
    shell: Desktop<'_>,
    organisation: OrganisationId,
    settings: Settings,
) -> Result<Settings, Problem> {
    shell.client(&organisation)?.set_settings(&settings).await
}

#[tauri::command]
pub(crate) async fn set_preferences(
    app: AppHandle,
    shell: Desktop<'_>,
    preferences: Preferences,
) -> Result<Preferences, Problem> {
    if preferences.start_at_login != shell.feed.preferences().start_at_login {
        autostart::set(&app, preferences.start_at_login)?;
    }
    shell.set_preferences(preferences)
}

#[tauri::command]
pub(crate) async fn copy(app: AppHandle, text: String) -> Result<(), Problem> {
    if text.len() > MAX_COPIED {
        return Err(Problem::new(Code::RequestInvalid).detail(format!("at most {MAX_COPIED} bytes are copied")));
    }
    let copied = app.clipboard().write_text(text);
    copied.map_err(|error| Problem::new(Code::Internal).detail(format!("the clipboard: {error}")))
}
