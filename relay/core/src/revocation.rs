//! What is withdrawn: principals, devices, sessions; devices out of order; tokens that no longer tell the truth; sessions
//! that wait for their user to sign in again. A set that the shell replaces as a whole.

use crate::principal::PrincipalKey;
use postern_protocol::{Code, DeviceId, SessionId, Timestamp};
use std::collections::{HashMap, HashSet};

/// What a revocation withdraws.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A principal: all its sessions on all devices.
    Principal(PrincipalKey),
    /// A device, whoever uses it.
    Device(DeviceId),
    /// One sign-in on one device.
    Session(SessionId),
}

impl Target {
    /// The code of a refusal for this cause.
    pub const fn code(&self) -> Code {
        match self {
            Self::Principal(_) => Code::PrincipalRevoked,
            Self::Device(_) => Code::DeviceRevoked,
            Self::Session(_) => Code::SessionRevoked,
        }
    }
}

/// Everything withdrawn and not yet forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    principals: HashSet<PrincipalKey>,
    devices: HashSet<DeviceId>,
    sessions: HashSet<SessionId>,
    not_compliant: HashSet<DeviceId>,
    changed: HashMap<PrincipalKey, Changed>,
    lapsed: HashMap<SessionId, Lapse>,
}

/// A session whose provider did not renew its sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lapse {
    /// The provider's tokens issued before this are of the sign-in that it does not renew.
    pub at: Timestamp,
    /// Session tokens issued before this are void.
    pub tokens_from: Timestamp,
    /// Has the user signed in again?
    pub mended: bool,
}

/// Since when the claims of a principal are others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The provider's tokens issued before this, by its clock, are out of date.
    pub at: Timestamp,
    /// Session tokens issued before this, by the relay's clock, are void.
    pub tokens_from: Timestamp,
}

impl Changed {
    /// They changed `at` the provider, and the relay was `told` so. A token tells its time in whole seconds, so what was
    /// issued in the same second counts as issued before.
    pub const fn new(at: Timestamp, told: Timestamp) -> Self {
        Self { at, tokens_from: Timestamp::from_seconds(told.seconds().saturating_add(1)) }
    }
}

impl Revocations {
    /// Withdraws `target`. False if it was withdrawn already.
    pub fn insert(&mut self, target: Target) -> bool {
        match target {
            Target::Principal(key) => self.principals.insert(key),
            Target::Device(id) => self.devices.insert(id),
            Target::Session(id) => {
                self.lapsed.remove(&id);
                self.sessions.insert(id)
            }
        }
    }

    /// Takes the withdrawal of `target` back. False if it was not withdrawn.
    pub fn remove(&mut self, target: &Target) -> bool {
        match target {
            Target::Principal(key) => self.principals.remove(key),
            Target::Device(id) => self.devices.remove(id),
            Target::Session(id) => self.sessions.remove(id),
        }
    }

    /// Is `target` withdrawn?
    pub fn has(&self, target: &Target) -> bool {
        match target {
            Target::Principal(key) => self.is_principal(key),
            Target::Device(id) => self.is_device(id),
            Target::Session(id) => self.is_session(id),
        }
    }

    /// Takes over what is known elsewhere. Withdrawals are only added: one that stands here may still be on its way there.
    /// Of the compliance of devices the other knows all.
    pub fn learn(&mut self, known: Self) {
        // Of lapses this place alone knows.
        let Self { principals, devices, sessions, not_compliant, changed, lapsed: _ } = known;
        self.principals.extend(principals);
        self.devices.extend(devices);
        self.sessions.extend(sessions);
        self.not_compliant = not_compliant;
        for (principal, changed) in changed {
            self.claims_changed(principal, changed);
        }
    }

    /// Is the principal withdrawn?
    pub fn is_principal(&self, key: &PrincipalKey) -> bool {
        self.principals.contains(key)
    }

    /// Is the device withdrawn?
    pub fn is_device(&self, id: &DeviceId) -> bool {
        self.devices.contains(id)
    }

    /// Is the session withdrawn?
    pub fn is_session(&self, id: &SessionId) -> bool {
        self.sessions.contains(id)
    }

    /// Notes whether a device is in order.
    pub fn comply(&mut self, device: DeviceId, compliant: bool) {
        if compliant {
            self.not_compliant.remove(&device);
        } else {
            self.not_compliant.insert(device);
        }
    }

    /// Is the device in order, as far as anybody told?
    pub fn is_compliant(&self, device: &DeviceId) -> bool {
        !self.not_compliant.contains(device)
    }

    /// Notes that a principal's claims changed. What is older than what is known changes nothing; what is of the same time
    /// may be another change, for times are often whole seconds.
    pub fn claims_changed(&mut self, principal: PrincipalKey, changed: Changed) {
        let known = self.changed.entry(principal).or_insert(changed);
        if changed.at >= known.at {
            *known = Changed { at: changed.at, tokens_from: changed.tokens_from.max(known.tokens_from) };
        }
    }

    /// Forgets changes of claims before `told`: no token is that old.
    pub fn forget_changes(&mut self, told: Timestamp) {
        self.changed.retain(|_, changed| changed.tokens_from >= told);
    }

    /// Since when the principal's claims are others, if they changed lately.
    pub fn changed(&self, principal: &PrincipalKey) -> Option<Changed> {
        self.changed.get(principal).copied()
    }

    /// Notes that a session lapses now. Tokens tell their time in whole seconds: a session token of this second is void,
    /// and a provider's token of it may be of a new sign-in.
    pub fn lapse(&mut self, session: SessionId, now: Timestamp) {
        let at = Timestamp::from_seconds(now.seconds());
        let lapse = Lapse { at, tokens_from: Changed::new(at, now).tokens_from, mended: false };
        self.lapsed.insert(session, lapse);
    }

    /// The session's lapse: its tokens of before stay void after its user signed in again.
    pub fn lapsed(&self, session: &SessionId) -> Option<Lapse> {
        self.lapsed.get(session).copied()
    }

    /// Notes that the user of a session signed in again since this lapse.
    pub fn mend(&mut self, session: &SessionId, lapse: Lapse) {
        if let Some(known) = self.lapsed.get_mut(session).filter(|known| **known == lapse) {
            known.mended = true;
        }
    }

    /// Forgets lapses before `then` that are over: no token is that old.
    pub fn forget_lapses(&mut self, then: Timestamp) {
        self.lapsed.retain(|_, lapse| !lapse.mended || lapse.tokens_from >= then);
    }

    /// The first cause why these may do nothing: device, then principal, then session.
    pub fn cause(&self, device: &DeviceId, principal: &PrincipalKey, session: &SessionId) -> Option<Code> {
        if self.is_device(device) {
            Some(Code::DeviceRevoked)
        } else if self.is_principal(principal) {
            Some(Code::PrincipalRevoked)
        } else if self.is_session(session) {
            Some(Code::SessionRevoked)
        } else {
            None
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.principals.len() + self.devices.len() + self.sessions.len()
    }

    /// Is nothing withdrawn?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
