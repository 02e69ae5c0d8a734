//! The relay's event stream: JSON lines that come as things happen, and a sign of life in between.

use super::upkeep::ask;
use crate::link::Link;
use bytes::{Buf as _, BytesMut};
use http::Method;
use http_body_util::BodyExt as _;
use postern_protocol::control::{EVENTS, RelayEvent};
use postern_protocol::{Code, Problem};
use secrecy::SecretString;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// The relay gives a sign of life every 15 seconds; three missed ones mean that nobody is there.
const SILENCE: Duration = Duration::from_secs(50);
const MAX_LINE: usize = 64 * 1024;

/// Hands every event to `tell` until the stream ends, which is always for some cause.
pub(super) async fn listen<F: Future<Output = ()>>(
    link: Arc<Link>,
    token: SecretString,
    mut tell: impl FnMut(RelayEvent) -> F,
) -> Problem {
    let ended = |why: &str| Problem::new(Code::RelayUnreachable).detail(format!("the relay's events ended: {why}"));
    let mut body = match ask(&link, Method::GET, EVENTS, Some(&token), None).await {
        Ok(answer) => answer.into_body(),
        Err(problem) => return problem,
    };
    let mut lines = Lines::default();
    loop {
        let data = match tokio::time::timeout(SILENCE, body.frame()).await {
            Err(_) => return ended("silence"),
            Ok(None) => return ended("end of the stream"),
            Ok(Some(Err(error))) => return ended(&error.to_string()),
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        };
        lines.buffer.extend_from_slice(&data);
        loop {
            match lines.next() {
                Ok(Some(event)) => tell(event).await,
                Ok(None) => break,
                Err(why) => return ended(why),
            }
        }
    }
}

#[derive(Default)]
struct Lines {
    buffer: BytesMut,
}

impl Lines {
    /// The next whole line that says something this agent understands.
    fn next(&mut self) -> Result<Option<RelayEvent>, &'static str> {
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(end);
            self.buffer.advance(1);
            // A newer relay may say more: what is not understood is passed over.
            if let Ok(event) = serde_json::from_slice(&line) {
                return Ok(Some(event));
            }
        }
        if self.buffer.len() > MAX_LINE { Err("a line without end") } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let text =
            "{\"event\":\"alive\"}\n{\"event\":\"from the future\"}\n\n{\"event\":\"apps_changed\"}\n{\"event\":\"dra";
        for size in 1..text.len() {
            let (mut lines, mut events) = (Lines::default(), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                lines.buffer.extend_from_slice(piece);
                while let Some(event) = lines.next().unwrap() {
                    events.push(event);
                }
            }
            assert_eq!(events, [RelayEvent::Alive, RelayEvent::AppsChanged]);
        }
        let mut endless = Lines { buffer: BytesMut::from("x".repeat(MAX_LINE + 1).as_str()) };
        assert!(endless.next().is_err());
    }
}
