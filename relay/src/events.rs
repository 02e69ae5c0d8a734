//! `GET /events`: what each session is told while it is online.

use parking_lot::Mutex;
use postern_protocol::control::RelayEvent;
use postern_protocol::{Code, SessionId};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Silence longer than this means a dead connection.
const QUIET: Duration = Duration::from_secs(15);
/// Events a slow reader may lag behind before it loses some.
const BACKLOG: usize = 64;
/// Answers of one session that may be open at once: one is usual, two while the agent changes connections.
const PER_SESSION: usize = 8;

/// The open `GET /events` answers, by session.
#[derive(Clone, Debug)]
pub struct Hub {
    sessions: Arc<Mutex<HashMap<SessionId, broadcast::Sender<RelayEvent>>>>,
    quiet: Duration,
}

/// One open answer.
#[derive(Debug)]
pub struct Subscription {
    hub: Hub,
    session: SessionId,
    receiver: Option<broadcast::Receiver<RelayEvent>>,
    greeted: bool,
}

impl Hub {
    /// Nobody listens yet.
    pub fn new() -> Self {
        Self { sessions: Arc::default(), quiet: QUIET }
    }

    /// Opens an answer for `session`; `rate_limited` when it has too many already.
    pub fn subscribe(&self, session: &SessionId) -> Result<Subscription, Code> {
        let mut sessions = self.sessions.lock();
        let sender = sessions.entry(session.clone()).or_insert_with(|| broadcast::Sender::new(BACKLOG));
        if sender.receiver_count() >= PER_SESSION {
            return Err(Code::RateLimited);
        }
        let receiver = Some(sender.subscribe());
        Ok(Subscription { hub: self.clone(), session: session.clone(), receiver, greeted: false })
    }

    /// Tells one session.
    pub fn send(&self, session: &SessionId, event: RelayEvent) {
        if let Some(sender) = self.sessions.lock().get(session) {
            let _nobody_listens = sender.send(event);
        }
    }

    /// Tells every session.
    pub fn send_all(&self, event: &RelayEvent) {
        for sender in self.sessions.lock().values() {
            let _nobody_listens = sender.send(event.clone());
        }
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

impl Subscription {
    /// The next event: [`RelayEvent::Alive`] at once and after each quiet interval. Can be dropped and called again.
    pub async fn next(&mut self) -> RelayEvent {
        if !std::mem::replace(&mut self.greeted, true) {
            return RelayEvent::Alive;
        }
        let Some(receiver) = &mut self.receiver else { return RelayEvent::Alive };
        match tokio::time::timeout(self.hub.quiet, receiver.recv()).await {
            Ok(Ok(event)) => event,
            // What was lost is unknown: let the agent look at everything again.
            Ok(Err(RecvError::Lagged(_))) => RelayEvent::AppsChanged,
            Ok(Err(RecvError::Closed)) | Err(_) => RelayEvent::Alive,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut sessions = self.hub.sessions.lock();
        self.receiver = None;
        if sessions.get(&self.session).is_some_and(|sender| sender.receiver_count() == 0) {
            sessions.remove(&self.session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_hears_its_own_events_and_that_it_is_alive() {
        let hub = Hub { quiet: Duration::from_millis(20), ..Hub::new() };
        let (one, two) = (SessionId::from_random(1), SessionId::from_random(2));
        let (mut first, mut second) = (hub.subscribe(&one).unwrap(), hub.subscribe(&two).unwrap());
        assert_eq!((first.next().await, second.next().await), (RelayEvent::Alive, RelayEvent::Alive));
        hub.send(&one, RelayEvent::Revoked { code: Code::SessionRevoked });
        hub.send_all(&RelayEvent::Draining);
        assert_eq!(first.next().await, RelayEvent::Revoked { code: Code::SessionRevoked });
        assert_eq!(first.next().await, RelayEvent::Draining);
        assert_eq!(second.next().await, RelayEvent::Draining);
        assert_eq!(second.next().await, RelayEvent::Alive, "after a quiet interval");
    }

    #[tokio::test]
    async fn answers_are_limited_and_leave_nothing_behind() {
        let hub = Hub::new();
        let session = SessionId::from_random(1);
        let open: Vec<_> = (0..PER_SESSION).map(|_| hub.subscribe(&session).unwrap()).collect();
        assert_eq!(hub.subscribe(&session).unwrap_err(), Code::RateLimited);
        drop(open);
        assert!(hub.sessions.lock().is_empty());
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_to_look_again() {
        let hub = Hub::new();
        let session = SessionId::from_random(1);
        let mut subscription = hub.subscribe(&session).unwrap();
        subscription.next().await;
        for _ in 0..=BACKLOG {
            hub.send(&session, RelayEvent::Draining);
        }
        assert_eq!(subscription.next().await, RelayEvent::AppsChanged);
        assert_eq!(subscription.next().await, RelayEvent::Draining);
    }
}
