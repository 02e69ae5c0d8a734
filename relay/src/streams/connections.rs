//! The connections of devices, so that each ends with its device.

use crate::transport::Cut;
use parking_lot::Mutex;
use postern_protocol::Code;
use postern_relay_core::certificate::VerifiedDevice;
use std::collections::HashMap;
use std::sync::Arc;

/// Connections one device may hold: one is usual, two while it changes certificates.
const PER_DEVICE: usize = 16;

/// Those that live.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    device: Arc<VerifiedDevice>,
    cut: Arc<Cut>,
}

/// A filed connection; dropping it takes the connection off the files.
#[derive(Debug)]
pub struct LiveConnection {
    all: Connections,
    number: u64,
}

impl Connections {
    /// Files a connection. A device with too many loses its oldest: after a change of network those are the dead ones.
    pub fn open(&self, device: Arc<VerifiedDevice>, cut: Arc<Cut>) -> LiveConnection {
        let mut open = self.open.lock();
        let number = open.next;
        open.next += 1;
        // One that is cut is about to go: it must not be taken for the oldest again.
        let stays = |connection: &Connection| connection.device.id() == device.id() && connection.cut.code().is_none();
        let of_device = || open.connections.iter().filter(|(_, connection)| stays(connection));
        if of_device().count() >= PER_DEVICE
            && let Some((_, oldest)) = of_device().min_by_key(|(number, _)| **number)
        {
            oldest.cut.cut_any(Code::RateLimited);
        }
        open.connections.insert(number, Connection { device, cut });
        LiveConnection { all: self.clone(), number }
    }

    /// Ends those of the devices that are `wanted`.
    pub fn cut(&self, code: Code, wanted: impl Fn(&VerifiedDevice) -> bool) {
        for connection in self.open.lock().connections.values().filter(|connection| wanted(&connection.device)) {
            connection.cut.cut_any(code);
        }
    }
}

impl Drop for LiveConnection {
    fn drop(&mut self) {
        self.all.open.lock().connections.remove(&self.number);
    }
}
