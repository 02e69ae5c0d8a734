//! The log: one line an event on stderr, in which no value from outside can start a line or drive a terminal.

use postern_protocol::problem::printable;
use postern_protocol::{Code, Problem};
use std::io::{self, Write};
use tracing_subscriber::EnvFilter;

/// Sends log lines to stderr. `POSTERN_LOG` chooses what is logged, as `level` or `target=level,...`.
pub fn start() -> Result<(), Problem> {
    let filter = match std::env::var_os("POSTERN_LOG") {
        None => EnvFilter::new("info"),
        Some(text) => text.to_str().and_then(|text| EnvFilter::try_new(text).ok()).ok_or_else(|| {
            let fix = "Set POSTERN_LOG to error, warn, info, debug or trace, or to target=level,...; or unset it.";
            let detail = format!("POSTERN_LOG={:?} is not a choice of what to log", text.to_string_lossy());
            Problem::new(Code::ConfigInvalid).detail(detail).advice(None, Some(fix.to_owned()))
        })?,
    };
    let writer = || Escaped(io::stderr());
    // A second start, as in a test, keeps the first.
    let _already_started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(false)
        .with_writer(writer)
        .try_init();
    Ok(())
}

/// Escapes what it writes: each write is one event, and its only control character is the line break at its end.
struct Escaped<W>(W);

impl<W: Write> Write for Escaped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        // A log that cannot be written, on a full disk, must not take the relay along: the subscriber would report the
        // failure on the same stderr and panic.
        let _lost = self.0.write_all((printable(line) + "\n").as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _lost = self.0.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A55: an event is one line, whatever its message and fields hold.
    #[test]
    fn an_event_is_one_line_without_control_characters() {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || Escaped(writer.clone())).finish();
        tracing::subscriber::with_default(subscriber, || {
            let hostile = "x\r\n2026-01-01 INFO forged\x1b[2J\u{9b}31m\u{202e}";
            tracing::info!(name = %hostile, debug = ?hostile, "{hostile}");
            tracing::warn!("next");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{text:?}");
    }
}
