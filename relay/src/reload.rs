//! Reload: the policy and the list of apps, as files on disk. A good change replaces the snapshot whole and decides
//! every live stream anew; a broken one changes nothing, loudly.
//!
//! Files are noticed by the system's notices where there are such, and looked at from time to time besides: a network
//! file system sends none. What counts is the text, not the notice, so editors may write as they like.

mod files;
mod notices;
mod settings;

use crate::aside::aside;
use crate::config::{self, Config, Fault};
use crate::reverify::reverify;
use crate::state::Relay;
use files::{Files, Texts};
pub(crate) use notices::Notices;
use postern_protocol::Code;
use postern_protocol::control::RelayEvent;
use postern_relay_core::access::Snapshot;
use postern_relay_core::audit::{Event, Record};
use postern_relay_core::policy::SHA256_IS;
use postern_relay_core::registry::Scope;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the files are looked at although nothing was noticed.
const LOOK: Duration = Duration::from_secs(5);
/// The same where the system gives no notice.
const LOOK_WITHOUT_NOTICES: Duration = Duration::from_secs(1);
/// How long files must stand still before they are read: an editor truncates first and writes then.
const QUIET: Duration = Duration::from_millis(150);
/// The same for a policy that has become empty, which would cut everything off.
const QUIET_EMPTY: Duration = Duration::from_secs(2);
/// Files that change for longer than this are read as they are.
const RESTLESS: Duration = Duration::from_secs(10);

/// What is done aside.
const READING: &str = "reading configuration and policy";

/// Watches the files of `relay` for as long as it is polled.
pub async fn watch(relay: &Relay) {
    run(relay, Notices::new()).await;
}

pub(crate) async fn run(relay: &Relay, mut notices: Notices) {
    let mut watcher =
        Watcher { relay, loaded: relay.config.clone(), seen: Files::default(), tried: None, faults: Vec::new() };
    loop {
        let paths = watcher.paths();
        let attending = aside(READING, move || {
            notices.attend(&paths);
            notices
        });
        notices = attending.await.unwrap_or_else(Notices::none);
        if watcher.look().await.is_none() {
            // Something went wrong, and was told: as if nothing had been seen.
            watcher.seen = Files::default();
        }
        let look = if notices.work() { LOOK } else { LOOK_WITHOUT_NOTICES };
        notices.wait(look).await;
    }
}

struct Watcher<'a> {
    relay: &'a Relay,
    /// The last good configuration; its policy and apps are those of the snapshot.
    loaded: Config,
    /// The files as they were when they were last looked at.
    seen: Files,
    /// Their texts as they were last tried.
    tried: Option<Texts>,
    /// What was wrong with them.
    faults: Vec<Fault>,
}

