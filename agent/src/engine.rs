//! The tokio shell around the agent's pure machine: it reads the clock, runs the tasks, and holds the secrets.
//!
//! One task, the driver, owns everything that changes. It hands events to the machine and does what the machine says;
//! whoever holds an [`Engine`] sends it messages and watches the status it publishes.

mod clock;
mod driver;
mod effects;
mod ending;
mod events;
mod held;
mod login;
mod outcome;
mod patient;
mod record;
mod resume;
mod setup;
mod sign_in;
mod status;
mod step_up;
mod upkeep;

use crate::config::Config;
use crate::doctor::Patient;
use crate::state_dir::StateDir;
use crate::uplink::Uplink;
use driver::{Driver, Message};
pub(crate) use patient::without_agent;
use postern_protocol::local::{LoginEvent, LoginRequest, SignedOut, Status};
use postern_protocol::{Code, Problem, StepUp};
use setup::Setup;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Messages that may wait for the driver, which never waits for anyone.
const INBOX: usize = 64;
/// A sign-in tells fewer steps than this.
const STEPS: usize = 32;

/// The engine. Clones are handles to the same one; it ends with the last of them.
#[derive(Clone)]
pub struct Engine {
    inbox: mpsc::Sender<Message>,
    status: watch::Receiver<Status>,
}

impl Engine {
    /// Starts it. A session that was kept is resumed without a sign-in; nothing here waits for the network.
    pub async fn start(config: Config, state: Arc<StateDir>, uplink: Arc<Uplink>) -> Result<Self, Problem> {
        Ok(Self::start_with(Setup::new(config, state), uplink).await)
    }

    async fn start_with(setup: Setup, uplink: Arc<Uplink>) -> Self {
        let (inbox, messages) = mpsc::channel(INBOX);
        let mut driver = Driver::new(Arc::new(setup), uplink, messages, inbox.downgrade());
        driver.begin().await;
        let status = driver.watch();
        tokio::spawn(driver.run());
        Self { inbox, status }
    }

    /// Where the agent stands.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Follows where it stands.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Signs in. The steps end with `online` or `failed`; the sign-in goes on if nobody listens to them.
    pub fn login(&self, request: LoginRequest) -> mpsc::Receiver<LoginEvent> {
        let (steps, listener) = mpsc::channel(STEPS);
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            let message = Message::Login { request: Box::new(request), steps };
            if let Err(mpsc::error::SendError(Message::Login { steps, .. })) = inbox.send(message).await {
                let _ = steps.try_send(LoginEvent::Failed { problem: Box::new(stopped()) });
            }
        });
        listener
    }

    /// Ends a sign-in that waits for the person: whoever waits for it gets `sign_in_cancelled`, and all is as it was.
    pub async fn cancel_login(&self) -> Result<(), Problem> {
        let (reply, done) = oneshot::channel();
        self.send(Message::CancelLogin { reply }).await?;
        done.await.map_err(|_| stopped())
    }

    /// Signs out: the secrets are wiped whether or not relay and provider can be told, and who could not be is.
    pub async fn logout(&self) -> Result<SignedOut, Problem> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Logout { reply }).await?;
        answer.await.map_err(|_| stopped())?
    }

    /// Renews the session token after the relay refused it for `code`. Resolves once a newer one is in the uplink.
    pub async fn renew(&self, code: Code) -> Result<(), Problem> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Renew { code, reply }).await?;
        answer.await.map_err(|_| stopped())?
    }

    /// Has the user sign in afresh or more strongly. Resolves once the session token says so, or why it will not; without
    /// `waits` once it has begun, or why it will not begin.
    pub async fn step_up(&self, wanted: StepUp, waits: bool) -> Result<(), Problem> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::StepUp { wanted, waits, reply }).await?;
        answer.await.map_err(|_| stopped())?
    }

    /// Tells that the relay refused a request for a cause that concerns the session.
    pub fn refused(&self, code: Code) {
        // Of many refusals for one cause it is enough that some arrive.
        let _ = self.inbox.try_send(Message::Refused { code });
    }

    /// What the doctor gets to know.
    pub(crate) async fn patient(&self) -> Result<Patient, Problem> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Examine { reply }).await?;
        answer.await.map_err(|_| stopped())
    }

    /// Ends every task and connection. The session can be resumed by the next engine.
    pub async fn shutdown(&self) {
        let (reply, done) = oneshot::channel();
        if self.send(Message::Shutdown { reply }).await.is_ok() {
            let _ = done.await;
        }
    }

    async fn send(&self, message: Message) -> Result<(), Problem> {
        self.inbox.send(message).await.map_err(|_| stopped())
    }
}

fn stopped() -> Problem {
    Problem::new(Code::AgentNotRunning).detail("the agent is stopping")
}

#[cfg(test)]
mod tests;
