//! When to renew what has an end: at about two thirds of its life, spread so that agents do not come in step.

use postern_protocol::Timestamp;
use std::time::Duration;

/// A tenth of the life is where the renewal falls at random, before the two thirds.
const SPREAD: u32 = 10;

/// When to renew what began at `began` and lives for `life`: between 17/30 and 20/30 of it.
pub fn due(began: Timestamp, life: Duration, random: u64) -> Timestamp {
    let spread = u64::try_from((life / SPREAD).as_millis()).unwrap_or(u64::MAX).max(1);
    let early = Duration::from_millis(random % spread);
    began.plus((life * 2 / 3).saturating_sub(early))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn falls_shortly_before_two_thirds(began in 0u64..1 << 50, life in 0u64..1 << 40, random: u64) {
            let (began, life) = (Timestamp::from_millis(began), Duration::from_millis(life));
            let due = due(began, life, random);
            prop_assert!(due >= began);
            prop_assert!(due <= began.plus(life * 2 / 3));
            prop_assert!(due.plus(Duration::from_millis(2)) >= began.plus(life * 17 / 30));
        }
    }
}