impl Watcher<'_> {
    fn paths(&self) -> [PathBuf; 2] {
        files::watched(&self.loaded)
    }

    /// The files as they are.
    async fn stamps(&self) -> Option<Files> {
        let paths = self.paths();
        aside(READING, move || Files::look(&paths)).await
    }

    /// Looks whether there is anything new, and tries it. Nothing: that is to be done again.
    async fn look(&mut self) -> Option<()> {
        let now = self.stamps().await?;
        // A broken configuration may be mended in another file than these two, a key for example.
        if now == self.seen && self.faults.is_empty() {
            return Some(());
        }
        self.seen = if now == self.seen { now } else { self.settled(QUIET).await? };
        let paths = self.paths();
        let texts = aside(READING, move || Texts::read(&paths)).await?;
        if self.tried.as_ref() == Some(&texts) && self.faults.is_empty() {
            return Some(());
        }
        let first = self.tried.is_none();
        if first && texts.are(&self.loaded) {
            self.tried = Some(texts);
            return Some(());
        }
        self.attempt(texts).await
    }

    /// The files once they have stood still for so long.
    async fn settled(&self, quiet: Duration) -> Option<Files> {
        let begun = tokio::time::Instant::now();
        let mut last = self.stamps().await?;
        loop {
            tokio::time::sleep(quiet).await;
            let now = self.stamps().await?;
            if now == last || begun.elapsed() > RESTLESS {
                return Some(now);
            }
            last = now;
        }
    }

    async fn attempt(&mut self, texts: Texts) -> Option<()> {
        let (paths, state_dir) = (self.paths(), self.loaded.state_override.clone());
        let tried = texts.clone();
        let found = aside(READING, move || load(&paths, state_dir.as_deref(), &tried)).await?;
        // Somebody wrote while they were read: what was found may be half of it.
        match found? {
            Ok(config) if config.policy.is_empty() && !self.relay.snapshot.load().policy.is_empty() => {
                // Perhaps only its first half has happened.
                if self.settled(QUIET_EMPTY).await? != self.seen {
                    return None;
                }
                self.take(config, texts).await
            }
            Ok(config) => self.take(config, texts).await,
            Err(faults) => {
                self.refuse(faults, texts).await;
                Some(())
            }
        }
    }

    async fn take(&mut self, config: Config, texts: Texts) -> Option<()> {
        let restart = settings::changed(&self.relay.config.text, &config.text);
        if !restart.is_empty() {
            let settings = restart.join(", ");
            tracing::warn!(file = %config.file.display(), %settings, "these settings take effect with a restart");
        }
        let same =
            config.policy.text() == self.loaded.policy.text() && config.policy.apps() == self.loaded.policy.apps();
        if !same && !replace(self.relay, &config).await {
            return None;
        }
        if !self.faults.is_empty() {
            tracing::info!(file = %config.file.display(), "configuration and policy have no mistakes any more");
        }
        (self.loaded, self.tried, self.faults) = (config, Some(texts), Vec::new());
        Some(())
    }

    /// The last good policy stays. Said once for each set of faults.
    async fn refuse(&mut self, faults: Vec<Fault>, texts: Texts) {
        self.tried = Some(texts);
        if faults == self.faults {
            return;
        }
        for fault in &faults {
            tracing::error!(file = %fault.file.display(), line = fault.line, column = fault.column, "not loaded: {} ({})", fault.message, fault.fix);
        }
        tracing::error!(mistakes = faults.len(), "the relay goes on with the last good policy and apps");
        let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
        let record = Record::event(Event::PolicyLoad, self.relay.clock.now()).refused(Code::ConfigInvalid);
        let detail = format!("the last good policy stays; mistakes: {}; {}", faults.len(), told.join("; "));
        // It stands refused whether or not that can be recorded.
        let _unwritten = self.relay.audit.record(record.detail(detail)).await;
        self.faults = faults;
    }
}

/// What the files hold, checked as a whole. Nothing: it is not what they held when their `texts` were read.
fn load(paths: &[PathBuf; 2], state_dir: Option<&Path>, texts: &Texts) -> Option<Result<Config, Vec<Fault>>> {
    let [file, _] = paths;
    let found = config::load(file, state_dir).map(|(config, _keys)| config);
    let same = match &found {
        // The configuration may name another policy file now, of which there is no text yet.
        Ok(config) if files::watched(config) != *paths => Texts::read(&files::watched(config)).are(config),
        Ok(config) => texts.are(config),
        Err(_) => Texts::read(paths) == *texts,
    };
    same.then_some(found)
}

/// Puts policy and apps of `config` in force. False: that could not be recorded, and nothing has changed.
async fn replace(relay: &Relay, config: &Config) -> bool {
    let policy = &config.policy;
    let (policies, apps) = (policy.len(), policy.apps().iter().count());
    // The record comes first: what may open access must be in the log before it does.
    let record = Record::event(Event::PolicyLoad, relay.clock.now());
    let detail = format!("policies: {policies}; apps: {apps}; {SHA256_IS}{}", policy.thumbprint());
    if relay.audit.record(record.detail(detail)).await.is_err() {
        tracing::error!("the changed policy waits until the audit log can be written");
        return false;
    }
    relay.snapshot.rcu(|old| Snapshot { policy: policy.clone(), generation: old.generation + 1, ..(**old).clone() });
    relay.upstreams.keep_only(policy.apps());
    let cutback = reverify(relay, &Scope::Everything).await;
    relay.events.send_all(&RelayEvent::AppsChanged);
    let (cut, held) = (cutback.cut, cutback.held);
    tracing::info!(policies, apps, cut, held, "the changed policy and apps are in force");
    true
}
