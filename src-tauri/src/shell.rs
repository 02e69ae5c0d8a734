//! What the commands work on: the agents of all organisations, the feed, and the sign-ins that this window began.

use crate::feed::Feed;
use crate::follow::follow;
use crate::model::{DesktopEvent, LoginWish, Organisation, Preferences, Service};
use crate::open;
use crate::organisations::{OrganisationId, Places, make};
use crate::preferences::PreferencesFile;
use crate::program::{self, Act};
use postern_client::{Client, place};
use postern_protocol::local::{Finding, LocalEvent, LoginEvent, LoginMethod, LoginRequest, State};
use postern_protocol::{AppName, Code, Problem};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tauri::AppHandle;
use tauri::async_runtime::JoinHandle;
use tauri_plugin_opener::OpenerExt as _;
use url::Url;

/// An agent that was just started has found its relay by then, or cannot.
const CONNECTING: Duration = Duration::from_secs(20);

/// The shell. One for the program.
pub(crate) struct Shell {
    app: AppHandle,
    places: Places,
    /// What the pages are told.
    pub(crate) feed: Arc<Feed>,
    preferences: PreferencesFile,
    followed: Mutex<BTreeMap<OrganisationId, Followed>>,
}

struct Followed {
    task: JoinHandle<()>,
    /// The page of the sign-in under way, as the agent told it.
    sign_in: Option<Url>,
}

impl Shell {
    /// Knows the organisations there are; follows none yet.
    pub(crate) fn new(app: AppHandle, places: Places, preferences: PreferencesFile) -> Self {
        let feed = Arc::new(Feed::new(preferences.read()));
        Self { app, places, feed, preferences, followed: Mutex::default() }
    }

    /// Begins to follow every agent.
    pub(crate) async fn begin(&self) {
        let all = self.places.all();
        all.iter().for_each(|id| self.take_up(id));
        // To ask takes a while; nothing waits for it.
        for id in &all {
            self.look_at_service(id).await;
        }
    }

    fn take_up(&self, id: &OrganisationId) {
        self.put(id, Service::Unsupported);
        let task = self.follow(id);
        self.followed().insert(id.clone(), Followed { task, sign_in: None });
    }

    fn follow(&self, id: &OrganisationId) -> JoinHandle<()> {
        let dir: Arc<Path> = self.places.of(id).into();
        tauri::async_runtime::spawn(follow(id.clone(), dir, Arc::clone(&self.feed)))
    }

    /// What could not be followed, its directory being unfit, may be by now.
    fn follow_again(&self, id: &OrganisationId) {
        if let Some(followed) = self.followed().get_mut(id)
            && followed.task.inner().is_finished()
        {
            followed.task = self.follow(id);
        }
    }

    async fn look_at_service(&self, id: &OrganisationId) {
        self.put(id, program::service(&self.places.of(id)).await);
    }

    fn put(&self, id: &OrganisationId, service: Service) {
        let state_dir = self.places.of(id).display().to_string();
        self.feed.put(Organisation { id: id.clone(), label: String::new(), state_dir, service });
    }

    /// A client of an organisation's agent.
    pub(crate) fn client(&self, id: &OrganisationId) -> Result<Client, Problem> {
        let dir = self.places.of(id);
        if !dir.exists() {
            return Err(Problem::new(Code::AgentNotRunning));
        }
        place::check(&dir)?;
        Ok(Client::new(&dir))
    }

    /// Starts, stops, installs or uninstalls its agent.
    pub(crate) async fn perform(&self, act: Act, id: &OrganisationId) -> Result<(), Problem> {
        if !self.followed().contains_key(id) {
            return Err(Problem::new(Code::NotFound).detail("there is no such organisation"));
        }
        let dir = self.places.of(id);
        make(&dir)?;
        self.follow_again(id);
        let outcome = program::perform(act, &dir).await;
        if matches!(act, Act::Install | Act::Uninstall) {
            self.look_at_service(id).await;
        }
        outcome
    }

    /// Makes room for one more organisation and starts its agent.
    pub(crate) async fn add_organisation(&self) -> Result<OrganisationId, Problem> {
        let id = self.places.add()?;
        self.take_up(&id);
        self.perform(Act::Start, &id).await?;
        self.look_at_service(&id).await;
        Ok(id)
    }

    /// Signs out of an organisation and forgets it.
    pub(crate) async fn remove_organisation(&self, id: &OrganisationId) -> Result<(), Problem> {
        if id.is_default() {
            return self.places.remove(id);
        }
        // Only its agent can end the session and wipe the keyring.
        if self.client(id)?.status().await.is_err_and(|problem| problem.code == Code::AgentNotRunning) {
            self.perform(Act::Start, id).await?;
            // An end that the relay is told of, if it can be.
            let _ = tokio::time::timeout(CONNECTING, online(&self.client(id)?)).await;
        }
        self.client(id)?.logout().await?;
        // There may be no service, and with it the agent ended.
        let _ = self.perform(Act::Uninstall, id).await;
        if self.client(id)?.status().await.is_ok() {
            self.perform(Act::Stop, id).await?;
        }
        if let Some(followed) = self.followed().remove(id) {
            followed.task.abort();
        }
        self.places.remove(id)?;
        self.feed.remove(id);
        let mut preferences = self.feed.preferences();
        let kept = preferences.favourites.remove(id).is_some();
        if kept || preferences.selected == *id {
            preferences.selected = OrganisationId::default();
            self.set_preferences(preferences)?;
        }
        Ok(())
    }

