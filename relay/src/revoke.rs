//! Revocation: the new snapshot first, so that the very next request is refused; then the store, the streams, the log.

use crate::reverify::{self, Cutback};
use crate::state::Relay;
use crate::store::{Store, StoreError};
use arc_swap::ArcSwap;
use postern_protocol::control::RelayEvent;
use postern_protocol::{AppName, Code, DeviceId, Problem, SessionId, Timestamp};
use postern_relay_core::access::Snapshot;
use postern_relay_core::audit::{Event, Record};
use postern_relay_core::principal::PrincipalKey;
use postern_relay_core::registry::Scope;
use postern_relay_core::revocation::{Revocations, Target};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A target as commands, the admin socket and receipts name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Named {
    /// A principal.
    User {
        /// The provider.
        issuer: String,
        /// The provider's name for it.
        subject: String,
    },
    /// A device.
    Device {
        /// Which.
        id: DeviceId,
    },
    /// A session.
    Session {
        /// Which.
        id: SessionId,
    },
}

/// What a revocation did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// What was revoked.
    pub revoked: Named,
    /// When.
    pub at: Timestamp,
    /// Sessions that it ended.
    pub sessions_ended: usize,
    /// Live streams and requests that it cut.
    pub streams_cut: usize,
    /// The same by the app they led to.
    #[serde(default)]
    pub cut: BTreeMap<AppName, usize>,
    /// Milliseconds from the acceptance of the revocation to the end of the last of them, both directions and the
    /// upstream's socket.
    pub slowest_ms: u64,
    /// Those among them that had not ended a second after the last was told to.
    pub streams_unfinished: usize,
    /// Was it told to a running relay? If not, it holds from the next start on.
    pub live: bool,
}

impl From<&Target> for Named {
    fn from(target: &Target) -> Self {
        match target {
            Target::Principal(key) => Self::User { issuer: key.issuer().to_owned(), subject: key.subject().to_owned() },
            Target::Device(id) => Self::Device { id: id.clone() },
            Target::Session(id) => Self::Session { id: id.clone() },
        }
    }
}

impl TryFrom<Named> for Target {
    type Error = Problem;
    fn try_from(named: Named) -> Result<Self, Problem> {
        Ok(match named {
            Named::User { issuer, subject } => Self::Principal(
                PrincipalKey::new(&issuer, &subject)
                    .map_err(|why| Problem::new(Code::RequestInvalid).detail(why.to_string()))?,
            ),
            Named::Device { id } => Self::Device(id),
            Named::Session { id } => Self::Session(id),
        })
    }
}

/// Revokes `target` on this relay. When it returns, no request of it is allowed, whatever else went wrong. Once begun
/// it goes on to its end, although the caller goes away.
pub async fn revoke(relay: &Arc<Relay>, target: Target, event: Event, by: &'static str) -> Result<Receipt, Problem> {
    let relay = relay.clone();
    let whole = tokio::spawn(async move { carry_out(&relay, target, event, by).await });
    whole.await.unwrap_or_else(|_| Err(Problem::new(Code::Internal).detail("the revocation broke off")))
}

