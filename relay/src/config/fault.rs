//! A mistake in a configuration: where it is, what it is, what to do.

use postern_protocol::problem::printable;
use std::fmt;
use std::path::{Path, PathBuf};

/// One mistake, as `check` prints it: `file:line:column: message (what to do)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Fault {
    /// The file to correct.
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: usize,
    /// The character of that line, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

impl Fault {
    /// A mistake of a file as a whole.
    pub fn of_file(file: &Path, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: 1, column: 1, message: message.into(), fix: fix.into() }
    }

    /// A mistake at a byte offset of a file's `text`.
    pub fn at(file: &Path, text: &str, offset: usize, message: impl Into<String>, fix: impl Into<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message: message.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display().to_string();
        let (file, message, fix) = (printable(&file), printable(&self.message), printable(&self.fix));
        write!(f, "{file}:{}:{}: {message} ({fix})", self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lines_and_characters_from_one() {
        let text = "a = 1\nä = \u{1b}2\n";
        let fault = Fault::at(Path::new("relay.toml"), text, text.find('2').unwrap(), "bad\x1b[2J", "mend it");
        assert_eq!((fault.line, fault.column), (2, 6));
        assert_eq!(fault.to_string(), "relay.toml:2:6: bad\u{fffd}[2J (mend it)");
        let past = Fault::at(Path::new("f"), text, 1000, "m", "f");
        assert_eq!((past.line, past.column), (3, 1), "an offset past the end is the end");
    }
}