    /// Signs in; the steps are told to the pages, and the provider's page is opened.
    pub(crate) async fn login(self: &Arc<Self>, id: OrganisationId, wish: LoginWish) -> Result<(), Problem> {
        let request = LoginRequest {
            address: wish.address,
            ca_pem: None,
            // The agent may have no screen of its own; this program has.
            method: LoginMethod::NoBrowser,
            allow_memory_only: wish.allow_memory_only,
            renew: wish.renew,
            app: wish.app,
        };
        let mut steps = self.client(&id)?.login(&request).await?;
        let shell = Arc::clone(self);
        tauri::async_runtime::spawn(async move {
            let mut opened = false;
            loop {
                let step = match steps.next().await {
                    Ok(Some(step)) => step,
                    Ok(None) => LoginEvent::Failed { problem: Box::new(Problem::new(Code::AgentNotRunning)) },
                    Err(problem) => LoginEvent::Failed { problem: Box::new(problem) },
                };
                let over = matches!(step, LoginEvent::Failed { .. } | LoginEvent::Online { .. });
                let page = match &step {
                    // One sign-in opens one page, whatever the agent says.
                    LoginEvent::Authorize { url } if !std::mem::replace(&mut opened, true) => Some(url.clone()),
                    _ => None,
                };
                let event = DesktopEvent::Login { organisation: id.clone(), event: Box::new(step) };
                shell.feed.publish(event);
                if let Some(page) = page {
                    shell.begin_at_browser(&id, &page);
                }
                if over {
                    break;
                }
            }
            shell.note_sign_in(&id, None);
        });
        Ok(())
    }

    fn begin_at_browser(&self, id: &OrganisationId, page: &Url) {
        self.note_sign_in(id, Some(page.clone()));
        if let Err(problem) = self.open_page(page) {
            tracing::warn!(code = %problem.code, detail = problem.detail, "the sign-in page was not opened");
            self.feed.publish(DesktopEvent::NotOpened { organisation: id.clone(), problem: Box::new(problem) });
        }
    }

    fn note_sign_in(&self, id: &OrganisationId, page: Option<Url>) {
        if let Some(followed) = self.followed().get_mut(id) {
            followed.sign_in = page;
        }
    }

    /// Opens the page of the sign-in under way once more.
    pub(crate) fn reopen_sign_in(&self, id: &OrganisationId) -> Result<(), Problem> {
        let page = self.followed().get(id).and_then(|followed| followed.sign_in.clone());
        let none = || Problem::new(Code::NotFound).detail("no sign-in of this window waits for its page");
        self.open_page(&page.ok_or_else(none)?)
    }

    fn open_page(&self, page: &Url) -> Result<(), Problem> {
        self.open(open::sign_in_page(page)?)
    }

    /// Opens an app in the browser.
    pub(crate) fn open_app(&self, id: &OrganisationId, app: &AppName) -> Result<(), Problem> {
        let known = self.feed.known(id).filter(|known| known.state() == Some(State::Online));
        let apps = known.map(|known| known.apps).unwrap_or_default();
        let app = apps.iter().find(|known| known.entry.name == *app);
        let unknown = || Problem::new(Code::AppUnknown).detail("the agent tells of no such app");
        self.open(&open::app_address(app.ok_or_else(unknown)?)?)
    }

    fn open(&self, url: &Url) -> Result<(), Problem> {
        let opened = self.app.opener().open_url(url.as_str(), None::<&str>);
        opened.map_err(|error| Problem::new(Code::BrowserUnavailable).detail(error.to_string()))
    }

    /// Examines; each finding is told to the pages as it is made.
    pub(crate) async fn doctor(&self, id: &OrganisationId) -> Result<Vec<Finding>, Problem> {
        let mut findings = self.client(id)?.doctor().await?;
        let mut all = Vec::new();
        while let Some(finding) = findings.next().await? {
            let told = Box::new(finding.clone());
            self.feed.publish(DesktopEvent::Finding { organisation: id.clone(), finding: told });
            all.push(finding);
        }
        Ok(all)
    }

    /// Keeps what the person prefers, and tells everybody.
    pub(crate) fn set_preferences(&self, preferences: Preferences) -> Result<Preferences, Problem> {
        self.preferences.write(&preferences)?;
        self.feed.publish(DesktopEvent::Preferences { preferences: preferences.clone() });
        Ok(preferences)
    }

    fn followed(&self) -> MutexGuard<'_, BTreeMap<OrganisationId, Followed>> {
        // Each entry is replaced whole: a panic in between leaves nothing half done.
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until the agent is connected; not where it was never signed in.
async fn online(client: &Client) -> Result<(), Problem> {
    let mut events = client.events().await?;
    while let Some(event) = events.next().await? {
        if let LocalEvent::Status { status } = event
            && (status.state == State::Online || status.relay.is_none())
        {
            break;
        }
    }
    Ok(())
}
