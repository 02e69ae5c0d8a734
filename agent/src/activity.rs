//! What went through the agent lately, and how each app is used: in memory only, and bounded.
//!
//! This is on the way of every request, so it costs a short lock and no allocation beyond what is kept.

use http::{Method, Request, Uri};
use parking_lot::Mutex;
use postern_protocol::local::{ActivityEntry, ActivityKind, AppTraffic, Denial};
use postern_protocol::problem::printable;
use postern_protocol::{AppName, DecisionId, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

/// Most entries that are kept; the oldest go first.
const KEPT: usize = 500;
/// Most characters of a path that are kept.
const MAX_PATH: usize = 200;
/// Most apps that are counted: anyone may ask for names that no app has.
const MAX_APPS: usize = 2048;

/// The books.
#[derive(Default)]
pub struct Activity {
    books: Mutex<Books>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Books {
    /// The newest last.
    entries: VecDeque<ActivityEntry>,
    /// The number of the newest entry.
    newest: u64,
    apps: BTreeMap<AppName, Used>,
    /// Grows with each change of `apps`.
    version: u64,
}

#[derive(Default)]
struct Used {
    streams: u32,
    latency_ms: Option<u32>,
    last_used: Option<Timestamp>,
    /// That of the books when this changed last.
    version: u64,
}

/// What was asked for, and when.
pub struct Asked {
    at: Timestamp,
    began: Instant,
    /// Method and address of a request; of a stream nothing.
    request: Option<(Method, Uri)>,
}

impl Asked {
    /// This request, now.
    pub fn request<B>(request: &Request<B>) -> Self {
        // Both share what the request holds.
        Self { request: Some((request.method().clone(), request.uri().clone())), ..Self::stream() }
    }

    /// A stream, now.
    pub fn stream() -> Self {
        Self { at: now(), began: Instant::now(), request: None }
    }

    fn entry(self, app: AppName) -> ActivityEntry {
        let kind = if self.request.is_some() { ActivityKind::Request } else { ActivityKind::Stream };
        let (method, path) = self.request.unzip();
        ActivityEntry {
            number: 0,
            at: self.at,
            app,
            kind,
            method: method.map(|method| shortened(method.as_str())),
            path: path.map(|path| shortened(path.path())),
            status: None,
            took_ms: Some(u32::try_from(self.began.elapsed().as_millis()).unwrap_or(u32::MAX)),
            decision: None,
            problem: None,
        }
    }
}

/// Fit to show, and with an end.
fn shortened(text: &str) -> String {
    let end = text.char_indices().nth(MAX_PATH).map_or(text.len(), |(end, _)| end);
    printable(text.get(..end).unwrap_or_default())
}

impl Activity {
    /// Notes what an app answered, or that a stream to it is open.
    pub fn allowed(&self, app: &AppName, asked: Asked, status: Option<u16>, decision: Option<DecisionId>) {
        let entry = ActivityEntry { status, decision, ..asked.entry(app.clone()) };
        let mut books = self.books.lock();
        books.version += 1;
        let version = books.version;
        if let Some(used) = books.apps.get_mut(app) {
            (used.latency_ms, used.last_used, used.version) = (entry.took_ms, Some(entry.at), version);
        }
        books.keep(entry);
        drop(books);
        self.tell();
    }

    /// Notes that what was asked for was refused.
    pub fn refused(&self, denial: &Denial, asked: Asked) {
        let problem = Some(denial.problem.clone());
        self.keep(ActivityEntry {
            decision: denial.problem.decision.clone(),
            problem,
            ..asked.entry(denial.app.clone())
        });
    }

    /// Notes what happened to streams or requests that were under way.
    pub fn told(&self, denial: &Denial) {
        self.keep(ActivityEntry {
            number: 0,
            at: denial.at,
            app: denial.app.clone(),
            kind: denial.kind.into(),
            method: None,
            path: None,
            status: None,
            took_ms: None,
            decision: denial.problem.decision.clone(),
            problem: Some(denial.problem.clone()),
        });
    }

    /// Counts a stream or request as under way until what this returns is dropped.
    pub fn begin(self: &Arc<Self>, app: &AppName) -> InUse {
        let counted = self.books.lock().count(app);
        if counted {
            self.tell();
        }
        InUse { of: counted.then(|| (Arc::clone(self), app.clone())) }
    }

    /// All that is kept, the newest first.
    pub fn newest_first(&self) -> Vec<ActivityEntry> {
        self.books.lock().entries.iter().rev().cloned().collect()
    }

    /// The number of the newest entry.
    pub fn newest(&self) -> u64 {
        self.books.lock().newest
    }

    /// At most `most` of the entries after number `seen`, the newest first; `seen` moves on.
    pub fn since(&self, seen: &mut u64, most: usize) -> Vec<ActivityEntry> {
        let books = self.books.lock();
        let after = std::mem::replace(seen, books.newest);
        books.entries.iter().rev().take_while(|entry| entry.number > after).take(most).cloned().collect()
    }

    /// The apps whose use changed after version `seen`; `seen` moves on.
    pub fn traffic_since(&self, seen: &mut u64) -> Vec<AppTraffic> {
        let books = self.books.lock();
        let after = std::mem::replace(seen, books.version);
        let changed = books.apps.iter().filter(|(_, used)| used.version > after);
        changed
            .map(|(app, used)| AppTraffic {
                app: app.clone(),
                streams: used.streams,
                latency_ms: used.latency_ms,
                last_used: used.last_used,
            })
            .collect()
    }

    /// Follows changes.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn keep(&self, entry: ActivityEntry) {
        self.books.lock().keep(entry);
        self.tell();
    }

    fn end(&self, app: &AppName) {
        let mut books = self.books.lock();
        books.version += 1;
        let version = books.version;
        if let Some(used) = books.apps.get_mut(app) {
            (used.streams, used.version) = (used.streams.saturating_sub(1), version);
        }
        drop(books);
        self.tell();
    }

    fn tell(&self) {
        if self.changed.receiver_count() > 0 {
            self.changed.send_replace(());
        }
    }
}

impl Books {
    fn keep(&mut self, entry: ActivityEntry) {
        self.newest += 1;
        if self.entries.len() >= KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back(ActivityEntry { number: self.newest, ..entry });
    }

    /// False where there is no room for one more app.
    fn count(&mut self, app: &AppName) -> bool {
        self.version += 1;
        if let Some(used) = self.apps.get_mut(app) {
            (used.streams, used.version) = (used.streams.saturating_add(1), self.version);
            return true;
        }
        if self.apps.len() >= MAX_APPS {
            // What was never let through is most likely no app.
            self.apps.retain(|_, used| used.streams > 0 || used.last_used.is_some());
        }
        let room = self.apps.len() < MAX_APPS;
        if room {
            self.apps.insert(app.clone(), Used { streams: 1, version: self.version, ..Used::default() });
        }
        room
    }
}

/// A stream or request under way, counted until this is dropped.
pub struct InUse {
    of: Option<(Arc<Activity>, AppName)>,
}

impl Drop for InUse {
    fn drop(&mut self) {
        if let Some((activity, app)) = self.of.take() {
            activity.end(&app);
        }
    }
}

/// The system's clock.
fn now() -> Timestamp {
    let since: Duration = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::default().plus(since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_protocol::local::DenialKind;
    use postern_protocol::{Code, Problem};

    fn app(name: &str) -> AppName {
        name.parse().unwrap()
    }

    fn asked(path: &str) -> Asked {
        Asked::request(&Request::get(path).body(()).unwrap())
    }

    #[test]
    fn keeps_the_newest_and_bounds_them() {
        let (activity, wiki) = (Activity::default(), app("wiki"));
        for n in 0..KEPT + 7 {
            let path = format!("/{n}/{}?token=secret", "%C3%A4".repeat(n));
            activity.allowed(&wiki, asked(&path), Some(200), None);
        }
        let kept = activity.newest_first();
        assert_eq!((kept.len(), kept[0].number, kept[KEPT - 1].number), (KEPT, 507, 8));
        let path = kept[0].path.as_deref().unwrap();
        assert_eq!((path.chars().count(), path.starts_with("/506/%C3")), (MAX_PATH, true));
        assert!(kept.iter().all(|entry| !entry.path.as_deref().unwrap().contains("secret")), "no query is kept");
        assert_eq!((kept[0].method.as_deref(), kept[0].status), (Some("GET"), Some(200)));
    }

    #[test]
    fn a_reader_gets_what_is_new_once_and_no_more_than_it_wants() {
        let (activity, wiki) = (Activity::default(), app("wiki"));
        let mut seen = activity.newest();
        for _ in 0..5 {
            activity.allowed(&wiki, asked("/"), Some(200), None);
        }
        let numbers = |entries: Vec<ActivityEntry>| entries.into_iter().map(|entry| entry.number).collect::<Vec<_>>();
        assert_eq!(numbers(activity.since(&mut seen, 3)), [5, 4, 3]);
        assert!(activity.since(&mut seen, 3).is_empty());
        let decision = DecisionId::new(Timestamp::from_seconds(1), 7);
        let problem = Box::new(Problem::new(Code::PolicyDenied).decision(decision.clone()));
        activity.told(&Denial { at: now(), app: wiki, kind: DenialKind::Cut, problem });
        let told = activity.since(&mut seen, 3).remove(0);
        assert_eq!((told.number, told.kind, told.decision), (6, ActivityKind::Cut, Some(decision)));
    }

    #[test]
    fn counts_what_is_under_way() {
        let (activity, wiki) = (Arc::new(Activity::default()), app("wiki"));
        let mut seen = 0;
        let (one, other) = (activity.begin(&wiki), activity.begin(&wiki));
        let told = activity.traffic_since(&mut seen);
        assert_eq!((told.len(), told[0].streams, told[0].last_used), (1, 2, None));
        activity.allowed(&wiki, asked("/"), Some(200), None);
        let told = activity.traffic_since(&mut seen);
        assert!(told[0].latency_ms.is_some() && told[0].last_used.is_some(), "{told:?}");
        assert!(activity.traffic_since(&mut seen).is_empty(), "nothing changed");
        drop((one, other));
        assert_eq!(activity.traffic_since(&mut seen)[0].streams, 0);
        assert_eq!(activity.traffic_since(&mut 0).len(), 1);
    }

    /// Names of no apps take no room for ever, and those of apps that were used are not pushed out.
    #[test]
    fn counts_a_bounded_number_of_apps() {
        let (activity, wiki) = (Arc::new(Activity::default()), app("wiki"));
        let _in_use = activity.begin(&wiki);
        activity.allowed(&wiki, asked("/"), Some(200), None);
        for n in 0..2 * MAX_APPS {
            drop(activity.begin(&app(&format!("no-app-{n}"))));
        }
        let kept = activity.traffic_since(&mut 0);
        assert!(kept.len() <= MAX_APPS && kept.iter().any(|used| used.app == wiki), "{}", kept.len());
        let all: Vec<_> = (0..2 * MAX_APPS).map(|n| activity.begin(&app(&format!("app-{n}")))).collect();
        assert_eq!(activity.traffic_since(&mut 0).len(), MAX_APPS);
        drop(all);
    }
}
