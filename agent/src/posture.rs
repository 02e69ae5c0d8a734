//! The device's state as far as the agent can see it without being root. What it cannot see it leaves out.
//!
//! Each system names the tools it asks and reads their answers in a function of its own, which is tested on any system
//! with answers that were recorded. Nothing here goes through a shell.

#[cfg(any(target_os = "linux", test))]
mod linux;
#[cfg(any(target_os = "macos", test))]
mod macos;
pub(crate) mod tools;
#[cfg(any(windows, test))]
mod windows;

use postern_protocol::control::Posture;
use postern_protocol::problem::printable;
use tools::{Said, Tool};

/// Most characters of a text in a report; the relay takes 128.
const MAX_TEXT: usize = 100;

/// How one kind of system tells its state.
trait System: Send + 'static {
    /// What to ask.
    fn tools(&self) -> &'static [Tool];
    /// Fills in what the answers, and files that everyone may read, tell.
    fn tell(&self, said: &Said, posture: &mut Posture);
}

/// Looks now. `key_storage` is where the device key lives.
pub async fn observe(key_storage: &str) -> Posture {
    let blank = Posture {
        os: std::env::consts::OS.into(),
        os_version: "unknown".into(),
        agent_version: env!("CARGO_PKG_VERSION").into(),
        key_storage: key_storage.into(),
        ..Posture::default()
    };
    match here() {
        Some(system) => look(system, blank).await,
        None => blank,
    }
}

async fn look(system: impl System, blank: Posture) -> Posture {
    let said = tools::ask(system.tools()).await;
    let mut posture = blank.clone();
    let seen = tokio::task::spawn_blocking(move || {
        system.tell(&said, &mut posture);
        posture
    });
    seen.await.unwrap_or(blank)
}

#[cfg(target_os = "linux")]
#[expect(clippy::unnecessary_wraps, reason = "other systems have none")]
fn here() -> Option<impl System> {
    Some(linux::Linux::this())
}

#[cfg(target_os = "macos")]
fn here() -> Option<impl System> {
    Some(macos::MacOs)
}

#[cfg(windows)]
fn here() -> Option<impl System> {
    Some(windows::Windows)
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
fn here() -> Option<tools::Nothing> {
    None
}

/// A text of somebody else's, fit for a report.
fn short(text: &str) -> Option<String> {
    let text: String = printable(text.trim()).chars().take(MAX_TEXT).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tells_what_it_can_see() {
        let posture = observe("keyring").await;
        assert_eq!((posture.os.as_str(), posture.key_storage.as_str()), (std::env::consts::OS, "keyring"));
        assert_eq!(posture.agent_version, env!("CARGO_PKG_VERSION"));
        assert!(!posture.os_version.is_empty());
        assert!(posture.kernel_version.is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit())));
    }
}
