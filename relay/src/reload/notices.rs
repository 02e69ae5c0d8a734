//! The system's notices of changed directories, where it gives any.

use super::files::directories;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Notices of some directories.
pub(crate) struct Notices {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    bell: Arc<Notify>,
}

impl Notices {
    pub(crate) fn new() -> Self {
        let bell = Arc::new(Notify::new());
        let ring = bell.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is an event too, and the relay itself does that.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                ring.notify_one();
            }
        });
        let watcher = watcher.inspect_err(unavailable).ok();
        Self { watcher, watched: BTreeSet::new(), bell }
    }

    /// None at all, as on a system that has no room for another watch.
    pub(crate) fn none() -> Self {
        Self { watcher: None, watched: BTreeSet::new(), bell: Arc::default() }
    }

    /// Does the system give notice?
    pub(super) fn work(&self) -> bool {
        self.watcher.is_some()
    }

    /// Watches where a change of these files shows, and nothing else.
    pub(super) fn attend(&mut self, files: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeSet<PathBuf> = files.iter().flat_map(|file| directories(file)).collect();
        for gone in self.watched.difference(&wanted) {
            let _gone_already = watcher.unwatch(gone);
        }
        self.watched.retain(|directory| wanted.contains(directory));
        for directory in wanted {
            if self.watched.contains(&directory) {
                continue;
            }
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(directory);
                }
                // A directory may be away for a moment; without room for a watch there is only looking.
                Err(error) if directory.is_dir() => {
                    unavailable(&error);
                    self.watcher = None;
                    return;
                }
                Err(_) => {}
            }
        }
    }

    /// Waits for a notice, but not longer than this.
    pub(super) async fn wait(&self, longest: Duration) {
        let _noticed_or_not = tokio::time::timeout(longest, self.bell.notified()).await;
    }
}

fn unavailable(error: &notify::Error) {
    tracing::warn!(%error, "the system gives no notice of changed files: they are looked at each second");
}
