//! Where the agent stands, in the words of the local API.

use super::driver::Driver;
use super::held::presentable;
use crate::enroll;
use postern_protocol::local::{Carrier, DeviceStatus, SessionStatus, State, Status};

/// Before anything is known.
pub(super) fn signed_out() -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        state: State::SignedOut,
        relay: None,
        organisation: None,
        principal: None,
        device: None,
        session: None,
        carrier: None,
        posture: None,
        problem: None,
    }
}

impl Driver {
    pub(super) fn status(&self) -> Status {
        let mut status =
            Status { state: self.machine.state(), problem: self.machine.problem().cloned(), ..signed_out() };
        if let Some(resuming) = &self.resuming {
            // A session that waits for its secrets is neither signed out nor on its way.
            status.state = if resuming.problem.is_some() { State::Offline } else { State::Connecting };
            status.problem = resuming.problem.clone();
        }
        match &self.held {
            Some(held) => {
                status.relay = Some(held.relay.address.clone());
                status.organisation = Some(held.relay.discovery.organisation.clone());
                status.principal = held.principal.clone().map(presentable);
                let certificate = held.certificate.as_deref();
                status.device = Some(DeviceStatus {
                    name: self.device_name(),
                    id: certificate.map(|certificate| certificate.spiffe_id.device.clone()),
                    key_thumbprint: held.device.key.thumbprint(),
                    key_storage: held.device.storage.to_owned(),
                    certificate_expires: certificate.map(|certificate| certificate.not_after),
                    spiffe_id: certificate.map(|certificate| certificate.spiffe_id.to_string()),
                });
                let token_expires = self.granted.as_ref().map(|granted| granted.expires);
                status.posture = self.posture.clone();
                status.carrier =
                    self.granted.as_ref().and_then(|granted| self.links.get(&granted.link)).map(|_| Carrier::Quic);
                let (signed_in, ends) = (held.signed_in, self.session_ends());
                status.session = held.session.clone().map(|id| SessionStatus { id, token_expires, signed_in, ends });
            }
            None => {
                status.device = self.service_key.clone().map(|key_thumbprint| DeviceStatus {
                    name: self.device_name(),
                    id: None,
                    key_thumbprint,
                    key_storage: "file".to_owned(),
                    certificate_expires: None,
                    spiffe_id: None,
                });
                let record = self.remembered.as_ref();
                // Of a session that is signed out of, or was in the memory of another process, nobody is told.
                let told = status.state != State::SignedOut;
                let kept = record.and_then(|record| record.session.as_ref()).filter(|_| told);
                status.relay = record.map(|record| record.address.clone());
                status.organisation = kept.map(|kept| kept.discovery.organisation.clone());
                status.principal = kept.and_then(|kept| kept.principal.clone()).map(presentable);
            }
        }
        status
    }

    fn device_name(&self) -> String {
        enroll::device_name(self.setup.config.device_name.as_deref())
    }
}
