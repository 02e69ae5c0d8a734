//! Room at an app: so many requests at one time, and of those no principal holds more than a share.

use super::{CONNECT, Failure};
use parking_lot::Mutex;
use postern_protocol::Code;
use postern_relay_core::principal::PrincipalKey;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Requests that may be under way to one app.
const PER_APP: usize = 4096;
/// How many of them one principal may hold, so that none keeps everybody else out.
const PER_PRINCIPAL: usize = PER_APP / 4;

/// The room at one app.
#[derive(Debug)]
pub(super) struct Room {
    slots: Arc<Semaphore>,
    held: Held,
}

/// How many slots each principal holds or waits for; who holds none is not listed.
type Held = Arc<Mutex<HashMap<PrincipalKey, usize>>>;

/// A request's place. Keep it as long as the answer lasts.
#[derive(Debug)]
pub struct Slot {
    _share: Share,
    _slot: OwnedSemaphorePermit,
}

impl Room {
    /// Nothing is under way yet.
    pub(super) fn new() -> Self {
        Self { slots: Arc::new(Semaphore::new(PER_APP)), held: Held::default() }
    }

    /// A place for one request of `principal`.
    pub(super) async fn take(&self, principal: &PrincipalKey) -> Result<Slot, Failure> {
        let share = Share::take(&self.held, principal).ok_or(Failure {
            code: Code::RateLimited,
            detail: "too many requests of this user to this app are under way; let some of them end",
        })?;
        match timeout(CONNECT, self.slots.clone().acquire_owned()).await {
            Ok(Ok(slot)) => Ok(Slot { _share: share, _slot: slot }),
            _ => Err(Failure { code: Code::UpstreamUnreachable, detail: "too many requests are under way" }),
        }
    }
}

/// One of a principal's share.
#[derive(Debug)]
struct Share {
    held: Held,
    principal: PrincipalKey,
}

impl Share {
    fn take(held: &Held, principal: &PrincipalKey) -> Option<Self> {
        let mut counts = held.lock();
        let count = counts.entry(principal.clone()).or_default();
        if *count >= PER_PRINCIPAL {
            return None;
        }
        *count += 1;
        Some(Self { held: held.clone(), principal: principal.clone() })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.held.lock().entry(self.principal.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_share_that_ends_is_free_again_and_forgotten() {
        let room = Room::new();
        let ada = PrincipalKey::new("https://login.corp.example", "ada").unwrap();
        let mut slots = Vec::new();
        for _ in 0..PER_PRINCIPAL {
            slots.push(room.take(&ada).await.unwrap());
        }
        assert_eq!(room.take(&ada).await.unwrap_err().code, Code::RateLimited);
        slots.pop();
        slots.push(room.take(&ada).await.unwrap());
        slots.clear();
        assert!(room.held.lock().is_empty());
        assert_eq!(room.slots.available_permits(), PER_APP);
    }
}
