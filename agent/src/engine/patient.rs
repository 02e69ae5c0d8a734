//! What the doctor gets to know of the engine, and of one that does not run.

use super::driver::Driver;
use super::record::{Record, RecordFile};
use super::setup::Setup;
use crate::config::Config;
use crate::discovery;
use crate::doctor::{Patient, Relay};
use crate::state_dir::StateDir;
use std::sync::Arc;

impl Driver {
    pub(super) fn patient(&self) -> Patient {
        let mut patient = of_setup(&self.setup, self.remembered.as_ref());
        patient.status = Some(self.status());
        if let Some(held) = &self.held {
            let relay = &held.relay;
            patient.relay = Some(Relay {
                address: relay.address.clone(),
                ca_pem: relay.ca_pem.clone(),
                endpoint: Some(relay.discovery.relay.clone()),
            });
            let certificate = held.certificate.as_deref();
            patient.identity = certificate.map(|certificate| certificate.identity(&held.device.key));
            patient.certificate = certificate.map(|certificate| (certificate.not_before, certificate.not_after));
        }
        patient
    }
}

/// The agent that would run with this state directory.
pub(crate) async fn without_agent(config: Config, state: StateDir) -> Patient {
    let state = Arc::new(state);
    let record = RecordFile::new(Arc::clone(&state)).read().await;
    of_setup(&Setup::new(config, state), record.as_ref())
}

fn of_setup(setup: &Setup, record: Option<&Record>) -> Patient {
    let configured = setup.config.relay.as_deref().and_then(|text| discovery::parse_address(text).ok());
    let remembered = record.map(|record| Relay {
        address: record.address.clone(),
        ca_pem: record.ca_pem.clone().or_else(|| setup.config.ca_pem.clone()),
        endpoint: record.session.as_ref().map(|kept| kept.discovery.relay.clone()),
    });
    let relay = remembered
        .or_else(|| configured.map(|address| Relay { address, ca_pem: setup.config.ca_pem.clone(), endpoint: None }));
    Patient { keyring: setup.keyring(), relay, captive_probe: setup.config.captive_probe.clone(), ..Patient::default() }
}
