//! `on_lapse` and `hold_for` of an app: what becomes of its live streams when a session lapses.

use super::reader::Section;
use postern_protocol::control::AppKind;
use postern_relay_core::app::OnLapse;
use std::time::Duration;

const DEFAULT: Duration = Duration::from_secs(600);
const LEAST: Duration = Duration::from_secs(5);
const MOST: Duration = Duration::from_secs(86_400);

/// Cut, unless the app says otherwise; a mistake is noted at the section's source.
pub(super) fn read(section: &mut Section<'_>, kind: Option<AppKind>) -> OnLapse {
    let hold_for = section.duration("hold_for", DEFAULT, LEAST, MOST).value;
    let word = section.text("on_lapse");
    let parse = |word: &str| match (word, kind) {
        ("cut", _) => Ok(OnLapse::Cut),
        // A request in flight has a client that waits for an answer; only bytes can stand still.
        ("hold", Some(AppKind::Http)) => Err("an http app cannot hold its requests".to_owned()),
        ("hold", _) => Ok(OnLapse::Hold(hold_for)),
        _ => Err(format!("\"{word}\" is not known here")),
    };
    let fix = "write on_lapse = \"cut\", or for a tcp app on_lapse = \"hold\"";
    section.parsed("on_lapse", word, parse, fix).map_or(OnLapse::Cut, |found| found.value)
}
