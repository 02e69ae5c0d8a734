//! Notifications: denial, expiry, disconnection. What is worth one is decided here, purely; `watch` shows them.

use crate::feed::Feed;
use crate::model::DesktopEvent;
use crate::organisations::OrganisationId;
use crate::window;
use crate::words::{Words, words};
use postern_protocol::local::{DenialKind, LocalEvent, State, Status};
use postern_protocol::problem::printable;
use postern_protocol::{AppName, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tauri::AppHandle;
use tauri_plugin_notification::NotificationExt as _;
use tokio::sync::broadcast::error::RecvError;

/// An app that keeps refusing is told of this often.
const DENIAL_PAUSE: Duration = Duration::from_secs(60);
/// Of so many apps within that time; what an app or a relay makes up has no end.
const MOST_DENIALS: usize = 5;
/// A connection that comes back within this is not worth a word.
const OFFLINE_PATIENCE: Duration = Duration::from_secs(10);
/// This long before its end, a session is said to end soon.
const WARNING: Duration = Duration::from_secs(10 * 60);
/// Most characters of a name in a notification.
const MAX_NAME: usize = 60;

/// What a person is told outside the window.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Notice {
    Denied(AppName),
    Expiring,
    Expired,
    Revoked,
    Offline(String),
}

/// What is remembered of one organisation.
#[derive(Default)]
struct Memory {
    state: Option<State>,
    denied: BTreeMap<AppName, Timestamp>,
    /// The end that was warned of.
    warned: Option<Timestamp>,
    /// When to say something unless it changes before.
    due: Option<(Timestamp, Notice)>,
}

impl Memory {
    fn hear(&mut self, event: &LocalEvent, now: Timestamp) -> Option<Notice> {
        match event {
            LocalEvent::Status { status } => self.stands(status, now),
            LocalEvent::Denied { app, kind: DenialKind::Request | DenialKind::Stream | DenialKind::Cut, .. } => {
                self.denied.retain(|_, at| now.since(*at) < DENIAL_PAUSE);
                let told = self.denied.contains_key(app) || self.denied.len() >= MOST_DENIALS;
                (!told).then(|| {
                    self.denied.insert(app.clone(), now);
                    Notice::Denied(app.clone())
                })
            }
            _ => None,
        }
    }

    fn stands(&mut self, status: &Status, now: Timestamp) -> Option<Notice> {
        let before = self.state.replace(status.state);
        let was_in = matches!(before, Some(State::Online | State::Offline | State::Connecting));
        let ends = status.session.as_ref().and_then(|session| session.ends);
        self.due = match (status.state, ends) {
            (State::Offline, _) if before == Some(State::Online) => {
                let name = status.organisation.clone().unwrap_or_default();
                Some((now.plus(OFFLINE_PATIENCE), Notice::Offline(name)))
            }
            (State::Offline, _) => self.due.take(),
            (State::Online, Some(ends)) if self.warned != Some(ends) => Some((ends.minus(WARNING), Notice::Expiring)),
            _ => None,
        };
        match status.state {
            State::Expired if was_in => Some(Notice::Expired),
            State::Revoked if before.is_some_and(|before| before != State::Revoked) => Some(Notice::Revoked),
            _ => None,
        }
    }

    /// Its agent ended, and with it what was connected; one that is only restarted is back before a word is due.
    fn lost(&mut self, name: String, now: Timestamp) {
        let online = self.state.take() == Some(State::Online);
        let due = online.then(|| (now.plus(OFFLINE_PATIENCE), Notice::Offline(name)));
        // A disconnection that is not said yet stays one.
        self.due = due.or_else(|| self.due.take().filter(|(_, notice)| matches!(notice, Notice::Offline(_))));
    }

    /// What is to be said by now.
    fn ripe(&mut self, now: Timestamp, status: Option<&Status>) -> Option<Notice> {
        let (_, notice) = self.due.take_if(|(at, _)| *at <= now)?;
        if notice == Notice::Expiring {
            self.warned = status.and_then(|status| status.session.as_ref()).and_then(|session| session.ends);
        }
        Some(notice)
    }
}

