//! Never trust for long: each cause decides the streams it concerns anew, by the same decision that admitted them, and
//! what is no longer permitted is cut in both directions, or held where its app wants that and the user can mend it.
//!
//! A cause changes what decisions read (snapshot, credentials, posture) and then calls [`reverify`] with its scope.

mod round;

pub use round::{Cutback, Tally};

use crate::state::Relay;
use postern_protocol::{Code, Timestamp};
use postern_relay_core::registry::Scope;
use round::Round;
use std::time::Duration;

/// How often connections and tokens are looked at whose end no stream would show.
const TICK: Duration = Duration::from_secs(1);

/// How many streams are judged before others get their turn.
const SLICE: usize = 64;

/// Decides every live stream of `scope` anew and carries the answers out. Returns when what was cut has ended, or after
/// a second at most.
pub async fn reverify(relay: &Relay, scope: &Scope) -> Cutback {
    begin(relay, scope).await.finish(relay).await
}

/// The same up to the point where every stream that is denied is told to end; [`Round::finish`] waits and records.
pub(crate) async fn begin(relay: &Relay, scope: &Scope) -> Round {
    let mut round = Round::new();
    let _one_at_a_time = relay.streams.round().await;
    judge(relay, relay.streams.select(scope), &mut round).await;
    if let Scope::Device(device) = scope
        && relay.snapshot.load().revocations.is_device(device)
    {
        relay.streams.connections().cut(Code::DeviceRevoked, |connected| connected.id() == device);
    }
    round
}

/// Holds streams to the deadlines of their permits for as long as it is polled.
pub async fn watch_deadlines(relay: &Relay) {
    let mut tidied = Timestamp::default();
    loop {
        let now = relay.clock.now();
        if now.since(tidied) >= TICK {
            relay.streams.tidy(now);
            tidied = now;
        }
        recheck_due(relay).await;
        let next = relay.streams.next_deadline().map_or(TICK, |deadline| deadline.since(relay.clock.now()));
        // A stream that opens meanwhile with a nearer deadline is seen at the next tick at the latest.
        tokio::time::sleep(next.clamp(Duration::from_millis(1), TICK)).await;
    }
}

async fn recheck_due(relay: &Relay) {
    let mut round = Round::new();
    {
        let _one_at_a_time = relay.streams.round().await;
        judge(relay, relay.streams.due(relay.clock.now()), &mut round).await;
    }
    // The answers stand; to record them nobody has to wait but the next deadline.
    round.finish(relay).await;
}

async fn judge(relay: &Relay, streams: Vec<std::sync::Arc<crate::streams::Stream>>, round: &mut Round) {
    for some in streams.chunks(SLICE) {
        for stream in some {
            round.judge(relay, stream);
        }
        tokio::task::yield_now().await;
    }
}
