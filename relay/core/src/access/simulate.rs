//! What a request would be told: for the tools that try a policy out. The same judge as for a request, and never a
//! [`Permit`](super::Permit): whatever comes of it, it opens nothing.

use super::{Denial, Request, Snapshot, judge};
use crate::certificate::VerifiedDevice;
use crate::limits::{MAX_AMR, MAX_CLAIM_BYTES, MAX_GROUP_BYTES, MAX_GROUPS};
use crate::principal::PrincipalKey;
use crate::token::{SessionGrant, VerifiedSession};
use postern_protocol::{Code, DeviceId, SessionId, Timestamp};

/// Somebody who is supposed to be signed in: a good certificate, a good session, nothing revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supposed {
    /// Who.
    pub principal: PrincipalKey,
    /// In which groups.
    pub groups: Vec<String>,
    /// On which device.
    pub device: DeviceId,
    /// Authentication context class.
    pub acr: Option<String>,
    /// Authentication methods.
    pub amr: Vec<String>,
    /// When the person proved themself to the provider.
    pub auth_time: Option<Timestamp>,
}

/// What the request would be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The true cause of a denial; absent: allowed.
    pub code: Option<Code>,
    /// What the requester would be told of it; of a hidden app, that there is none.
    pub told: Option<Denial>,
    /// The determining policies by `@id`.
    pub policies: Vec<String>,
}

impl Supposed {
    /// Could a session token say this of somebody?
    pub fn is_possible(&self) -> bool {
        self.groups.len() <= MAX_GROUPS
            && self.groups.iter().all(|group| group.len() <= MAX_GROUP_BYTES)
            && self.amr.len() <= MAX_AMR
            && self.amr.iter().chain(&self.acr).all(|text| text.len() <= MAX_CLAIM_BYTES)
    }
}

impl Answer {
    /// Would it be allowed?
    pub fn allowed(&self) -> bool {
        self.code.is_none()
    }
}

/// What `request` of `who` would be told. `None`: no session token could say this of anybody, for it would be too large.
pub fn simulate(who: &Supposed, request: &Request, snapshot: &Snapshot, now: Timestamp) -> Option<Answer> {
    if !who.is_possible() {
        return None;
    }
    let device = VerifiedDevice::supposed(who.device.clone(), now);
    let grant = SessionGrant {
        session: SessionId::from_random(0),
        principal: who.principal.clone(),
        device: who.device.clone(),
        certificate: device.thumbprint().into(),
        client_id: String::new(),
        email: None,
        name: None,
        groups: who.groups.clone(),
        acr: who.acr.clone(),
        amr: who.amr.clone(),
        auth_time: who.auth_time,
    };
    Some(would(&device, &VerifiedSession::supposed(grant, now)?, request, snapshot, now))
}

/// What `request` of this session would be told.
pub fn would(
    device: &VerifiedDevice,
    session: &VerifiedSession,
    request: &Request,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Answer {
    match judge(device, session, request, snapshot, now) {
        Ok(judgement) => Answer { code: None, told: None, policies: judgement.policies },
        Err(refusal) => {
            let code = Some(refusal.denial.code);
            let told = if refusal.conceal { Denial::from(Code::AppUnknown) } else { refusal.denial };
            Answer { code, told: Some(told), policies: refusal.policies }
        }
    }
}
