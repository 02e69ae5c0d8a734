//! What a living session has, and until when each part of it lasts.

use crate::event::{Ticket, Tokens, Validity};
use crate::renewal;
use crate::turn::Turn;
use postern_protocol::Timestamp;
use std::time::Duration;

/// No life is longer than this, whatever an answer says.
pub(super) const LONGEST_LIFE: Duration = Duration::from_secs(366 * 24 * 3600);

/// The provider's tokens, which the shell holds.
#[derive(Debug)]
pub(crate) struct ProviderTokens {
    pub(crate) renewable: bool,
    pub(crate) renew_at: Timestamp,
    /// From here on the relay would refuse the token.
    pub(crate) stale_at: Timestamp,
    /// Its end, with no margin: for people.
    pub(crate) ends: Timestamp,
}

/// The device certificate, which the shell holds.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) version: u64,
    pub(crate) renew_at: Timestamp,
    pub(crate) ends: Timestamp,
    /// From here on it is renewed whenever the agent comes back from somewhere: the next absence may be longer.
    early: Timestamp,
}

/// A link to the relay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) ticket: Ticket,
    /// The certificate it was dialled with.
    pub(crate) certificate: u64,
    pub(super) since: Timestamp,
    /// A newer one is wanted, though this one may still do.
    pub(crate) outdated: bool,
}

/// The session token, bound to the certificate of its link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    pub(crate) link: Ticket,
    pub(super) granted: Timestamp,
    pub(crate) renew_at: Timestamp,
    pub(crate) ends: Timestamp,
}

/// What was done about the device's posture.
#[derive(Debug, Default)]
pub(crate) struct Posture {
    /// When it was looked at last.
    pub(crate) seen: Timestamp,
    /// As of when the relay knows it.
    pub(crate) reported: Timestamp,
    /// It is another than the relay knows.
    pub(crate) changed: bool,
}

impl Posture {
    /// The relay was told what a look at `when` found.
    pub(super) fn told(&mut self, when: Timestamp) {
        // A look that began later may have found something newer.
        self.changed &= when < self.seen;
        (self.seen, self.reported) = (self.seen.max(when), self.reported.max(when));
    }
}

/// Which change of the secrets was the last, which was saved, and which could not be.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    pub(crate) version: u64,
    pub(crate) saved: u64,
    pub(crate) failed: u64,
}

impl ProviderTokens {
    pub(super) fn new(tokens: Tokens, since: Timestamp, random: u64) -> Self {
        let life = tokens.fresh_for.min(LONGEST_LIFE);
        // A margin for the way to the relay and for clocks that differ a little.
        let margin = (life / 10).min(Duration::from_secs(30));
        Self {
            renewable: tokens.renewable,
            renew_at: renewal::due(since, life, random),
            stale_at: since.plus(life - margin),
            ends: since.plus(life),
        }
    }
}

impl Certificate {
    /// Just issued: it is as old as nothing, even where the relay dated it back for clocks that lag.
    pub(super) fn issued(version: u64, validity: Validity, turn: &mut Turn) -> Self {
        let life = validity.remaining.min(LONGEST_LIFE);
        let renew_at = renewal::due(turn.now, life, turn.random());
        Self { version, renew_at, ends: turn.now.plus(life), early: turn.now.plus(life / 3) }
    }

    pub(super) fn kept(validity: Validity, turn: &mut Turn) -> Self {
        let life = validity.age.saturating_add(validity.remaining).min(LONGEST_LIFE);
        let began = turn.now.minus(validity.age);
        let renew_at = renewal::due(began, life, turn.random());
        let ends = turn.now.plus(validity.remaining.min(LONGEST_LIFE));
        let mut kept = Self { version: 0, renew_at, ends, early: began.plus(life / 3) };
        kept.renew_early(turn.now);
        kept
    }

    pub(super) fn renew_early(&mut self, now: Timestamp) {
        if self.early <= now {
            self.renew_at = self.renew_at.min(now);
        }
    }
}
