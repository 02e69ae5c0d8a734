//! The agent's log: lines on standard error that no logged text can forge.

use super::background::LogFile;
use crate::recent_log::RecentLog;
use postern_protocol::problem::printable;
use postern_protocol::{Code, Problem};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How much is logged: `error`, `warn`, `info` (default), `debug` or `trace`.
const VARIABLE: &str = "POSTERN_LOG";

/// Starts logging, to a `file` that is renewed when it is full, if there is one, and to memory. Other crates' finer levels
/// stay off: they may show headers and tokens.
pub(super) fn start(file: Option<LogFile>, recent: RecentLog) -> Result<(), Problem> {
    let level = match std::env::var(VARIABLE) {
        Ok(level) => level.parse::<tracing::level_filters::LevelFilter>().map_err(|_| {
            let detail = format!("{VARIABLE} must be error, warn, info, debug or trace");
            Problem::new(Code::ConfigInvalid).detail(detail)
        })?,
        Err(_) => tracing::level_filters::LevelFilter::INFO,
    };
    let filter = EnvFilter::new(format!("warn,postern_agent={level},postern_agent_core={level}"));
    let lines = OneLine { file, lines: AtomicU64::new(0) };
    let written = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(lines);
    let subscriber = tracing_subscriber::registry().with(filter).with(written).with(recent);
    // Fails only if there is a log already.
    let _ = subscriber.try_init();
    Ok(())
}

/// Writes each event as one line, whatever its fields hold.
struct OneLine {
    file: Option<LogFile>,
    lines: AtomicU64,
}

/// The log's size is looked at once in so many lines.
const LINES_BETWEEN_CHECKS: u64 = 1000;

impl<'a> MakeWriter<'a> for OneLine {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl Write for &OneLine {
    /// The subscriber hands over an event whole, with its line's end.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if let Some(file) = &self.file
            && self.lines.fetch_add(1, Ordering::Relaxed).is_multiple_of(LINES_BETWEEN_CHECKS)
        {
            // A log that cannot be put aside still takes the line.
            let _ = file.renew_when_full();
        }
        let line = one_line(event);
        match &self.file {
            Some(file) => file.write_all(line.as_bytes())?,
            None => io::stderr().lock().write_all(line.as_bytes())?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn one_line(event: &[u8]) -> String {
    let text = String::from_utf8_lossy(event);
    let mut line = printable(text.strip_suffix('\n').unwrap_or(&text));
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::one_line;

    /// A55: no field can drive a terminal or begin a line of its own.
    #[test]
    fn a55_an_event_is_one_line_of_printable_text() {
        let line = one_line(b"INFO app=x\x1b[2J\r\n2026-01-01 ERROR forged\n");
        assert_eq!(line.lines().count(), 1);
        assert!(!line.contains('\x1b') && line.ends_with("forged\n"), "{line:?}");
    }
}
