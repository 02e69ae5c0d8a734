//! What the word of an outside source changes here: a provider's logout token, a security event.

use crate::limits::CLOCK_SKEW;
use crate::logout::Logout;
use crate::principal::PrincipalKey;
use postern_protocol::{DeviceId, Timestamp};

/// What changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Sessions end, as if each were revoked. Their people may sign in again.
    End(Sessions),
    /// A device is denied, or no longer.
    Compliance {
        /// Which.
        device: DeviceId,
        /// May it?
        compliant: bool,
        /// When it became so.
        at: Timestamp,
    },
    /// Older tokens of a principal no longer tell the truth.
    ClaimsChanged {
        /// Of whom.
        principal: PrincipalKey,
        /// Since when.
        at: Timestamp,
    },
    /// Nothing; why, for the log.
    Nothing(&'static str),
}

/// Which sessions end: those to which all that is given applies. Something is always given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// Of whom.
    pub principal: Option<PrincipalKey>,
    /// Started with this session of the provider, or itself of this id.
    pub session: Option<String>,
    /// On which device.
    pub device: Option<DeviceId>,
    /// Do sessions count too of which it is not known which session of the provider started them?
    pub or_unknown: bool,
    /// When the provider ended them. What was signed in later stays, unless it is named itself.
    pub at: Timestamp,
}

impl Sessions {
    /// The latest sign-in whose session ends, where sessions are not named one by one: clocks may lie apart, and a sign-in
    /// too many is better than one too few.
    pub fn signed_in_by(&self) -> Timestamp {
        self.at.plus(CLOCK_SKEW)
    }
}

impl From<&Logout> for Sessions {
    fn from(logout: &Logout) -> Self {
        Self {
            principal: logout.principal.clone(),
            session: logout.provider_session.clone(),
            device: None,
            // A provider may name its session here but not in ID tokens: then it may be any of the person's.
            or_unknown: logout.principal.is_some(),
            at: logout.issued_at,
        }
    }
}
