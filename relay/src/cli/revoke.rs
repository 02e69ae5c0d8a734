//! `revoke` and `restore`: told to the running relay, or written to the store of one that does not run.

use super::output::Output;
use super::{Failure, Restorable, Revocable, advised, failed, listing};
use crate::admin::{self, Restored};
use crate::audit_log::AuditLog;
use crate::clock::Clock;
use crate::config::Outline;
use crate::keys::Keys;
use crate::revoke::{Named, Receipt, about, revoke_stored};
use crate::serve::StateLock;
use crate::store::Store;
use postern_protocol::problem::printable;
use postern_protocol::{Code, DeviceId, SessionId};
use postern_relay_core::audit::{CheckpointSigner, Event, Record};
use postern_relay_core::principal::PrincipalKey;
use postern_relay_core::revocation::Target;

pub(super) async fn revoke(outline: &Outline, what: Revocable, output: Output) -> Result<(), Failure> {
    let store = listing::open(outline).await?;
    let target = match what {
        Revocable::User { id } => Target::Principal(user(outline, &store, &id).await?),
        Revocable::Device { id } => Target::Device(device(&store, &id).await?),
        Revocable::Session { id } => Target::Session(session(&store, &id).await?),
    };
    let named = Named::from(&target);
    let receipt = match admin::revoke(&outline.state_dir, &named).await {
        Some(answer) => answer?,
        None => revoke_alone(outline, &store, target, output).await?,
    };
    show(&receipt, output);
    Ok(())
}

pub(super) async fn restore(outline: &Outline, what: Restorable, output: Output) -> Result<(), Failure> {
    let store = listing::open(outline).await?;
    let target = match what {
        Restorable::User { id } => Target::Principal(user(outline, &store, &id).await?),
        Restorable::Device { id } => Target::Device(device(&store, &id).await?),
    };
    let named = Named::from(&target);
    let restored = match admin::restore(&outline.state_dir, &named).await {
        Some(answer) => answer?,
        None => restore_alone(outline, &store, &target, output).await?,
    };
    if output.json {
        output.json(&restored);
    } else if restored.was_revoked {
        output.data(&format!("restored {}", words(&named)));
        output.note("Sessions that the revocation ended stay ended: a new sign-in is needed.");
    }
    if restored.was_revoked {
        return Ok(());
    }
    let fix = "Nothing is to be restored.";
    Err(advised(Code::RequestInvalid, format!("{} was not revoked", words(&named)), fix))
}

async fn user(outline: &Outline, store: &Store, id: &[String]) -> Result<PrincipalKey, Failure> {
    let text = id.join(" ");
    let full = match text.split_once(char::is_whitespace) {
        Some((issuer, subject)) => Some(PrincipalKey::new(issuer, subject.trim())),
        None if text.contains('#') => Some(text.parse()),
        None => None,
    };
    if let Some(full) = full {
        let key = full.map_err(|error| failed(Code::RequestInvalid, error))?;
        // Whoever never signed in can be revoked beforehand, but nobody of a provider that is not ours: that is a slip.
        if outline.provider.as_deref() == Some(key.issuer()) || store.has_principal(&key).await? {
            return Ok(key);
        }
        let detail = format!("{} is not the issuer of this relay's provider", key.issuer());
        let fix = format!("Write it as relay.toml has it: {}", outline.provider.as_deref().unwrap_or("(none is set)"));
        return Err(advised(Code::RequestInvalid, detail, &fix));
    }
    match store.principals(&text).await?.as_slice() {
        [one] => Ok(one.key.clone()),
        [] => {
            let fix = "See postern-relay sessions --all, or name issuer and subject: ISSUER SUBJECT";
            Err(advised(
                Code::RequestInvalid,
                format!("nobody with the subject or e-mail address {text} has signed in"),
                fix,
            ))
        }
        several => {
            let names = several.iter().map(|known| format!("{} {}", known.key.issuer(), known.key.subject()));
            let detail = format!("{text} means several users: {}", names.collect::<Vec<_>>().join(", "));
            Err(advised(Code::RequestInvalid, detail, "Name one of them as ISSUER SUBJECT."))
        }
    }
}

