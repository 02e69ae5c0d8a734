//! The relay's only clock and only source of randomness.

use postern_protocol::{Code, DecisionId, Problem, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Wall-clock time that never runs backwards: what has ended stays ended although the system clock is set back.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    /// Milliseconds since the epoch at `start`, as the furthest system clock seen so far has it.
    epoch: Arc<AtomicU64>,
}

impl Clock {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self { start: Instant::now(), epoch: Arc::default() }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let system = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let system = u64::try_from(system.as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_millis(self.advance(elapsed, system))
    }

    /// The system's time, unless it lies behind what monotonic time has already made of an earlier reading.
    fn advance(&self, elapsed: u64, system: u64) -> u64 {
        let epoch = system.saturating_sub(elapsed);
        self.epoch.fetch_max(epoch, Ordering::Relaxed).max(epoch).saturating_add(elapsed)
    }

    /// How far the system clock lies behind this one: it was set back, or had jumped ahead before.
    pub fn ahead_of_system(&self) -> Duration {
        let system = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Duration::from_millis(self.now().millis()).saturating_sub(system)
    }

    /// A new decision's id.
    pub fn decision_id(&self) -> DecisionId {
        // An id without its random half is still ordered and still found in the audit log.
        DecisionId::new(self.now(), random().map_or(0, u128::from_be_bytes))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Random bytes from the cryptographic library.
pub fn random<const N: usize>() -> Result<[u8; N], Problem> {
    let mut bytes = [0; N];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(Problem::new(Code::Internal).detail("the system gives no randomness")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_set_back_keeps_moving_forward() {
        let clock = Clock::new();
        assert_eq!(clock.advance(0, 10_000), 10_000);
        assert_eq!(clock.advance(500, 3_000), 10_500, "two readings later the system clock was set back");
        assert_eq!(clock.advance(900, 60_000), 60_000, "a clock set forward is followed");
        assert_eq!(clock.advance(1_000, 60_050), 60_100);
    }

    #[test]
    fn decision_ids_sort_by_time() {
        let clock = Clock::new();
        let first = clock.decision_id();
        assert_eq!(first.as_str().len(), 32);
        assert!(first.as_str()[..12] <= clock.decision_id().as_str()[..12]);
    }
}
