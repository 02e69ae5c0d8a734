//! `devices` and `sessions`: what the store knows, read beside a running relay.

use super::Failure;
use super::output::Output;
use crate::config::Outline;
use crate::store::Store;

pub(super) async fn devices(outline: &Outline, output: Output) -> Result<(), Failure> {
    let devices = open(outline).await?.devices().await.map_err(Failure::message)?;
    if output.json {
        output.json(&devices);
        return Ok(());
    }
    let rows: Vec<_> = devices
        .iter()
        .map(|device| {
            let state = if device.revoked { "revoked" } else { "" };
            [
                device.id.to_string(),
                device.owner.subject().to_owned(),
                device.name.clone(),
                device.seen.to_string(),
                state.to_owned(),
            ]
        })
        .collect();
    output.table(["device", "owner", "name", "last certificate", "state"], &rows);
    Ok(())
}

pub(super) async fn sessions(outline: &Outline, all: bool, output: Output) -> Result<(), Failure> {
    let sessions = open(outline).await?.sessions(all).await.map_err(Failure::message)?;
    if output.json {
        output.json(&sessions);
        return Ok(());
    }
    let rows: Vec<_> = sessions
        .iter()
        .map(|session| {
            let who = session.email.clone().unwrap_or_else(|| session.principal.subject().to_owned());
            let ended = session.ended.map_or_else(String::new, |at| at.to_string());
            [session.id.to_string(), who, session.device.to_string(), session.renewed.to_string(), ended]
        })
        .collect();
    output.table(["session", "user", "device", "last renewed", "ended"], &rows);
    Ok(())
}

/// The store of the relay at hand. It is never made here: without one, no relay has run.
pub(super) async fn open(outline: &Outline) -> Result<Store, Failure> {
    let path = outline.state_dir.join(crate::serve::STORE);
    if !path.exists() {
        let path = path.display();
        return Err(Failure::Message(format!(
            "there is no store at {path}: no relay has run with this state directory\n  \
             what to do: give the relay's --config or --state-dir"
        )));
    }
    Store::open(&path).await.map_err(Failure::message)
}