async fn carry_out(relay: &Relay, target: Target, event: Event, by: &str) -> Result<Receipt, Problem> {
    let at = relay.clock.now();
    change(&relay.snapshot, |revocations| {
        revocations.insert(target.clone());
    });
    let round = reverify::begin(relay, &scope(&target)).await;
    // A slow disk keeps no stream open.
    let (stored, cutback) = tokio::join!(keep(relay, &target, at), round.finish(relay));
    let ended = stored.as_deref().unwrap_or_default();
    // Last of all: it ends what the session hears, and each stream's own reason is to be heard before.
    for session in ended {
        relay.events.send(session, RelayEvent::Revoked { code: target.code() });
    }
    let sessions_ended = ended.len();
    let Cutback { cut: streams_cut, by_app: cut, slowest, unfinished, .. } = cutback;
    let detail = match &stored {
        Ok(_) => format!("by {by}; sessions ended: {sessions_ended}; streams cut: {streams_cut}"),
        Err(_) => format!("by {by}; could not be stored; streams cut: {streams_cut}"),
    };
    let recorded = relay.audit.record(about(&target, Record::event(event, at)).detail(detail)).await;
    stored.map_err(|error| {
        let detail = "it is revoked on this relay until it restarts, but could not be stored";
        Problem::from(error).detail(detail).advice(None, Some("Correct the store, then revoke again.".to_owned()))
    })?;
    recorded?;
    let slowest_ms = u64::try_from(slowest.as_millis()).unwrap_or(u64::MAX);
    let streams_unfinished = unfinished;
    Ok(Receipt {
        revoked: (&target).into(),
        at,
        sessions_ended,
        streams_cut,
        cut,
        slowest_ms,
        streams_unfinished,
        live: true,
    })
}

/// Stores the revocation. The sessions that it ended are revoked from then on, too.
async fn keep(relay: &Relay, target: &Target, at: Timestamp) -> Result<Vec<SessionId>, StoreError> {
    let _in_turn = relay.changes.lock().await;
    let stored = relay.store.revoke(target, at).await;
    change(&relay.snapshot, |revocations| {
        // Once more: it may have been taken back since, and then this is the newer word.
        revocations.insert(target.clone());
        for session in stored.as_deref().unwrap_or_default() {
            revocations.insert(Target::Session(session.clone()));
        }
    });
    stored
}

/// Takes the revocation of a principal or device back. False: there was none.
pub async fn restore(relay: &Relay, target: Target) -> Result<bool, Problem> {
    if matches!(target, Target::Session(_)) {
        let problem = Problem::new(Code::RequestInvalid).detail("a session that was revoked stays ended");
        return Err(problem.advice(None, Some("Let the user sign in again.".to_owned())));
    }
    if !relay.snapshot.load().revocations.has(&target) {
        return Ok(false);
    }
    // Here the record comes first: what opens access must be in the log before it does.
    let record = about(&target, Record::event(Event::Restoration, relay.clock.now()));
    relay.audit.record(record.detail("by the administrator")).await?;
    let _in_turn = relay.changes.lock().await;
    relay.store.restore(&target).await?;
    change(&relay.snapshot, |revocations| {
        revocations.remove(&target);
    });
    Ok(true)
}

/// Revokes in the store of a relay that does not run.
pub async fn revoke_stored(store: &Store, target: Target, at: Timestamp) -> Result<Receipt, StoreError> {
    let ended = store.revoke(&target, at).await?;
    Ok(Receipt {
        revoked: (&target).into(),
        at,
        sessions_ended: ended.len(),
        streams_cut: 0,
        cut: BTreeMap::new(),
        slowest_ms: 0,
        streams_unfinished: 0,
        live: false,
    })
}

/// The streams that a target's revocation concerns.
fn scope(target: &Target) -> Scope {
    match target {
        Target::Principal(key) => Scope::Principal(key.clone()),
        Target::Device(id) => Scope::Device(id.clone()),
        Target::Session(id) => Scope::Session(id.clone()),
    }
}

/// `record`, naming its target.
pub fn about(target: &Target, mut record: Record) -> Record {
    match target {
        Target::Principal(key) => record.principal = Some(key.clone()),
        Target::Device(id) => record.device = Some(id.clone()),
        Target::Session(id) => record.session = Some(id.clone()),
    }
    record
}

/// Replaces the snapshot by one with other revocations. It waits for nobody; `change` may be called again where two
/// changes meet.
pub fn change(snapshot: &ArcSwap<Snapshot>, change: impl Fn(&mut Revocations)) {
    snapshot.rcu(|old| {
        let mut revocations = (*old.revocations).clone();
        change(&mut revocations);
        Snapshot { revocations: Arc::new(revocations), generation: old.generation + 1, ..(**old).clone() }
    });
}
