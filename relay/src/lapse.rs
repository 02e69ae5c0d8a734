//! The provider renews a sign-in no longer. What the session's apps do not hold is cut, what they hold waits: the same user
//! may sign in again and go on in the same session. Without that, and where nothing is held, the session ends. ADR 11.

use crate::reverify;
use crate::revoke::{change, revoke};
use crate::state::Relay;
use crate::streams::Stream;
use postern_protocol::control::SessionLapsed;
use postern_protocol::{SessionId, Timestamp};
use postern_relay_core::access::Snapshot;
use postern_relay_core::app::OnLapse;
use postern_relay_core::audit::{Event, Record};
use postern_relay_core::registry::Scope;
use postern_relay_core::revocation::{Lapse, Target};
use postern_relay_core::token::VerifiedSession;
use std::sync::Arc;
use std::time::Duration;

/// Who ends the session, for the log.
pub(crate) const BY: &str = "the agent, refresh_refused";

/// The streams' own deadlines come first, and say why they are cut.
const AFTER_STREAMS: Duration = Duration::from_secs(2);

/// How long a lapse is remembered after it was mended: no token of before counts longer.
const REMEMBERED: Duration = Duration::from_secs(2 * 86_400);

/// Lets the session lapse if it has streams to hold; nothing: it is to end. Once begun it goes on to its end, although the
/// caller goes away.
pub(crate) async fn lapse(relay: &Arc<Relay>, session: &Arc<VerifiedSession>) -> Option<SessionLapsed> {
    held_until(relay, session.session(), relay.clock.now(), false)?;
    let (relay, session) = (relay.clone(), session.clone());
    let whole = tokio::spawn(async move { carry_out(&relay, &session).await });
    whole.await.unwrap_or(None)
}

async fn carry_out(relay: &Arc<Relay>, session: &VerifiedSession) -> Option<SessionLapsed> {
    let id = session.session();
    change(&relay.snapshot, |revocations| {
        // By the clock of this moment: a token issued by someone who missed the change is void, too.
        let now = relay.clock.now();
        revocations.forget_lapses(now.minus(REMEMBERED));
        revocations.lapse(id.clone(), now);
    });
    let lapse = is_open(relay, id)?;
    let round = reverify::begin(relay, &Scope::Session(id.clone())).await;
    let cut = round.finish(relay).await.cut;
    // Held streams may have ended meanwhile.
    let until = held_until(relay, id, relay.clock.now(), true)?;
    let record = Record::event(Event::SessionLapse, relay.clock.now()).of_device(session.device_claim());
    let detail = format!("by {BY}; streams cut: {cut}; others held until {until}");
    // What cannot be recorded does not wait: the session ends.
    relay.audit.record(record.of_session(session).detail(detail)).await.ok()?;
    let held_for = until.since(relay.clock.now());
    end_unless_mended(relay, id.clone(), lapse, held_for + AFTER_STREAMS);
    Some(SessionLapsed { held_for: held_for.as_secs() })
}

/// The user signed in again since this lapse: the session goes on.
pub(crate) fn mend(relay: &Relay, session: &SessionId, lapse: Lapse) {
    if is_open(relay, session) == Some(lapse) {
        change(&relay.snapshot, |revocations| revocations.mend(session, lapse));
    }
}

/// The lapse of a session whose user has not signed in again.
fn is_open(relay: &Relay, session: &SessionId) -> Option<Lapse> {
    relay.snapshot.load().revocations.lapsed(session).filter(|lapse| !lapse.mended)
}

/// Ends the session after `wait`, unless its user signed in meanwhile. A relay that stops forgets the lapse, and ends it now.
fn end_unless_mended(relay: &Arc<Relay>, session: SessionId, lapse: Lapse, wait: Duration) {
    let (relay, draining) = (Arc::downgrade(relay), relay.draining.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = draining.cancelled() => {}
        }
        let Some(relay) = relay.upgrade() else { return };
        if is_open(&relay, &session) != Some(lapse) {
            return;
        }
        if let Err(problem) = revoke(&relay, Target::Session(session), Event::SignOut, BY).await {
            tracing::warn!(code = %problem.code, detail = problem.detail, "a lapsed session could not be ended");
        }
    });
}

/// Until when the session's streams are held, or would be from `now` on; only those that `are` held, or all.
fn held_until(relay: &Relay, session: &SessionId, now: Timestamp, are: bool) -> Option<Timestamp> {
    let snapshot = relay.snapshot.load();
    let streams = relay.streams.select(&Scope::Session(session.clone()));
    let lives = |stream: &&Arc<Stream>| !stream.is_cut() && (!are || stream.held_since().is_some());
    streams.iter().filter(lives).filter_map(|stream| end_of_hold(stream, &snapshot, now)).max()
}

fn end_of_hold(stream: &Stream, snapshot: &Snapshot, now: Timestamp) -> Option<Timestamp> {
    match snapshot.apps().get(&stream.request.app)?.on_lapse {
        OnLapse::Hold(most) => Some(stream.held_since().unwrap_or(now).plus(most)).filter(|until| *until > now),
        OnLapse::Cut => None,
    }
}
