//! What is known of all agents, and the one channel through which the pages hear of it.

use crate::model::{DesktopEvent, Organisation, Preferences};
use crate::organisations::OrganisationId;
use postern_protocol::local::{AppTraffic, DenialKind, LocalApp, LocalEvent, State, Status};
use postern_protocol::{AppName, Problem};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tauri::ipc::Channel;
use tokio::sync::broadcast;

/// Observers within the shell that fall behind this far read what is known instead.
const BACKLOG: usize = 256;

/// Keeps what is known and passes on what changes.
pub(crate) struct Feed {
    inner: Mutex<Inner>,
    changes: broadcast::Sender<DesktopEvent>,
}

struct Inner {
    pages: Option<Channel<DesktopEvent>>,
    organisations: BTreeMap<OrganisationId, Known>,
    preferences: Preferences,
}

/// What is known of one organisation.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Itself.
    pub(crate) organisation: Organisation,
    /// Why there is no agent, if there is none.
    pub(crate) gone: Option<Problem>,
    /// Where its agent stands.
    pub(crate) status: Option<Status>,
    /// Its apps.
    pub(crate) apps: Vec<LocalApp>,
    traffic: BTreeMap<AppName, AppTraffic>,
    /// The events of streams that wait, as they came.
    held: BTreeMap<AppName, LocalEvent>,
}

impl Known {
    fn new(organisation: Organisation) -> Self {
        let (traffic, held) = (BTreeMap::new(), BTreeMap::new());
        Self { organisation, gone: None, status: None, apps: Vec::new(), traffic, held }
    }

    /// Where its agent stands, if there is one.
    pub(crate) fn state(&self) -> Option<State> {
        self.status.as_ref().filter(|_| self.gone.is_none()).map(|status| status.state)
    }

    /// As the pages are told who come late.
    fn told(&self) -> Vec<DesktopEvent> {
        let organisation = &self.organisation.id;
        if let Some(problem) = &self.gone {
            return vec![DesktopEvent::AgentGone {
                organisation: organisation.clone(),
                problem: Box::new(problem.clone()),
            }];
        }
        let agent = |event| DesktopEvent::Agent { organisation: organisation.clone(), event: Box::new(event) };
        let status = self.status.clone().map(|status| LocalEvent::Status { status: Box::new(status) });
        let traffic: Vec<_> = self.traffic.values().cloned().collect();
        let traffic = (!traffic.is_empty()).then_some(LocalEvent::Traffic { apps: traffic });
        let apps = self.status.as_ref().map(|_| LocalEvent::Apps { apps: self.apps.clone() });
        status.into_iter().chain(apps).chain(traffic).chain(self.held.values().cloned()).map(agent).collect()
    }
}

impl Feed {
    /// Knows the preferences and nothing else yet.
    pub(crate) fn new(preferences: Preferences) -> Self {
        let inner = Inner { pages: None, organisations: BTreeMap::new(), preferences };
        Self { inner: Mutex::new(inner), changes: broadcast::Sender::new(BACKLOG) }
    }

    /// The pages of the one window: told everything there is, then what changes. Pages that were there before are not.
    pub(crate) fn attach(&self, pages: Channel<DesktopEvent>) {
        let mut inner = self.inner();
        let preferences = DesktopEvent::Preferences { preferences: inner.preferences.clone() };
        let known = inner.organisations.values().flat_map(Known::told);
        for event in [preferences, inner.list()].into_iter().chain(known) {
            // A page that is gone again asks anew.
            let _ = pages.send(event);
        }
        inner.pages = Some(pages);
    }

    /// What changes, for tray and notifications.
    pub(crate) fn watch(&self) -> broadcast::Receiver<DesktopEvent> {
        self.changes.subscribe()
    }

    /// Notes and passes on.
    pub(crate) fn publish(&self, event: DesktopEvent) {
        let mut inner = self.inner();
        let renamed = inner.note(&event);
        let list = renamed.then(|| inner.list());
        for event in std::iter::once(event).chain(list) {
            if let Some(pages) = &inner.pages {
                let _ = pages.send(event.clone());
            }
            // There may be nobody.
            let _ = self.changes.send(event);
        }
    }

    /// An organisation is there, with what is known of its service.
    pub(crate) fn put(&self, organisation: Organisation) {
        let list = {
            let mut inner = self.inner();
            match inner.organisations.get_mut(&organisation.id) {
                Some(known) => known.organisation.service = organisation.service,
                None => {
                    inner.organisations.insert(organisation.id.clone(), Known::new(organisation));
                }
            }
            inner.list()
        };
        self.publish(list);
    }

    /// An organisation is gone.
    pub(crate) fn remove(&self, id: &OrganisationId) {
        let list = {
            let mut inner = self.inner();
            inner.organisations.remove(id);
            inner.list()
        };
        self.publish(list);
    }

    /// What is known of an organisation.
    pub(crate) fn known(&self, id: &OrganisationId) -> Option<Known> {
        self.inner().organisations.get(id).cloned()
    }

    /// What the person prefers.
    pub(crate) fn preferences(&self) -> Preferences {
        self.inner().preferences.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // What is noted is replaced whole: a panic in between leaves nothing half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn list(&self) -> DesktopEvent {
        let organisations = self.organisations.values().map(|known| known.organisation.clone()).collect();
        DesktopEvent::Organisations { organisations }
    }

    /// Says whether the list of organisations reads otherwise now.
    fn note(&mut self, event: &DesktopEvent) -> bool {
        match event {
            DesktopEvent::Agent { organisation, event } => {
                self.organisations.get_mut(organisation).is_some_and(|known| known.note(event))
            }
            DesktopEvent::AgentGone { organisation, problem } => {
                if let Some(known) = self.organisations.get_mut(organisation) {
                    known.gone = Some((**problem).clone());
                    known.apps.clear();
                    known.traffic.clear();
                    known.held.clear();
                }
                false
            }
            DesktopEvent::Preferences { preferences } => {
                self.preferences = preferences.clone();
                false
            }
            _ => false,
        }
    }
}

impl Known {
    fn note(&mut self, event: &LocalEvent) -> bool {
        match event {
            LocalEvent::Status { status } => {
                self.gone = None;
                self.status = Some((**status).clone());
                if status.state == State::SignedOut {
                    self.traffic.clear();
                    self.held.clear();
                }
                let label = status.organisation.clone().unwrap_or_default();
                let renamed = !label.is_empty() && label != self.organisation.label;
                if renamed {
                    self.organisation.label = label;
                }
                return renamed;
            }
            LocalEvent::Apps { apps } => self.apps.clone_from(apps),
            LocalEvent::Held { app, .. } => {
                self.held.insert(app.clone(), event.clone());
            }
            LocalEvent::Resumed { app } | LocalEvent::Denied { app, kind: DenialKind::Cut, .. } => {
                self.held.remove(app);
            }
            LocalEvent::Traffic { apps } => {
                self.traffic.extend(apps.iter().map(|traffic| (traffic.app.clone(), traffic.clone())));
            }
            _ => {}
        }
        false
    }
}
