//! The engine's time: it never goes back, whatever is done to the system's clock, and it goes on during sleep.

use postern_protocol::Timestamp;
use std::time::{Duration, Instant, SystemTime};

/// The clocks may differ by this much without anything having happened.
const DRIFT: Duration = Duration::from_secs(10);

/// The system's idea of the time.
pub(super) fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A reading of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// Now, never before an earlier reading.
    pub(super) now: Timestamp,
    /// More time went by than this process saw pass, or the clock was set.
    pub(super) jumped: bool,
}

/// Adds up the time that passes.
#[derive(Debug)]
pub(super) struct Clock {
    now: Timestamp,
    wall: Timestamp,
    steady: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        let wall = wall();
        Self { now: wall, wall, steady: Instant::now() }
    }

    pub(super) fn read(&mut self) -> Reading {
        self.advance(wall(), Instant::now())
    }

    /// The steady clock stands still while some systems sleep; the wall clock can be set. The greater advance of the two
    /// is what has passed at least.
    fn advance(&mut self, wall: Timestamp, steady: Instant) -> Reading {
        let seen = steady.saturating_duration_since(self.steady);
        let told = wall.since(self.wall);
        let back = self.wall.since(wall);
        (self.wall, self.steady) = (wall, steady);
        self.now = self.now.plus(seen.max(told));
        Reading { now: self.now, jumped: told.saturating_sub(seen) > DRIFT || back > DRIFT }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn goes_on_during_sleep_and_never_back() {
        let mut clock = Clock::start();
        let (wall, steady) = (clock.wall, clock.steady);
        let first = clock.advance(wall.plus(SECOND), steady + SECOND);
        assert_eq!(first, Reading { now: wall.plus(SECOND), jumped: false });
        let slept = clock.advance(wall.plus(3600 * SECOND), steady + 2 * SECOND);
        assert_eq!(slept, Reading { now: wall.plus(3600 * SECOND), jumped: true });
        let set_back = clock.advance(wall.minus(7200 * SECOND), steady + 3 * SECOND);
        assert_eq!(set_back, Reading { now: wall.plus(3601 * SECOND), jumped: true });
        let goes_on = clock.advance(wall.minus(7199 * SECOND), steady + 4 * SECOND);
        assert_eq!(goes_on, Reading { now: wall.plus(3602 * SECOND), jumped: false });
    }
}
