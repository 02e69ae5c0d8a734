//! Without `--once`: everything runs until it is interrupted, and the person is told what to try.

use crate::failure::Failure;
use crate::keyring::find;
use crate::report::{bold, head, say};
use crate::sign_in::{SignIn, apps, status};
use crate::stage::{Scene, Stage};
use postern_protocol::local::State;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// The person takes their time.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Starts everything, lets the person sign in, says what there is to try, and waits.
pub(crate) async fn show(stage: &mut Stage) -> Result<(), Failure> {
    say("Starting a provider, a relay, three apps and an agent.");
    let scene = stage.raise(false).await?;
    let desktop = stage.open_desktop(&scene);
    let outcome = tokio::select! {
        outcome = sign_in(&scene, desktop) => outcome,
        failure = stage.fell() => return Err(failure),
    };
    if let Err(failure) = outcome {
        say(&format!("\nThe sign-in did not work: {failure}\n\nTry again:\n  {}", login(&scene)));
    } else {
        what_to_try(&scene).await?;
    }
    say(&format!("\n{}", bold("Ctrl-C ends everything and removes it.")));
    Err(stage.fell().await)
}

async fn sign_in(scene: &Scene, desktop: bool) -> Result<(), Failure> {
    if desktop {
        return sign_in_at_desktop(scene).await;
    }
    let mut login = SignIn::begin(scene).await?;
    let opened = open_browser(&login.url);
    head("Sign in");
    say(if opened {
        "Your browser opens. If it does not, open this address:"
    } else {
        "Open this address in a browser on this machine:"
    });
    say(&format!("\n  {}\n\nYou may be ada (password lovelace) or grace (password hopper).", login.url));
    login.process.finish().await
}

async fn sign_in_at_desktop(scene: &Scene) -> Result<(), Failure> {
    head("Sign in");
    say(&format!("The desktop opens. Your organisation's address is\n\n  {}", bold(&scene.address)));
    say("\nYou may be ada (password lovelace) or grace (password hopper).");
    while status(scene).await?.state != State::Online {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// With the person's own environment: it is their browser, not the agent's.
fn open_browser(url: &str) -> bool {
    let display = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    let Some(opener) = find("xdg-open").filter(|_| display) else { return false };
    let quiet = || Stdio::null();
    Command::new(opener).arg(url).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn().is_ok()
}

async fn what_to_try(scene: &Scene) -> Result<(), Failure> {
    let (status, apps) = (status(scene).await?, apps(scene).await?);
    let name = status.principal.as_ref().and_then(|who| who.name.as_deref()).unwrap_or("you");
    head(&format!("{name} is signed in. Your apps:"));
    for app in &apps.apps {
        let verdict = if app.entry.allowed { "" } else { " (denied: see why)" };
        say(&format!("  {:<8} {:<32} {}{verdict}", app.entry.name.as_str(), app.local, app.entry.description));
    }
    let (state, relay) = (quoted(&scene.state), quoted(&scene.relay_toml));
    let (postern, postern_relay) = (quoted(&scene.bin.join("postern")), quoted(&scene.bin.join("postern-relay")));
    let port = scene.http_port;
    let subject = status.principal.as_ref().map_or("ada", |who| who.subject.as_str());
    let mut text = String::new();
    for (what, command) in [
        ("See who you are to an app (a browser shows a page)", format!("curl http://whoami.localhost:{port}/")),
        ("Be refused, and read why", format!("curl http://vault.localhost:{port}/")),
        ("Talk TCP over stdio", format!("echo hello | {postern} connect echo --state-dir {state}")),
        ("See the session, the device and its certificate", format!("{postern} status --state-dir {state}")),
        ("Sign out", format!("{postern} logout --state-dir {state}")),
        ("Sign in again", login(scene)),
        (
            "As administrator: cut the user off, then try again",
            format!("{postern_relay} revoke user {subject} --config {relay}"),
        ),
        ("As administrator: let the user back in", format!("{postern_relay} restore user {subject} --config {relay}")),
        ("As administrator: prove the audit log", format!("{postern_relay} audit verify --config {relay}")),
        ("Watch the decisions", format!("tail -f {}", quoted(&scene.audit))),
    ] {
        let _ = write!(text, "\n  {what}:\n    {command}\n");
    }
    head("Try, in another terminal:");
    say(&text);
    if scene.bin.join("postern-desktop").is_file() {
        say(&format!("  Open the desktop again, where its window was closed:\n    {}\n", desktop(scene)));
    }
    Ok(())
}

fn login(scene: &Scene) -> String {
    let (postern, state, ca) = (quoted(&scene.bin.join("postern")), quoted(&scene.state), quoted(&scene.authority));
    let memory = if scene.keyring { "" } else { " --memory-only" };
    format!("{postern} login {} --no-browser --ca {ca} --state-dir {state}{memory}", scene.address)
}

fn desktop(scene: &Scene) -> String {
    let settings = scene.desktop_settings().into_iter();
    let settings: String = settings.map(|(name, value)| format!("{name}={} ", quoted(Path::new(&value)))).collect();
    format!("env {settings}{}", quoted(&scene.bin.join("postern-desktop")))
}

/// As a shell reads it back.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell() {
        assert_eq!(quoted(Path::new("/tmp/postern-demo-1/agent")), "/tmp/postern-demo-1/agent");
        assert_eq!(quoted(Path::new("/tmp/it's here")), r"'/tmp/it'\''s here'");
    }
}
