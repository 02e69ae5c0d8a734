//! Reload: the policy and the list of apps, as files on disk. A good change replaces the snapshot whole and decides
//! every live stream anew; a broken one changes nothing, loudly.
//!
//! Files are noticed by the system's notices where there are such, and looked at from time to time besides: a network
//! file system sends none. What counts is the text, not the notice, so editors may write as they like.

mod files;
mod notices;
mod settings;

use crate::config::{self, Config, Fault};
use crate::reverify::reverify;
use crate::state::Relay;
use files::Files;
pub(crate) use notices::Notices;
use postern_protocol::Code;
use postern_protocol::control::RelayEvent;
use postern_relay_core::access::Snapshot;
use postern_relay_core::audit::{Event, Record};
use postern_relay_core::policy::SHA256_IS;
use postern_relay_core::registry::Scope;
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

/// Watches the files of `relay` for as long as it is polled.
pub async fn watch(relay: &Relay) {
    run(relay, Notices::new()).await;
}

pub(crate) async fn run(relay: &Relay, mut notices: Notices) {
    let mut watcher =
        Watcher { relay, loaded: relay.config.clone(), seen: Files::default(), tried: None, faults: Vec::new() };
    loop {
        notices.attend(&watcher.paths());
        watcher.look().await;
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
    tried: Option<files::Texts>,
    /// What was wrong with them.
    faults: Vec<Fault>,
}

impl Watcher<'_> {
    fn paths(&self) -> [std::path::PathBuf; 2] {
        [self.loaded.file.clone(), self.loaded.policy_file.clone()]
    }

    /// Looks whether there is anything new, and tries it.
    async fn look(&mut self) {
        let now = Files::look(&self.paths());
        // A broken configuration may be mended in another file than these two, a key for example.
        if now == self.seen && self.faults.is_empty() {
            return;
        }
        self.seen = if now == self.seen { now } else { self.settled(QUIET).await };
        let texts = files::Texts::read(&self.paths());
        if self.tried.as_ref() == Some(&texts) && self.faults.is_empty() {
            return;
        }
        let first = self.tried.is_none();
        if first && texts.are(&self.loaded) {
            self.tried = Some(texts);
            return;
        }
        self.attempt(texts).await;
    }

    /// The files once they have stood still for so long.
    async fn settled(&self, quiet: Duration) -> Files {
        let begun = tokio::time::Instant::now();
        let mut last = Files::look(&self.paths());
        loop {
            tokio::time::sleep(quiet).await;
            let now = Files::look(&self.paths());
            if now == last || begun.elapsed() > RESTLESS {
                return now;
            }
            last = now;
        }
    }

    async fn attempt(&mut self, texts: files::Texts) {
        let (file, state_dir) = (&self.loaded.file, self.loaded.state_override.as_deref());
        let found = config::load(file, state_dir).map(|(config, _keys)| config);
        match found {
            Ok(config) if config.policy.is_empty() && !self.relay.snapshot.load().policy.is_empty() => {
                // Perhaps only its first half has happened.
                let still = self.settled(QUIET_EMPTY).await;
                if still == self.seen {
                    self.take(config, texts).await;
                } else {
                    self.seen = Files::default();
                }
            }
            Ok(config) => self.take(config, texts).await,
            Err(faults) => self.refuse(faults, texts).await,
        }
    }

    async fn take(&mut self, config: Config, texts: files::Texts) {
        let restart = settings::changed(&self.relay.config.text, &config.text);
        if !restart.is_empty() {
            let settings = restart.join(", ");
            tracing::warn!(file = %config.file.display(), %settings, "these settings take effect with a restart");
        }
        let same =
            config.policy.text() == self.loaded.policy.text() && config.policy.apps() == self.loaded.policy.apps();
        if !same && !replace(self.relay, &config).await {
            // It is tried again at the next look.
            self.seen = Files::default();
            return;
        }
        if !self.faults.is_empty() {
            tracing::info!(file = %config.file.display(), "configuration and policy have no mistakes any more");
        }
        (self.loaded, self.tried, self.faults) = (config, Some(texts), Vec::new());
    }

    /// The last good policy stays. Said once for each set of faults.
    async fn refuse(&mut self, faults: Vec<Fault>, texts: files::Texts) {
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
