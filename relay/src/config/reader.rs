//! Reads a TOML file value by value and keeps going after each mistake, so that all of them are found at once.

use super::fault::Fault;
use postern_protocol::Timestamp;
use std::cell::RefCell;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// The file being read and the mistakes found so far.
pub(crate) struct Source {
    /// The file, for the mistakes.
    pub(crate) file: PathBuf,
    /// Its text.
    pub(crate) text: String,
    faults: RefCell<Vec<Fault>>,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Found<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

/// One table of the file. Each key is asked for once; [`Section::finish`] reports those nobody asked for.
pub(crate) struct Section<'s> {
    source: &'s Source,
    name: &'static str,
    span: Range<usize>,
    table: Option<&'s DeTable<'s>>,
    asked: Vec<&'static str>,
}

impl Source {
    pub(crate) fn new(file: PathBuf, text: String) -> Self {
        Self { file, text, faults: RefCell::default() }
    }

    /// Reads the whole file with `read`. A line that is not even TOML is reported for that alone, and nothing is
    /// called missing while such lines stand: what is missing may be on them.
    pub(crate) fn read<T>(&self, read: impl FnOnce(Section<'_>) -> T) -> T {
        let (document, errors) = DeTable::parse_recoverable(&self.text);
        for error in &errors {
            let offset = error.span().map_or(0, |span| span.start);
            self.fault(offset, error.message().replace('\n', "; "), "correct the TOML here");
        }
        let syntax = self.faults.borrow().clone();
        let root = Section { source: self, name: "", span: 0..0, table: Some(document.get_ref()), asked: Vec::new() };
        let result = read(root);
        if !syntax.is_empty() {
            let broken: Vec<usize> = syntax.iter().map(|fault| fault.line).collect();
            let mut faults = self.faults.borrow_mut();
            faults.retain(|fault| {
                syntax.contains(fault) || !broken.contains(&fault.line) && !fault.message.ends_with(MISSING)
            });
        }
        result
    }

    /// Notes a mistake at a byte offset.
    pub(crate) fn fault(&self, offset: usize, message: impl Into<String>, fix: impl Into<String>) {
        self.faults.borrow_mut().push(Fault::at(&self.file, &self.text, offset, message, fix));
    }

    /// Every mistake noted.
    pub(crate) fn into_faults(self) -> Vec<Fault> {
        self.faults.into_inner()
    }
}

const MISSING: &str = "is missing";

impl<'s> Section<'s> {
    /// The table `[key]`; if absent, one in which everything is absent.
    pub(crate) fn child(&mut self, key: &'static str) -> Self {
        let (table, span) = match self.value(key) {
            Some((DeValue::Table(table), span)) => (Some(table), span),
            Some((other, span)) => {
                self.wrong_type(key, other, span, "a table", &format!("write [{key}] on a line of its own"));
                (None, self.span.clone())
            }
            None => (None, self.span.clone()),
        };
        Section { source: self.source, name: key, span, table, asked: Vec::new() }
    }

    /// The tables `[[key]]`, in order.
    pub(crate) fn children(&mut self, key: &'static str) -> Vec<Self> {
        let fix = format!("write [[{key}]] on a line of its own for each");
        let Some((value, span)) = self.value(key) else { return Vec::new() };
        let DeValue::Array(items) = value else {
            self.wrong_type(key, value, span, "a list of tables", &fix);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::Table(table) => sections.push(Section {
                    source: self.source,
                    name: key,
                    span: item.span(),
                    table: Some(table),
                    asked: Vec::new(),
                }),
                other => self.wrong_type(key, other, item.span(), "a list of tables", &fix),
            }
        }
        sections
    }

    /// Is the section there at all?
    pub(crate) fn present(&self) -> bool {
        self.table.is_some()
    }

    /// Where the section begins.
    pub(crate) fn start(&self) -> usize {
        self.span.start
    }