/// Shows notifications until the program ends.
pub(crate) async fn watch(app: AppHandle, feed: Arc<Feed>) {
    let mut changes = feed.watch();
    let mut memories: BTreeMap<OrganisationId, Memory> = BTreeMap::new();
    loop {
        let due = memories.values().filter_map(|memory| memory.due.as_ref().map(|(at, _)| *at)).min();
        let change = tokio::select! {
            change = changes.recv() => Some(change),
            () = until(due) => None,
        };
        let now = now();
        match change {
            Some(Ok(DesktopEvent::Agent { organisation, event })) => {
                let notice = memories.entry(organisation.clone()).or_default().hear(&event, now);
                show(&app, &feed, notice);
            }
            Some(Ok(DesktopEvent::AgentGone { organisation, .. })) => {
                let name = feed.known(&organisation).map(|known| known.organisation.label).unwrap_or_default();
                memories.entry(organisation).or_default().lost(name, now);
            }
            Some(Ok(DesktopEvent::Organisations { organisations })) => {
                memories.retain(|id, _| organisations.iter().any(|known| known.id == *id));
            }
            Some(Err(RecvError::Closed)) => return,
            Some(_) => {}
            None => {
                for (organisation, memory) in &mut memories {
                    let known = feed.known(organisation);
                    let notice = memory.ripe(now, known.as_ref().and_then(|known| known.status.as_ref()));
                    show(&app, &feed, notice);
                }
            }
        }
    }
}

async fn until(due: Option<Timestamp>) {
    match due {
        Some(at) => tokio::time::sleep(at.since(now()).max(Duration::from_millis(100))).await,
        None => std::future::pending().await,
    }
}

fn show(app: &AppHandle, feed: &Feed, notice: Option<Notice>) {
    let preferences = feed.preferences();
    let (Some(notice), Some(words)) = (notice, words(preferences.language)) else { return };
    if !preferences.notifications || window::is_looked_at(app) {
        return;
    }
    let (title, body) = phrase(&notice, words);
    if let Err(error) = app.notification().builder().title(title).body(body).show() {
        tracing::info!(%error, "no notification is shown on this system");
    }
}

/// Names come from elsewhere: they are cut short and stay text.
fn phrase(notice: &Notice, words: &Words) -> (String, String) {
    let short = |name: &str| printable(name).chars().take(MAX_NAME).collect::<String>();
    match notice {
        Notice::Denied(app) => (words.denied_title.replace("{app}", &short(app.as_str())), words.denied_body.clone()),
        Notice::Expiring => (words.expiring_title.clone(), words.expiring_body.clone()),
        Notice::Expired => (words.expired_title.clone(), words.expired_body.clone()),
        Notice::Revoked => (words.revoked_title.clone(), words.revoked_body.clone()),
        Notice::Offline(name) => {
            (words.offline_title.replace("{organisation}", &short(name)), words.offline_body.clone())
        }
    }
}

