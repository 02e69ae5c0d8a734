//! The provider renews the sign-in no longer. Where the relay holds live streams, the session waits for its user to sign in
//! again; else it is over.

use postern_protocol::{Problem, Timestamp};
use std::time::Duration;

/// The relay ends the session by itself; this much later the agent does without its word.
const MARGIN: Duration = Duration::from_secs(10);

/// Where it stands.
#[derive(Debug)]
pub(crate) struct Lapse {
    /// Why there will be no new token.
    pub(crate) problem: Problem,
    /// When waiting ends; nothing: the relay was not told yet.
    ends: Option<Timestamp>,
}

impl Lapse {
    /// The provider refused just now.
    pub(crate) fn begin(problem: Problem) -> Self {
        Self { problem, ends: None }
    }

    /// The relay waits for the user.
    pub(crate) fn wait(&mut self, now: Timestamp, held_for: Duration) {
        self.ends = Some(now.plus(held_for.saturating_add(MARGIN)));
    }

    /// Does everything wait for the user?
    pub(crate) fn waits(&self) -> bool {
        self.ends.is_some()
    }

    /// When it is given up.
    pub(crate) fn ends(&self) -> Option<Timestamp> {
        self.ends
    }
}
