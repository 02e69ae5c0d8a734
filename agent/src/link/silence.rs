//! Notices that the relay has gone silent, long before QUIC gives the connection up.
//!
//! QUIC waits half a minute, and rightly so: streams that live survive a change of network by it. A new request
//! need not wait that long. It goes by another connection, while the streams of this one have their chance.

use super::Link;
use quinn::{ConnectionStats, FrameStats};
use std::sync::Weak;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Several times what a slow mobile network takes to answer.
const LIMIT: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_secs(1);

/// Watches a link for as long as it is used.
pub(super) async fn watch(link: Weak<Link>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silence = Silence::begin(Instant::now());
    loop {
        let now = ticks.tick().await;
        let Some(link) = link.upgrade() else { return };
        if silence.lasts(&link.connection.stats(), now) >= LIMIT {
            return link.lost.cancel();
        }
    }
}

/// Since when what was sent has had no answer of any kind.
struct Silence {
    heard: u64,
    sent: u64,
    since: Instant,
}

impl Silence {
    fn begin(now: Instant) -> Self {
        Self { heard: 0, sent: 0, since: now }
    }

    fn lasts(&mut self, stats: &ConnectionStats, now: Instant) -> Duration {
        let (heard, sent) = (stats.udp_rx.datagrams, wanting_answer(&stats.frame_tx));
        // Who sends nothing need not be answered. What is lost is sent again, and counts then.
        if heard != self.heard || sent == self.sent {
            *self = Self { heard, sent, since: now };
        }
        now.saturating_duration_since(self.since)
    }
}

/// Frames sent that the other side has to acknowledge; a probe after a loss repeats some, or asks outright.
fn wanting_answer(sent: &FrameStats) -> u64 {
    let data = sent.stream + sent.max_data + sent.max_stream_data + sent.reset_stream + sent.stop_sending;
    let upkeep = sent.ping + sent.immediate_ack + sent.crypto + sent.new_connection_id + sent.retire_connection_id;
    data + upkeep
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unanswered_frames_make_silence() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut stats = ConnectionStats::default();
        let mut silence = Silence::begin(start);
        assert_eq!(silence.lasts(&stats, at(60)), Duration::ZERO, "nothing was sent");
        stats.frame_tx.acks += 1;
        assert_eq!(silence.lasts(&stats, at(70)), Duration::ZERO, "acknowledgements want no answer");
        stats.frame_tx.stream += 1;
        assert_eq!(silence.lasts(&stats, at(71)), Duration::from_secs(1));
        stats.frame_tx.ping += 1;
        assert_eq!(silence.lasts(&stats, at(73)), Duration::from_secs(3));
        stats.udp_rx.datagrams += 1;
        assert_eq!(silence.lasts(&stats, at(74)), Duration::ZERO, "an answer came");
        assert_eq!(silence.lasts(&stats, at(90)), Duration::ZERO);
    }
}