async fn device(store: &Store, id: &str) -> Result<DeviceId, Failure> {
    const FIX: &str = "See postern-relay devices.";
    let id = id.parse().map_err(|error| advised(Code::RequestInvalid, error, FIX))?;
    if store.has_device(&id).await? {
        return Ok(id);
    }
    Err(advised(Code::DeviceUnknown, id, FIX))
}

async fn session(store: &Store, id: &str) -> Result<SessionId, Failure> {
    const FIX: &str = "See postern-relay sessions.";
    let id = id.parse().map_err(|error| advised(Code::RequestInvalid, error, FIX))?;
    if store.session(&id).await?.is_some() {
        return Ok(id);
    }
    Err(advised(Code::SessionUnknown, id, FIX))
}

/// No relay runs: the store gets the revocation, the audit log its record.
async fn revoke_alone(outline: &Outline, store: &Store, target: Target, output: Output) -> Result<Receipt, Failure> {
    let _no_relay_meanwhile = StateLock::take(&outline.state_dir)?;
    let at = Clock::new().now();
    let record = about(&target, Record::event(Event::Revocation, at)).detail("by the administrator; no relay ran");
    let receipt = revoke_stored(store, target, at).await?;
    record_alone(outline, store, record, output).await;
    Ok(receipt)
}

async fn restore_alone(outline: &Outline, store: &Store, target: &Target, output: Output) -> Result<Restored, Failure> {
    let _no_relay_meanwhile = StateLock::take(&outline.state_dir)?;
    let record = about(target, Record::event(Event::Restoration, Clock::new().now()));
    let was_revoked = store.restore(target).await?;
    if was_revoked {
        record_alone(outline, store, record.detail("by the administrator; no relay ran"), output).await;
    }
    Ok(Restored { was_revoked, live: false })
}

async fn record_alone(outline: &Outline, store: &Store, record: Record, output: Output) {
    if let Err(why) = try_record(outline, store, record).await {
        output.note(&format!("postern-relay: this could not be written to the audit log: {why}"));
    }
}

async fn try_record(outline: &Outline, store: &Store, record: Record) -> Result<(), String> {
    let keys =
        Keys::load(&outline.keys_dir).map_err(|faults| faults.first().map(ToString::to_string).unwrap_or_default())?;
    let signer = CheckpointSigner::from_pkcs8(&keys.audit).map_err(|error| error.to_string())?;
    let remembered = store.checkpoint().await.map_err(|error| error.to_string())?;
    let log = AuditLog::open(&outline.audit_file, signer, remembered.as_ref(), Clock::new());
    let log = log.map_err(|error| error.to_string())?;
    log.record(record).await.map_err(|error| error.to_string())?;
    log.close().await;
    let newest = log.checkpoints().borrow().clone();
    match newest {
        Some(checkpoint) => store.keep_checkpoint(&checkpoint).await.map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

fn show(receipt: &Receipt, output: Output) {
    if output.json {
        output.json(receipt);
        return;
    }
    output.data(&format!("revoked {}", words(&receipt.revoked)));
    output.data(&format!("  sessions ended: {}", receipt.sessions_ended));
    output.data(&format!("  streams cut:    {}{}", receipt.streams_cut, by_app(receipt)));
    if receipt.streams_cut > 0 {
        output.data(&format!("  last one ended: after {} ms", receipt.slowest_ms));
    }
    if receipt.streams_unfinished > 0 {
        output.data(&format!("  not ended yet:  {}", receipt.streams_unfinished));
    }
    let effect = if receipt.live { "now, on the running relay" } else { "from the relay's next start: none runs" };
    output.data(&format!("  effective:      {effect}"));
}

/// ` (db 3, wiki 1)`
fn by_app(receipt: &Receipt) -> String {
    let apps: Vec<String> = receipt.cut.iter().map(|(app, streams)| format!("{app} {streams}")).collect();
    if apps.is_empty() { String::new() } else { format!(" ({})", apps.join(", ")) }
}

fn words(named: &Named) -> String {
    match named {
        Named::User { issuer, subject } => printable(&format!("user {subject} of {issuer}")),
        Named::Device { id } => format!("device {id}"),
        Named::Session { id } => format!("session {id}"),
    }
}
