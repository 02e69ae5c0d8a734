//! The end of the agent's log, in memory: what the person can look at wherever the log itself goes.

use parking_lot::Mutex;
use postern_protocol::Timestamp;
use postern_protocol::local::{LogLine, Logs};
use postern_protocol::problem::printable;
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::SystemTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Most lines that are kept; the oldest go first.
const KEPT: usize = 1000;
/// Most characters of a line.
const MAX_TEXT: usize = 2000;

/// The last lines. Clones are handles to the same ones.
#[derive(Clone, Default)]
pub struct RecentLog {
    lines: Arc<Mutex<VecDeque<LogLine>>>,
}

impl RecentLog {
    /// All of them, the oldest first.
    pub fn lines(&self) -> Logs {
        Logs { lines: self.lines.lock().iter().cloned().collect() }
    }

    fn keep(&self, line: LogLine) {
        let mut lines = self.lines.lock();
        if lines.len() >= KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

impl<S: Subscriber> Layer<S> for RecentLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let at =
            Timestamp::default().plus(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let text = format!("{}: {}{}", event.metadata().target(), text.message, text.fields);
        self.keep(LogLine { at, level, text: printable(&text).chars().take(MAX_TEXT).collect() });
    }
}

/// The message, then the fields as ` name=value`: as the log itself has them.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a text does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[test]
    fn keeps_the_newest_lines_whole_and_printable() {
        let log = RecentLog::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(log.clone()), || {
            for n in 0..KEPT + 3 {
                tracing::info!(n, app = %"wiki", "asked");
            }
            // A55: no field can drive a terminal or begin a line of its own.
            tracing::warn!(detail = %"\x1b[2J\n2026 ERROR forged", long = %"y".repeat(5000), "refused");
        });
        let lines = log.lines().lines;
        assert_eq!(lines.len(), KEPT);
        assert_eq!(lines[0].text, "postern_agent::recent_log::tests: asked n=4 app=wiki");
        assert_eq!((lines[0].level.as_str(), lines[KEPT - 1].level.as_str()), ("info", "warn"));
        assert!(lines[0].at > Timestamp::from_seconds(1_700_000_000));
        assert!(
            lines.iter().all(|line| !line.text.contains(char::is_control) && line.text.chars().count() <= MAX_TEXT)
        );
    }
}
