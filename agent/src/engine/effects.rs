//! What the machine says is done here.

use super::clock;
use super::driver::{Driver, Message, Running};
use super::outcome::Outcome;
use super::sign_in::{self, LastRelay, SignIn};
use super::{events, upkeep};
use crate::link::Link;
use crate::posture;
use futures_util::future::BoxFuture;
use postern_agent_core::{Account, Effect, Task, Ticket};
use postern_protocol::local::LoginMethod;
use postern_protocol::{Code, Problem, Timestamp};
use secrecy::SecretString;
use std::sync::Arc;
use tokio::task::AbortHandle;

type Work = BoxFuture<'static, Result<Outcome, Problem>>;

/// A link and who watches for its end.
pub(super) struct Dialled {
    pub(super) link: Arc<Link>,
    watcher: AbortHandle,
}

impl Drop for Dialled {
    fn drop(&mut self) {
        // The watcher holds the link too, and must not keep it alive.
        self.watcher.abort();
    }
}

/// The session token granted last.
#[derive(Clone)]
pub(super) struct Granted {
    pub(super) link: Ticket,
    pub(super) token: SecretString,
    /// When it ends, by the system's clock, for people.
    pub(super) expires: Timestamp,
}

impl Driver {
    pub(super) fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Do { ticket, task } => self.start(ticket, task),
            Effect::Cancel { ticket } => {
                if let Some(running) = self.tasks.remove(&ticket) {
                    running.abort.abort();
                }
            }
            Effect::Carry { link } => self.carry(link),
            Effect::Halt { problem } => {
                self.granted = None;
                self.answer_renewals(&Err((*problem).clone()));
                self.uplink.set(None, *problem);
            }
            Effect::Release { link } => {
                if let Some(dialled) = self.links.remove(&link) {
                    self.released.retain(|link| link.strong_count() > 0);
                    self.released.push(Arc::downgrade(&dialled.link));
                }
            }
            Effect::SteppedUp => self.stepped_up(),
            Effect::StepUpFailed { problem } => self.step_up_failed(*problem),
            Effect::End { ending, problem } => self.end(ending, *problem),
        }
    }

    fn start(&mut self, ticket: Ticket, task: Task) {
        tracing::debug!(?task, "begins");
        let work = match task {
            Task::SignIn => Some(self.sign_in()),
            Task::StepUp => self.step_up_work(),
            _ => self.work(task),
        };
        // A task whose means are gone fails as soon as the machine listens again.
        let gone = || Problem::new(Code::RelayUnreachable).detail("the connection is gone");
        self.spawn(ticket, task, work.unwrap_or_else(|| Box::pin(async move { Err(gone()) })));
    }

    fn work(&self, task: Task) -> Option<Work> {
        let (held, setup) = (self.held.clone()?, Arc::clone(&self.setup));
        let name = setup.config.device_name.clone();
        Some(match task {
            Task::SignIn | Task::StepUp => return None,
            Task::Enroll => {
                Box::pin(async move { sign_in::enroll(held, name.as_deref()).await.map(Outcome::Enrolled) })
            }
            Task::Save => Box::pin(async move {
                held.save().await?;
                setup.remember(&held.record(None)).await.map(|()| Outcome::Saved)
            }),
            Task::Connect => Box::pin(async move {
                let (link, moved) = upkeep::connect(held, setup).await?;
                Ok(Outcome::Connected { link, moved })
            }),
            Task::Refresh => {
                Box::pin(async move { Ok(Outcome::Refreshed(Box::new(upkeep::refresh(held, setup).await))) })
            }
            Task::Exchange { link } => {
                let link = Arc::clone(&self.links.get(&link)?.link);
                Box::pin(async move {
                    upkeep::exchange(held, link).await.map(|granted| Outcome::Granted(Box::new(granted)))
                })
            }
            Task::LookAtPosture => {
                Box::pin(async move { Ok(Outcome::PostureSeen(Box::new(posture::observe(held.device.storage).await))) })
            }
            Task::ReportPosture { link } => {
                let (link, token) = self.way(link)?;
                Box::pin(async move {
                    upkeep::report_posture(held, link, token).await.map(|told| Outcome::PostureReported(Box::new(told)))
                })
            }
            Task::Lapse { link } => {
                let (link, token) = self.way(link)?;
                Box::pin(async move { upkeep::lapse(link, token).await.map(Outcome::Lapsed) })
            }
            Task::RenewCertificate { link } => {
                let (link, token) = self.way(link)?;
                Box::pin(async move { upkeep::renew_certificate(held, link, token, name).await.map(Outcome::Renewed) })
            }
            Task::FetchApps { link } => {
                let (link, token) = self.way(link)?;
                Box::pin(async move { upkeep::fetch_apps(link, token).await.map(Outcome::Apps) })
            }
            Task::Listen { link } => {
                let ((link, token), inbox) = (self.way(link)?, self.inbox()?);
                let tell = move |event| {
                    let inbox = inbox.clone();
                    async move { drop(inbox.send(Message::Told { event }).await) }
                };
                Box::pin(async move { Err(events::listen(link, token, tell).await) })
            }
        })
    }

    fn sign_in(&mut self) -> Work {
        let steps = self.login.as_ref().map(|login| login.steps.clone());
        let mut request = self.request.clone();
        // A service account's own tries use what its last sign-in was given.
        request.method = if steps.is_none() { LoginMethod::ServiceAccount } else { request.method };
        let sign_in = SignIn { setup: Arc::clone(&self.setup), request, last: self.last_relay(), steps };
        let cleanup = self.cleanup.clone();
        Box::pin(async move {
            // What the session before leaves behind is wiped before anything new is kept.
            if let Some(cleanup) = cleanup {
                cleanup.await;
            }
            sign_in.run().await.map(|held| Outcome::SignedIn(Box::new(held)))
        })
    }

    /// A link and the session token that is bound to it.
    fn way(&self, link: Ticket) -> Option<(Arc<Link>, SecretString)> {
        let granted = self.granted.as_ref().filter(|granted| granted.link == link)?;
        Some((Arc::clone(&self.links.get(&link)?.link), granted.token.clone()))
    }

    fn carry(&mut self, link: Ticket) {
        if let Some(way) = self.way(link) {
            self.uplink.set(Some(way), Problem::new(Code::RelayUnreachable));
            self.answer_renewals(&Ok(()));
        }
    }

    pub(super) fn answer_renewals(&mut self, answer: &Result<(), Problem>) {
        for waiting in self.renewals.drain(..) {
            let _ = waiting.send(answer.clone());
        }
    }

    /// Keeps a new link and watches for its end.
    pub(super) fn keep_link(&mut self, ticket: Ticket, link: Arc<Link>) {
        let Some(inbox) = self.inbox() else { return };
        let watched = Arc::clone(&link);
        let watcher = tokio::spawn(async move {
            let problem = watched.closed().await;
            drop(watched);
            let _ = inbox.send(Message::LinkClosed { link: ticket, problem }).await;
        });
        self.links.insert(ticket, Dialled { link, watcher: watcher.abort_handle() });
    }

    pub(super) fn last_relay(&self) -> Option<LastRelay> {
        let record = self.remembered.as_ref()?;
        let issuer = record.session.as_ref().map(|kept| kept.discovery.sign_in.issuer.clone());
        Some(LastRelay { address: record.address.clone(), ca_pem: record.ca_pem.clone(), issuer })
    }

    pub(super) fn finished(&mut self, ticket: Ticket) -> Option<Task> {
        self.tasks.remove(&ticket).map(|Running { task, .. }| task)
    }

    pub(super) fn grant(&mut self, link: Ticket, token: SecretString, lifetime: std::time::Duration) {
        let expires = clock::wall().plus(lifetime);
        self.token_ends = Some(expires);
        self.granted = Some(Granted { link, token, expires });
    }

    /// The account that the next sign-in would be for.
    pub(super) fn next_account(&self) -> Account {
        sign_in::account(&self.setup, &self.request)
    }
}
