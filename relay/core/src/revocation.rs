//! What is withdrawn: principals, devices, sessions. A set that the shell replaces as a whole.

use crate::principal::PrincipalKey;
use postern_protocol::{Code, DeviceId, SessionId};
use std::collections::HashSet;

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
}

impl Revocations {
    /// Withdraws `target`. False if it was withdrawn already.
    pub fn insert(&mut self, target: Target) -> bool {
        match target {
            Target::Principal(key) => self.principals.insert(key),
            Target::Device(id) => self.devices.insert(id),
            Target::Session(id) => self.sessions.insert(id),
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
