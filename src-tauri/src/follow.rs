//! Follows one agent: its events while it runs, and its return when it does not. Nothing is polled: the system tells when
//! the agent's socket appears.

use crate::feed::Feed;
use crate::model::DesktopEvent;
use crate::organisations::{OrganisationId, make};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use postern_client::{Client, place};
use postern_protocol::local::SOCKET_NAME;
use postern_protocol::{Code, Problem};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Between the socket's appearance and the first answer.
const SETTLING: Duration = Duration::from_secs(2);
const SETTLING_PAUSE: Duration = Duration::from_millis(50);

/// Follows the agent with this state directory until the task is aborted.
pub(crate) async fn follow(organisation: OrganisationId, state_dir: Arc<Path>, feed: Arc<Feed>) {
    let gone = |problem: Problem| {
        tracing::info!(%organisation, code = %problem.code, "no agent");
        feed.publish(DesktopEvent::AgentGone { organisation: organisation.clone(), problem: Box::new(problem) });
    };
    let mut appearances = match Appearances::watch(&state_dir) {
        Ok(appearances) => appearances,
        // As long as one runs it is heard all the same.
        Err(problem) => {
            let heard = listen(&organisation, &state_dir, &feed).await;
            return gone(if heard.code == Code::AgentNotRunning { problem } else { heard });
        }
    };
    let mut problem = listen(&organisation, &state_dir, &feed).await;
    loop {
        gone(problem);
        if !appearances.next().await {
            return;
        }
        problem = settle(&organisation, &state_dir, &feed).await;
    }
}

/// A socket that has just appeared may not answer at once.
async fn settle(organisation: &OrganisationId, state_dir: &Path, feed: &Feed) -> Problem {
    let deadline = Instant::now() + SETTLING;
    loop {
        let problem = listen(organisation, state_dir, feed).await;
        if problem.code != Code::AgentNotRunning || Instant::now() >= deadline {
            return problem;
        }
        tokio::time::sleep(SETTLING_PAUSE).await;
    }
}

/// Passes on what the agent pushes, until it ends; says why it did.
async fn listen(organisation: &OrganisationId, state_dir: &Path, feed: &Feed) -> Problem {
    let listening = async {
        // Whoever else could have put a socket there is not listened to.
        place::check(state_dir)?;
        let mut events = Client::new(state_dir).events().await?;
        let mut pace = Pace::default();
        while let Some(event) = events.next().await? {
            pace.keep().await;
            let event = Box::new(event);
            feed.publish(DesktopEvent::Agent { organisation: organisation.clone(), event });
        }
        Ok::<(), Problem>(())
    };
    match listening.await {
        Ok(()) => Problem::new(Code::AgentNotRunning).detail("it has stopped"),
        // An agent that was killed breaks off in the middle of a line.
        Err(problem) if problem.code == Code::Internal => Problem::new(Code::AgentNotRunning).detail("it broke off"),
        Err(problem) => problem,
    }
}

/// No more events in a second than a window can show; what comes faster waits at the agent.
#[derive(Default)]
struct Pace {
    second: Option<Instant>,
    events: u32,
}

impl Pace {
    const MOST: u32 = 200;

    async fn keep(&mut self) {
        let begun = *self.second.get_or_insert_with(Instant::now);
        let end = begun + Duration::from_secs(1);
        self.events += 1;
        if self.events > Self::MOST {
            tokio::time::sleep_until(end).await;
        }
        if Instant::now() >= end {
            *self = Self { second: None, events: 1 };
        }
    }
}

/// Tells when the agent's socket is made.
struct Appearances {
    seen: mpsc::Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl Appearances {
    fn watch(state_dir: &Path) -> Result<Self, Problem> {
        make(state_dir)?;
        let failed = |error: notify::Error| Problem::new(Code::StateDir).detail(error.to_string());
        // One that waits to be read is as good as many.
        let (told, seen) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let concerns = |path: &std::path::PathBuf| path.file_name() == Some(OsStr::new(SOCKET_NAME));
            if event.is_ok_and(|event| event.kind.is_create() && event.paths.iter().any(concerns)) {
                let _ = told.try_send(());
            }
        })
        .map_err(failed)?;
        watcher.watch(state_dir, RecursiveMode::NonRecursive).map_err(failed)?;
        Ok(Self { seen, _watcher: watcher })
    }

    async fn next(&mut self) -> bool {
        self.seen.recv().await.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_storm_waits_and_a_few_events_do_not() {
        let begun = Instant::now();
        let mut pace = Pace::default();
        for _ in 0..Pace::MOST {
            pace.keep().await;
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for _ in 0..10 * Pace::MOST {
            pace.keep().await;
        }
        assert!(begun.elapsed() >= Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}
