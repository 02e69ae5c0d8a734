//! What others tell the relay takes effect: the store first, where it counts once; then the snapshot, the streams,
//! the sessions, the log.

use crate::reverify;
use crate::revoke::change;
use crate::state::Relay;
use crate::store::{Applied, Ended, Outcome, SETTLING, Told};
use futures_util::future::join_all;
use postern_protocol::control::RelayEvent;
use postern_protocol::problem::printable;
use postern_protocol::{Code, Problem};
use postern_relay_core::audit::{Event, Record};
use postern_relay_core::outside::Effect;
use postern_relay_core::registry::Scope;
use postern_relay_core::revocation::{Changed, Target};
use std::sync::Arc;

/// Something that was told and verified.
pub struct Word {
    /// Its name, which counts once.
    pub told: Told,
    /// What it changes.
    pub effect: Effect,
    /// Its record, to which is added what came of it.
    pub record: Record,
    /// Who told it, for the records of what it changes.
    pub by: String,
}

/// Lets it take effect. When it returns without error, the effect and its name outlive a restart. Once begun it goes on
/// to its end, although the caller goes away.
pub async fn take(relay: &Arc<Relay>, word: Word) -> Result<Outcome, Problem> {
    let relay = relay.clone();
    let whole = tokio::spawn(async move { carry_out(&relay, word).await });
    whole.await.unwrap_or_else(|_| Err(Problem::new(Code::Internal).detail("what was told broke off")))
}

async fn carry_out(relay: &Relay, word: Word) -> Result<Outcome, Problem> {
    let Word { told, effect, record, by } = word;
    // In the order in which the store takes it; revocations by people do not wait for this.
    let in_turn = relay.changes.lock().await;
    let now = relay.clock.now();
    let Applied { outcome, before } = relay.store.apply(&told, &effect, now).await?;
    if outcome == Outcome::Replayed {
        return Ok(outcome);
    }
    if before {
        // The first delivery may have broken off here, and later ones may have changed the same: the store knows.
        let known = relay.store.revocations(now).await?;
        change(&relay.snapshot, |revocations| revocations.learn(known.clone()));
    }
    let mut scopes = Vec::new();
    if let Outcome::Ended(sessions) = &outcome {
        change(&relay.snapshot, |revocations| {
            for ended in sessions {
                revocations.insert(Target::Session(ended.session.clone()));
            }
        });
        scopes.extend(sessions.iter().map(|ended| Scope::Session(ended.session.clone())));
    }
    if outcome == Outcome::Changed {
        change(&relay.snapshot, |revocations| match effect.clone() {
            Effect::Compliance { device, compliant, .. } if !before => revocations.comply(device, compliant),
            Effect::ClaimsChanged { principal, at } => {
                // By the clock of this moment: a token issued while the store wrote is void, too.
                revocations.claims_changed(principal, Changed::new(at, relay.clock.now()));
            }
            Effect::Compliance { .. } | Effect::End(_) | Effect::Nothing(_) => {}
        });
        scopes.extend(match &effect {
            Effect::Compliance { device, .. } => Some(Scope::Device(device.clone())),
            Effect::ClaimsChanged { principal, .. } => Some(Scope::Principal(principal.clone())),
            Effect::End(_) | Effect::Nothing(_) => None,
        });
    }
    let mut settled = Ok(());
    if outcome == Outcome::Changed
        && let Effect::ClaimsChanged { principal, .. } = &effect
    {
        // What the store has covers tokens issued while it wrote, unless that took unusually long.
        let then = relay.clock.now();
        if before || then > now.plus(SETTLING) {
            settled = relay.store.settled(principal, then).await;
        }
    }
    drop(in_turn);
    let mut rounds = Vec::new();
    for scope in &scopes {
        rounds.push(reverify::begin(relay, scope).await);
    }
    let cutbacks = join_all(rounds.into_iter().map(|round| round.finish(relay))).await;
    let streams_cut: usize = cutbacks.iter().map(|cutback| cutback.cut).sum();
    if let Outcome::Ended(sessions) = &outcome {
        for ended in sessions {
            relay.events.send(&ended.session, RelayEvent::Revoked { code: Code::SessionRevoked });
        }
    }
    let what = match &outcome {
        Outcome::Replayed => "no effect: told before".to_owned(),
        Outcome::Ended(sessions) => format!("sessions ended: {}; streams cut: {streams_cut}", sessions.len()),
        Outcome::Changed => format!("changed; streams cut: {streams_cut}"),
        Outcome::Outdated => "no effect: something newer is known".to_owned(),
        Outcome::Nothing => match &effect {
            Effect::Nothing(why) => format!("no effect: {why}"),
            _ => "no effect: it is about nothing known here".to_owned(),
        },
    };
    let jti = printable(&told.jti);
    let again = if before { "; told before, but not recorded" } else { "" };
    let what = format!("{what}{again}");
    let detail = match record.detail.clone() {
        Some(before) => format!("{before}; {what}; jti {jti}"),
        None => format!("{what}; jti {jti}"),
    };
    let mut records = vec![record.detail(detail)];
    if let Outcome::Ended(sessions) = &outcome {
        records.extend(sessions.iter().map(|ended| of_session(relay, ended, &by)));
    }
    settled?;
    relay.audit.record_all(records).await?;
    // Not noted, it is recorded once more if it is told once more, and no worse.
    if let Err(error) = relay.store.told(&told).await {
        tracing::warn!(%error, "what was told is recorded, but not noted as such");
    }
    Ok(outcome)
}

/// The record of one session that ended.
fn of_session(relay: &Relay, ended: &Ended, by: &str) -> Record {
    let mut record = Record::event(Event::Revocation, relay.clock.now()).detail(format!("by {by}"));
    record.session = Some(ended.session.clone());
    record.of_principal(&ended.principal).of_device(&ended.device)
}
