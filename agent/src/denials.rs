//! The last refusals, kept in memory so that the user can be told why.

use parking_lot::Mutex;
use postern_protocol::local::{Denial, DenialKind};
use postern_protocol::{AppName, Problem, Timestamp};
use std::collections::VecDeque;
use std::time::SystemTime;

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
        let mut last = self.last.lock();
        last.truncate(KEPT - 1);
        last.push_front(denial.clone());
        denial
    }

    /// All of them, the newest first.
    pub fn newest_first(&self) -> Vec<Denial> {
        self.last.lock().iter().cloned().collect()
    }
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
