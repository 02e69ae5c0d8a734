//! The last refusals, kept in memory so that the user can be told why.

use parking_lot::Mutex;
use postern_protocol::local::{Denial, DenialKind};
use postern_protocol::{AppName, Problem, Timestamp};
use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

/// Most refusals that are kept; the oldest go first.
const KEPT: usize = 100;
/// Most characters of a text that is kept.
const MAX_TEXT: usize = 2000;

/// The last refusals.
#[derive(Default)]
pub struct Denials {
    last: Mutex<VecDeque<Denial>>,
}

impl Denials {
    /// Keeps one.
    pub fn note(&self, kind: DenialKind, app: AppName, problem: Problem) -> Denial {
        let denial = Denial { at: now(), app, kind, problem: Box::new(shortened(problem)) };
        keep(&mut self.last.lock(), denial.clone());
        denial
    }

    /// Keeps a cut, unless one of the same app was kept `within` this time: an app's streams are cut together, and what
    /// the relay itself told says more.
    pub fn note_cut_untold(&self, app: AppName, problem: Problem, within: Duration) -> Option<Denial> {
        let denial = Denial { at: now(), app, kind: DenialKind::Cut, problem: Box::new(shortened(problem)) };
        let mut last = self.last.lock();
        let known = |known: &Denial| {
            known.kind == DenialKind::Cut && known.app == denial.app && known.at >= denial.at.minus(within)
        };
        if last.iter().any(known) {
            return None;
        }
        keep(&mut last, denial.clone());
        Some(denial)
    }

    /// All of them, the newest first.
    pub fn newest_first(&self) -> Vec<Denial> {
        self.last.lock().iter().cloned().collect()
    }
}

fn keep(last: &mut VecDeque<Denial>, denial: Denial) {
    last.truncate(KEPT - 1);
    last.push_front(denial);
}

/// Texts from elsewhere with an end.
fn shortened(mut problem: Problem) -> Problem {
    for text in [&mut problem.detail, &mut problem.reason, &mut problem.fix].into_iter().flatten() {
        if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
            text.truncate(end);
        }
    }
    problem
}

fn now() -> Timestamp {
    Timestamp::default().plus(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_protocol::Code;

    #[test]
    fn a_cut_that_was_told_is_not_noted_again() {
        let denials = Denials::default();
        let [wiki, db]: [AppName; 2] = ["wiki", "db"].map(|name| name.parse().unwrap());
        let cut = |code| Problem::new(code);
        denials.note(DenialKind::Request, wiki.clone(), cut(Code::PolicyDenied));
        let within = Duration::from_secs(60);
        assert!(
            denials.note_cut_untold(wiki.clone(), cut(Code::TokenExpired), within).is_some(),
            "a request is no cut"
        );
        assert!(denials.note_cut_untold(wiki.clone(), cut(Code::TokenExpired), within).is_none());
        assert!(denials.note_cut_untold(db, cut(Code::TokenExpired), within).is_some(), "another app");
        std::thread::sleep(Duration::from_millis(5));
        assert!(denials.note_cut_untold(wiki, cut(Code::TokenExpired), Duration::from_millis(1)).is_some(), "later");
    }

    #[test]
    fn keeps_the_newest_and_bounds_them() {
        let denials = Denials::default();
        let wiki: AppName = "wiki".parse().unwrap();
        for n in 0..KEPT + 5 {
            let problem = Problem::new(Code::PolicyDenied).detail(n.to_string()).advice(Some("ä".repeat(5000)), None);
            denials.note(DenialKind::Request, wiki.clone(), problem);
        }
        let kept = denials.newest_first();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept[0].problem.detail.as_deref(), Some("104"));
        assert_eq!(kept[KEPT - 1].problem.detail.as_deref(), Some("5"));
        assert_eq!(kept[0].problem.reason.as_deref().map(|reason| reason.chars().count()), Some(MAX_TEXT));
    }
}
