//! Never trust for long: each cause decides the streams it concerns anew, by the same decision that admitted them, and
//! what is no longer permitted is cut in both directions, or held where its app wants that and the user can mend it.
//!
//! A cause changes what decisions read (snapshot, credentials, posture) and then calls [`reverify`] with its scope, or
//! [`soon`] where a device can bring it about as often as it likes.

mod pace;
mod round;

pub(crate) use pace::Pace;
pub use round::{Cutback, Tally};

use crate::state::Relay;
use crate::streams::Stream;
use postern_protocol::{Code, SessionId, Timestamp};
use postern_relay_core::registry::Scope;
use round::{Question, Round};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How often connections and tokens are looked at whose end no stream would show.
const TICK: Duration = Duration::from_secs(1);

/// How many questions are decided before others get their turn: with all that each concerns, well under a millisecond.
const SLICE: usize = 4;

/// Decides every live stream of `scope` anew and carries the answers out. Returns when what was cut has ended, or a
/// second after the last of it was told to.
pub async fn reverify(relay: &Relay, scope: &Scope) -> Cutback {
    begin(relay, scope).await.finish(relay).await
}

/// The same for a session, in a task of its own: at most one such round of a session waits, and one a second begins.
pub fn soon(relay: &Arc<Relay>, session: &SessionId) {
    // Whoever waits already will read what has changed meanwhile.
    let Some(wait) = relay.streams.pace().ask(session) else { return };
    let (relay, session) = (relay.clone(), session.clone());
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        relay.streams.pace().begin(&session);
        reverify(&relay, &Scope::Session(session)).await;
    });
}

/// [`reverify`] up to the point where every stream that is denied is told to end; [`Round::finish`] records and waits.
pub(crate) async fn begin(relay: &Relay, scope: &Scope) -> Round {
    let round = judge(relay, Round::new(), relay.streams.select(scope)).await;
    if let Scope::Device(device) = scope
        && relay.snapshot.load().revocations.is_device(device)
    {
        relay.streams.connections().cut(Code::DeviceRevoked, |connected| connected.id() == device);
    }
    round
}

/// Holds streams to the deadlines of their permits for as long as it is polled.
pub async fn watch_deadlines(relay: &Arc<Relay>) {
    let mut tidied = Timestamp::default();
    loop {
        let now = relay.clock.now();
        if now.since(tidied) >= TICK {
            relay.streams.tidy(now);
            tidied = now;
        }
        let round = judge(relay, Round::of_the_clock(), relay.streams.due(now)).await;
        // The answers stand; the next deadline waits for no disk.
        let recording = relay.clone();
        tokio::spawn(async move { round.finish(&recording).await });
        let next = relay.streams.next_deadline().map_or(TICK, |deadline| deadline.since(relay.clock.now()));
        // A stream that opens meanwhile with a nearer deadline is seen at the next tick at the latest.
        tokio::time::sleep(next.clamp(Duration::from_millis(1), TICK)).await;
    }
}

/// One decision for all that ask the same.
async fn judge(relay: &Relay, mut round: Round, streams: Vec<Arc<Stream>>) -> Round {
    let mut asking: HashMap<Question, Vec<Arc<Stream>>> = HashMap::new();
    for stream in streams {
        asking.entry(Question::of(&stream)).or_default().push(stream);
    }
    for (number, streams) in (1_usize..).zip(asking.into_values()) {
        round.judge(relay, streams);
        if number.is_multiple_of(SLICE) {
            tokio::task::yield_now().await;
        }
    }
    round
}

#[cfg(test)]
mod tests;
