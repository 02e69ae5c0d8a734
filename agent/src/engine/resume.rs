//! At start: the session that was, if its secrets can be had.

use super::driver::{Driver, Message};
use super::held::Held;
use super::outcome::validity;
use super::record::{Kept, Record};
use crate::secrets::Vault;
use postern_agent_core::{Account, Ending, Event};
use postern_protocol::local::LoginRequest;
use postern_protocol::{Code, Problem};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

/// A keyring that is locked or not there yet is asked again this often.
const ASK_AGAIN: Duration = Duration::from_secs(20);

/// A session whose secrets are being fetched.
pub(super) struct Resuming {
    task: AbortHandle,
    hurry: Arc<Notify>,
    /// Why they could not be had the last time.
    pub(super) problem: Option<Problem>,
}

impl Drop for Resuming {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Driver {
    /// Takes up what was left, or lets the service account sign in.
    pub(super) async fn begin(&mut self) {
        self.remembered = self.setup.record.read().await;
        if let Some(record) = &self.remembered {
            self.setup.note(record);
        }
        let session = self.remembered.as_ref().and_then(|record| Some((record.clone(), record.session.clone()?)));
        let service = self.setup.config.service_account.is_some();
        self.service_key = self.setup.service_thumbprint().await;
        match session {
            Some((_, Kept { over: Some(over), .. })) if over.revoked || !service => {
                let ending = if over.revoked { Ending::Revoked } else { Ending::Expired };
                self.handle(Event::Remember { account: Account::Person, ending, problem: Box::new(over.problem) });
            }
            Some((record, kept)) if !service => {
                if let Some(vault) = self.setup.lasting_vault(&kept.storage) {
                    self.resume(record, kept, vault);
                }
            }
            _ if service && (self.setup.config.relay.is_some() || self.remembered.is_some()) => {
                self.handle(Event::SignIn { account: Account::Service });
            }
            _ => {}
        }
        self.publish();
    }

    fn resume(&mut self, record: Record, kept: Kept, vault: Vault) {
        let Some(inbox) = self.inbox() else { return };
        let hurry = Arc::new(Notify::new());
        let task = tokio::spawn(fetch(record, kept, vault, inbox, Arc::clone(&hurry)));
        self.resuming = Some(Resuming { task: task.abort_handle(), hurry, problem: None });
    }

    pub(super) fn resumed(&mut self, result: Result<Option<Box<Held>>, Problem>) {
        let Some(resuming) = &mut self.resuming else { return };
        match result {
            Ok(Some(held)) => {
                self.resuming = None;
                let certificate = held
                    .certificate
                    .as_deref()
                    .map(validity)
                    .unwrap_or(postern_agent_core::Validity { age: Duration::ZERO, remaining: Duration::ZERO });
                self.held = Some(*held);
                self.handle(Event::Resume { account: Account::Person, certificate });
            }
            Ok(None) => {
                self.resuming = None;
                let problem =
                    Problem::new(Code::NotSignedIn).detail("the keyring no longer holds the session's secrets");
                let event =
                    Event::Remember { account: Account::Person, ending: Ending::Expired, problem: Box::new(problem) };
                self.handle(event);
            }
            Err(problem) => {
                tracing::warn!(code = %problem.code, detail = problem.detail, "the session's secrets cannot be had");
                self.uplink.set(None, problem.clone());
                resuming.problem = Some(problem.clone());
                self.fail_login(problem);
            }
        }
    }

    /// Someone wants to sign in while a kept session waits for the keyring: then it is asked now. Who agrees to a
    /// session in memory does not wait for it.
    pub(super) fn hurry_resume(&mut self, request: &LoginRequest) -> bool {
        match &self.resuming {
            Some(resuming) if !request.allow_memory_only => {
                resuming.hurry.notify_one();
                true
            }
            _ => {
                self.resuming = None;
                false
            }
        }
    }
}

async fn fetch(record: Record, kept: Kept, vault: Vault, inbox: mpsc::Sender<Message>, hurry: Arc<Notify>) {
    loop {
        let result = Held::restore(&record, &kept, vault.clone()).await;
        let over = result.is_ok();
        let message = Message::Resumed { result: result.map(|held| held.map(Box::new)) };
        if inbox.send(message).await.is_err() || over {
            return;
        }
        let _ = tokio::time::timeout(ASK_AGAIN, hurry.notified()).await;
    }
}