    /// Text, if given. Empty text is a mistake: leave the key out instead.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<Found<String>> {
        let (value, span) = self.value(key)?;
        match value {
            DeValue::String(text) if !text.trim().is_empty() => Some(Found { value: text.to_string(), span }),
            DeValue::String(_) => {
                self.source.fault(span.start, format!("`{key}` is empty"), "give it a value or remove the line");
                None
            }
            other => {
                self.wrong_type(key, other, span, "text", "put it in double quotes");
                None
            }
        }
    }

    /// Text that must be given; `example` is what the advice shows.
    pub(crate) fn needed_text(&mut self, key: &'static str, example: &str) -> Option<Found<String>> {
        let there = self.table.is_some_and(|table| table.iter().any(|(name, _)| name.get_ref() == key));
        if !there {
            let place = if self.name.is_empty() { String::new() } else { format!(" to [{}]", self.name) };
            let fix = format!("add {key} = \"{example}\"{place}");
            self.source.fault(self.span.start, format!("`{}` {MISSING}", self.path(key)), fix);
        }
        self.text(key)
    }

    /// Text turned into something by `parse`; its error and `fix` are reported.
    pub(crate) fn parsed<T, E: std::fmt::Display>(
        &self,
        key: &'static str,
        found: Option<Found<String>>,
        parse: impl FnOnce(&str) -> Result<T, E>,
        fix: &str,
    ) -> Option<Found<T>> {
        let Found { value, span } = found?;
        match parse(&value) {
            Ok(value) => Some(Found { value, span }),
            Err(why) => {
                self.source.fault(span.start, format!("`{}`: {why}", self.path(key)), fix);
                None
            }
        }
    }

    /// A duration such as `"15m"` within bounds, or `default`, which stands where the section begins.
    pub(crate) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        least: Duration,
        most: Duration,
    ) -> Found<Duration> {
        let found = self.duration_if_given(key, default, least, most);
        found.unwrap_or_else(|| Found { value: default, span: self.span.clone() })
    }

    /// The same where there is no default, but an example.
    pub(crate) fn duration_if_given(
        &mut self,
        key: &'static str,
        example: Duration,
        least: Duration,
        most: Duration,
    ) -> Option<Found<Duration>> {
        let fix = format!("write a duration from {} to {}, such as \"{}\"", show(least), show(most), show(example));
        let found = self.text(key);
        let parse = |text: &str| match duration(text) {
            Some(value) if (least..=most).contains(&value) => Ok(value),
            Some(_) => Err(format!("\"{text}\" is out of bounds")),
            None => Err(format!("\"{text}\" is not a duration")),
        };
        self.parsed(key, found, parse, &fix)
    }

    /// A whole number within bounds, if given.
    pub(crate) fn number(&mut self, key: &'static str, least: u32, most: u32) -> Option<u32> {
        let (value, span) = self.value(key)?;
        let fix = format!("write a whole number from {least} to {most}");
        let DeValue::Integer(digits) = value else {
            self.wrong_type(key, value, span, "a whole number", &fix);
            return None;
        };
        match i64::from_str_radix(digits.as_str(), digits.radix()).ok().and_then(|number| u32::try_from(number).ok()) {
            Some(number) if (least..=most).contains(&number) => Some(number),
            _ => {
                self.source.fault(span.start, format!("`{}` is out of bounds", self.path(key)), fix);
                None
            }
        }
    }

    /// `true` or `false`, or `default`.
    pub(crate) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        match self.value(key) {
            Some((DeValue::Boolean(value), _)) => *value,
            Some((other, span)) => {
                self.wrong_type(key, other, span, "true or false", "write true or false, without quotes");
                default
            }
            None => default,
        }
    }

    /// `true` or `false`, if given.
    pub(crate) fn choice(&mut self, key: &'static str) -> Option<bool> {
        let given = self.table.is_some_and(|table| table.iter().any(|(name, _)| name.get_ref() == key));
        let value = self.flag(key, false);
        given.then_some(value)
    }

    /// A point in time in UTC, in quotes or without, if given.
    pub(crate) fn time(&mut self, key: &'static str) -> Option<Timestamp> {
        let (value, span) = self.value(key)?;
        let text = match value {
            DeValue::String(text) => text.to_string(),
            DeValue::Datetime(time) => time.to_string(),
            other => {
                self.wrong_type(key, other, span, "a time", "write it as 2026-11-23T09:30:00Z");
                return None;
            }
        };
        let time = Timestamp::parse(&text);
        if time.is_none() {
            let message = format!("`{}`: \"{text}\" is no time in UTC", self.path(key));
            self.source.fault(span.start, message, "write it as 2026-11-23T09:30:00Z");
        }
        time
    }

    /// A list of texts, if given.
    pub(crate) fn list(&mut self, key: &'static str) -> Option<Vec<Found<String>>> {
        let (value, span) = self.value(key)?;
        let fix = "write a list of texts, such as [\"a\", \"b\"]";
        let DeValue::Array(items) = value else {
            self.wrong_type(key, value, span, "a list", fix);
            return None;
        };
        let mut texts = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::String(text) => texts.push(Found { value: text.to_string(), span: item.span() }),
                other => self.wrong_type(key, other, item.span(), "a list of texts", fix),
            }
        }
        Some(texts)
    }

    /// Reports every key that nobody asked for.
    pub(crate) fn finish(self) {
        for (key, _) in self.table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if !self.asked.contains(&name) {
                let message = format!("unknown key `{}`", self.path(name));
                self.source.fault(key.span().start, message, advice(name, &self.asked));
            }
        }
    }

    fn value(&mut self, key: &'static str) -> Option<(&'s DeValue<'s>, Range<usize>)> {
        self.asked.push(key);
        let (_, value) = self.table?.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((value.get_ref(), value.span()))
    }

    fn wrong_type(&self, key: &str, value: &DeValue<'_>, span: Range<usize>, wanted: &str, fix: &str) {
        let message = format!("`{}` must be {wanted}, not {}", self.path(key), type_name(value));
        self.source.fault(span.start, message, fix);
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// What to do about the unknown key `name`, given those that are known.
fn advice(name: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|key| (strsim::damerau_levenshtein(name, key), key))
        .filter(|(distance, key)| *distance <= 1 + key.len() / 3)
        .min();
    match nearest {
        Some((_, key)) => format!("did you mean `{key}`?"),
        None => format!("remove it; known here: {}", known.join(", ")),
    }
}

