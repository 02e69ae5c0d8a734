//! What the local API tells over time: events as they happen, and how streams ended.

use crate::activity::Activity;
use crate::link::StreamEnd;
use crate::uplink::Notice;
use axum::http::HeaderName;
use parking_lot::Mutex;
use postern_protocol::Code;
use postern_protocol::local::{Denial, LocalApp, LocalEvent, Status};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

/// In the answer that opens a stream: the number to ask for its end with.
pub(super) const STREAM_ID: HeaderName = HeaderName::from_static("postern-stream");
/// A client asks at once; more ends than this are never waited for.
const ENDS_KEPT: usize = 64;
/// Activity is told at most this often, and so many entries at a time.
const ACTIVITY_EVERY: Duration = Duration::from_millis(250);
const ACTIVITY_MOST: usize = 100;
/// How apps are used is told at most this often.
const TRAFFIC_EVERY: Duration = Duration::from_secs(1);

/// One reader's view of what happens.
pub(super) struct Events {
    status: watch::Receiver<Status>,
    apps: watch::Receiver<Arc<[LocalApp]>>,
    notices: broadcast::Receiver<Notice>,
    activity: Arc<Activity>,
    changed: watch::Receiver<()>,
    entries: Pace,
    traffic: Pace,
    /// How all apps are used was told.
    begun: bool,
}

impl Events {
    /// Begins with status, apps and their use as they are.
    pub(super) fn new(
        mut status: watch::Receiver<Status>,
        mut apps: watch::Receiver<Arc<[LocalApp]>>,
        notices: broadcast::Receiver<Notice>,
        activity: Arc<Activity>,
    ) -> Self {
        status.mark_changed();
        apps.mark_changed();
        let changed = activity.watch();
        let entries = Pace { seen: activity.newest(), waits: false, due: Instant::now(), every: ACTIVITY_EVERY };
        // All of it, for a start.
        let traffic = Pace { seen: 0, waits: true, due: Instant::now(), every: TRAFFIC_EVERY };
        Self { status, apps, notices, activity, changed, entries, traffic, begun: false }
    }

    /// The next event; `None` when the agent stops.
    pub(super) async fn next(&mut self) -> Option<LocalEvent> {
        loop {
            tokio::select! {
                biased;
                changed = self.status.changed() => {
                    changed.ok()?;
                    let status = Box::new(self.status.borrow_and_update().clone());
                    return Some(LocalEvent::Status { status });
                }
                changed = self.apps.changed() => {
                    changed.ok()?;
                    return Some(LocalEvent::Apps { apps: self.apps.borrow_and_update().to_vec() });
                }
                () = tokio::time::sleep_until(self.traffic.due), if self.traffic.waits => {
                    let first = !std::mem::replace(&mut self.begun, true);
                    let apps = self.activity.traffic_since(self.traffic.take());
                    if first || !apps.is_empty() {
                        return Some(LocalEvent::Traffic { apps });
                    }
                }
                notice = self.notices.recv() => match notice {
                    Ok(notice) => return Some(event(notice)),
                    // A reader too slow for every refusal gets the latest.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                },
                () = tokio::time::sleep_until(self.entries.due), if self.entries.waits => {
                    let entries = self.activity.since(self.entries.take(), ACTIVITY_MOST);
                    if !entries.is_empty() {
                        return Some(LocalEvent::Activity { entries });
                    }
                }
                changed = self.changed.changed(), if !(self.entries.waits && self.traffic.waits) => {
                    changed.ok()?;
                    (self.entries.waits, self.traffic.waits) = (true, true);
                }
            }
        }
    }
}

/// How far one reader is, and when it may be told more. Nobody is woken while nothing happens.
struct Pace {
    /// Number or version of the last thing told.
    seen: u64,
    /// There may be something new.
    waits: bool,
    due: Instant,
    every: Duration,
}

impl Pace {
    /// Takes what there is now.
    fn take(&mut self) -> &mut u64 {
        (self.waits, self.due) = (false, Instant::now() + self.every);
        &mut self.seen
    }
}

fn event(notice: Notice) -> LocalEvent {
    match notice {
        Notice::Denied(Denial { at, app, kind, problem }) => {
            LocalEvent::Denied { app, decision: problem.decision.clone(), problem, at, kind }
        }
        Notice::Held { denial: Denial { app, problem, .. }, until } => LocalEvent::Held { app, problem, until },
        Notice::Resumed(app) => LocalEvent::Resumed { app },
    }
}

/// Remembers which of the latest streams were cut, and why.
#[derive(Default)]
pub(super) struct StreamEnds {
    opened: AtomicU64,
    cut: Mutex<VecDeque<(u64, Code)>>,
}

impl StreamEnds {
    /// A number for a new stream.
    pub(super) fn open(&self) -> u64 {
        self.opened.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes how a stream ended, if it was cut.
    pub(super) fn record(&self, id: u64, end: Option<StreamEnd>) {
        let code = match end {
            Some(StreamEnd::Cut(code)) => code,
            Some(StreamEnd::Broken | StreamEnd::Closed) => Code::UpstreamUnreachable,
            Some(StreamEnd::GivenUp) | None => return,
        };
        let mut cut = self.cut.lock();
        if cut.len() == ENDS_KEPT {
            cut.pop_front();
        }
        cut.push_back((id, code));
    }

    /// Why a stream was cut.
    pub(super) fn cause(&self, id: u64) -> Option<Code> {
        self.cut.lock().iter().find(|(cut, _)| *cut == id).map(|(_, code)| *code)
    }
}
