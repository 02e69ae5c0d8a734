//! How long to wait after failures: decorrelated jitter, so that many agents that lost the same relay do not
//! come back in step. (AWS Architecture Blog, "Exponential Backoff And Jitter".)

use std::time::Duration;

/// Waits that grow with each failure, between bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    previous: Option<Duration>,
}

impl Backoff {
    /// Waits between `base` and `cap`. A cap below the base counts as the base.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap: cap.max(base), previous: None }
    }

    /// The wait after one more failure: between the base and three times the wait before, never above the cap.
    pub fn next(&mut self, random: u64) -> Duration {
        let ceiling = self.previous.unwrap_or(self.base).saturating_mul(3).min(self.cap);
        let wait = between(self.base, ceiling, random);
        self.previous = Some(wait);
        wait
    }

    /// Things went well for long enough: the next failure is the first again.
    pub fn reset(&mut self) {
        self.previous = None;
    }
}

/// The point between `low` and `high` that `random` picks.
fn between(low: Duration, high: Duration, random: u64) -> Duration {
    let span = u64::try_from(high.saturating_sub(low).as_millis()).unwrap_or(u64::MAX);
    low + Duration::from_millis(if span == u64::MAX { random } else { random % (span + 1) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: Duration = Duration::from_millis(500);
    const CAP: Duration = Duration::from_secs(60);

    #[test]
    fn a_reset_starts_over() {
        let mut backoff = Backoff::new(BASE, CAP);
        for _ in 0..20 {
            backoff.next(u64::MAX / 2);
        }
        backoff.reset();
        assert!(backoff.next(u64::MAX) <= BASE * 3);
    }

    proptest! {
        #[test]
        fn waits_stay_within_bounds_and_at_most_triple(randoms in prop::collection::vec(any::<u64>(), 1..50)) {
            let mut backoff = Backoff::new(BASE, CAP);
            let mut before = BASE;
            for random in randoms {
                let wait = backoff.next(random);
                prop_assert!((BASE..=CAP).contains(&wait));
                prop_assert!(wait <= before * 3);
                before = wait;
            }
        }

        #[test]
        fn the_worst_luck_reaches_the_cap(_unit in 0..1u8) {
            let mut backoff = Backoff::new(BASE, CAP);
            // The largest draw of every span: 500 ms tripled eight times passes a minute.
            let longest = (0..12).map(|_| {
                let span = u64::try_from((backoff.previous.unwrap_or(BASE) * 3).min(CAP).saturating_sub(BASE).as_millis()).unwrap();
                backoff.next(span)
            }).max();
            prop_assert_eq!(longest, Some(CAP));
        }
    }
}