/// `"90s"`, `"15m"`, `"24h"`, `"7d"`: a whole number and one unit.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds: u64 = match text.get(digits.len()..)? {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { Some(Duration::from_secs(digits.parse::<u64>().ok()?.checked_mul(seconds)?)) } else { None }
}

/// The reverse of [`duration`], in the largest unit that fits.
fn show(duration: Duration) -> String {
    let seconds = duration.as_secs();
    for (unit, size) in [("d", 86_400), ("h", 3600), ("m", 60)] {
        if seconds >= size && seconds.is_multiple_of(size) {
            return format!("{}{unit}", seconds / size);
        }
    }
    format!("{seconds}s")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, seconds) in [("5s", 5), ("15m", 900), ("24h", 86_400), ("7d", 604_800), ("0s", 0)] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "5", "s", "-5s", "+5s", "5 s", "1.5h", "5ms", "5S", "99999999999999999999d", "9999999999999999999d"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_near_miss_is_suggested() {
        assert_eq!(advice("cleint_id", &["client_id", "issuer"]), "did you mean `client_id`?");
        assert!(advice("zebra", &["client_id", "issuer"]).starts_with("remove it"));
    }

    proptest! {
        /// A30: whatever the file holds, reading it ends without a panic.
        #[test]
        fn any_text_is_read_without_panic(text in "(?s).{0,200}") {
            let source = Source::new("relay.toml".into(), text);
            source.read(|mut root| {
                root.needed_text("a", "x");
                root.number("b", 1, 2);
                root.list("c");
                root.child("d").finish();
                root.children("e").into_iter().for_each(Section::finish);
                root.finish();
            });
            for fault in source.into_faults() {
                prop_assert!(fault.line >= 1 && fault.column >= 1);
            }
        }

        #[test]
        fn shown_durations_read_back(seconds in 0u64..10_000_000) {
            prop_assert_eq!(duration(&show(Duration::from_secs(seconds))), Some(Duration::from_secs(seconds)));
        }
    }
}