fn now() -> Timestamp {
    Timestamp::default().plus(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Language;
    use postern_protocol::local::SessionStatus;
    use postern_protocol::{Code, Problem};

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(minutes: u32) -> Timestamp {
        Timestamp::default().plus(MINUTE * minutes)
    }

    fn status(state: State, ends: Option<Timestamp>) -> LocalEvent {
        let session = SessionStatus {
            id: "0123456789abcdef0123456789abcdef".parse().unwrap(),
            token_expires: None,
            signed_in: None,
            ends,
        };
        let status = Status {
            version: "1".into(),
            state,
            relay: None,
            organisation: Some("Castle".into()),
            principal: None,
            device: None,
            session: Some(session),
            carrier: None,
            posture: None,
            problem: None,
        };
        LocalEvent::Status { status: Box::new(status) }
    }

    fn denied(app: &str) -> LocalEvent {
        LocalEvent::Denied {
            app: app.parse().unwrap(),
            decision: None,
            problem: Box::new(Problem::new(Code::PolicyDenied)),
            at: at(0),
            kind: DenialKind::Request,
        }
    }

    #[test]
    fn an_app_that_keeps_refusing_is_told_of_once_a_minute() {
        let mut memory = Memory::default();
        assert!(memory.hear(&denied("wiki"), at(1)).is_some());
        assert!(memory.hear(&denied("wiki"), at(1).plus(MINUTE / 2)).is_none());
        assert!(memory.hear(&denied("db"), at(1).plus(MINUTE / 2)).is_some());
        assert!(memory.hear(&denied("wiki"), at(2)).is_some());
    }

    #[test]
    fn a_short_disconnection_is_not_told_of_and_a_long_one_once() {
        let mut memory = Memory::default();
        memory.hear(&status(State::Online, None), at(1));
        memory.hear(&status(State::Offline, None), at(2));
        memory.hear(&status(State::Online, None), at(2));
        assert_eq!(memory.ripe(at(9), None), None);
        memory.hear(&status(State::Offline, None), at(10));
        memory.hear(&status(State::Offline, None), at(10));
        assert_eq!(memory.ripe(at(10), None), None);
        assert_eq!(memory.ripe(at(11), None), Some(Notice::Offline("Castle".into())));
        memory.hear(&status(State::Offline, None), at(12));
        assert_eq!(memory.ripe(at(13), None), None);
    }

    #[test]
    fn an_agent_that_ends_is_told_of_and_one_that_returns_is_not() {
        let mut memory = Memory::default();
        memory.hear(&status(State::Online, Some(at(60))), at(1));
        memory.lost("Castle".into(), at(2));
        memory.hear(&status(State::Connecting, None), at(2));
        assert_eq!(memory.ripe(at(4), None), None, "it came back");
        memory.hear(&status(State::Online, None), at(5));
        memory.lost("Castle".into(), at(6));
        memory.lost("Castle".into(), at(6));
        assert_eq!(memory.ripe(at(7), None), Some(Notice::Offline("Castle".into())));
        memory.lost("Castle".into(), at(8));
        assert_eq!(memory.ripe(at(9), None), None, "once");
    }

    #[test]
    fn denials_of_ever_more_apps_are_told_of_in_bounds() {
        let mut memory = Memory::default();
        let told = (0..100).filter(|n| memory.hear(&denied(&format!("app{n}")), at(1)).is_some()).count();
        assert_eq!(told, MOST_DENIALS);
        assert!(memory.hear(&denied("wiki"), at(2)).is_some(), "the next minute");
    }

    #[test]
    fn the_end_of_a_session_is_told_of_before_and_when_it_comes() {
        let mut memory = Memory::default();
        let online = status(State::Online, Some(at(60)));
        assert_eq!(memory.hear(&online, at(1)), None);
        assert_eq!(memory.ripe(at(49), None), None);
        let LocalEvent::Status { status: told } = &online else { panic!("a status") };
        assert_eq!(memory.ripe(at(50), Some(told)), Some(Notice::Expiring));
        assert_eq!(memory.hear(&online, at(51)), None);
        assert_eq!(memory.ripe(at(52), Some(told)), None, "once for each end");
        assert_eq!(memory.hear(&status(State::Expired, None), at(60)), Some(Notice::Expired));
        assert_eq!(memory.hear(&status(State::Revoked, None), at(61)), Some(Notice::Revoked));
        assert_eq!(Memory::default().hear(&status(State::Revoked, None), at(1)), None, "known from before");
    }

    #[test]
    fn a17_a_name_stays_text_and_short() {
        let words = words(Language::En).unwrap();
        let (title, _) = phrase(&Notice::Offline(format!("evil\n\u{202e}{}", "x".repeat(500))), words);
        assert!(title.chars().count() < 120 && !title.contains('\n') && !title.contains('\u{202e}'), "{title:?}");
    }
}
