//! How often a session may bring about a round of re-checks by itself.

use parking_lot::Mutex;
use postern_protocol::SessionId;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// From one such round of a session to its next.
const STEP: Duration = Duration::from_secs(1);

/// When each session had its last round, and whether another waits.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<HashMap<SessionId, Turn>>);

#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    waits: bool,
    last: Option<Instant>,
}

impl Pace {
    /// How long the round that is asked for has to wait; nothing: one waits already, and will do.
    pub(crate) fn ask(&self, session: &SessionId) -> Option<Duration> {
        let mut turns = self.0.lock();
        let turn = turns.entry(session.clone()).or_default();
        if std::mem::replace(&mut turn.waits, true) {
            return None;
        }
        Some(turn.last.map_or(Duration::ZERO, |last| STEP.saturating_sub(last.elapsed())))
    }

    /// The round that waited begins: from here on it takes another to see what changes.
    pub(crate) fn begin(&self, session: &SessionId) {
        self.0.lock().insert(session.clone(), Turn { waits: false, last: Some(Instant::now()) });
    }

    /// Forgets whoever was quiet.
    pub(crate) fn tidy(&self) {
        self.0.lock().retain(|_, turn| turn.waits || turn.last.is_some_and(|last| last.elapsed() < STEP));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_round_waits_and_one_a_second_begins() {
        let (pace, session) = (Pace::default(), SessionId::from_random(1));
        assert_eq!(pace.ask(&session), Some(Duration::ZERO));
        assert_eq!(pace.ask(&session), None);
        assert_eq!(pace.ask(&SessionId::from_random(2)), Some(Duration::ZERO), "everybody has a pace of their own");
        pace.begin(&session);
        let wait = pace.ask(&session).unwrap();
        assert!(wait > Duration::ZERO && wait <= STEP);
        pace.tidy();
        assert_eq!(pace.ask(&session), None, "what waits is not forgotten");
    }
}
