//! `devices` and `sessions`: what the store knows, read beside a running relay.

use super::output::Output;
use super::{Failure, advised};
use crate::config::Outline;
use crate::store::Store;
use postern_protocol::Code;

pub(super) async fn devices(outline: &Outline, output: Output) -> Result<(), Failure> {
    let devices = open(outline).await?.devices().await?;
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
    if rows.is_empty() {
        output.note("No device has enrolled yet.");
    }
    output.table(["device", "owner", "name", "last certificate", "state"], &rows);
    Ok(())
}

pub(super) async fn sessions(outline: &Outline, all: bool, output: Output) -> Result<(), Failure> {
    let sessions = open(outline).await?.sessions(all).await?;
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
    if rows.is_empty() {
        output.note("No session lives.");
    }
    output.table(["session", "user", "device", "last renewed", "ended"], &rows);
    Ok(())
}

/// The store of the relay at hand. It is never made here: without one, no relay has run.
pub(super) async fn open(outline: &Outline) -> Result<Store, Failure> {
    let path = outline.state_dir.join(crate::assemble::STORE);
    if !path.exists() {
        let detail = format!("there is no store at {}: no relay has run with this state directory", path.display());
        return Err(advised(Code::StateDir, detail, "Give the relay's --config or --state-dir."));
    }
    Ok(Store::open(&path).await?)
}
