//! What the commands print: data on stdout, everything else on stderr. Nothing else in the crate prints.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the one place that prints")]

use crate::config::Fault;
use postern_protocol::problem::printable;
use postern_protocol::{Code, Problem};
use postern_relay_core::audit::json_line;

/// How to print.
#[derive(Clone, Copy)]
pub(super) struct Output {
    /// Data as JSON?
    pub(super) json: bool,
}

impl Output {
    /// A line of data.
    pub(super) fn data(self, line: &str) {
        use std::io::Write as _;
        // A reader that went away, as `| head` does, is no failure of ours.
        let _reader_gone = writeln!(std::io::stdout().lock(), "{line}");
    }

    /// Data as one line of JSON in ASCII: names from elsewhere cannot drive a terminal or turn its text in this form either.
    pub(super) fn json(self, value: &impl serde::Serialize) {
        self.data(&json_line(value));
    }

    /// Something to know that is not data.
    pub(super) fn note(self, text: &str) {
        eprintln!("{text}");
    }

    /// A line of data that holds text from elsewhere.
    pub(super) fn line(self, line: &str) {
        self.data(&printable(line));
    }

    /// What a check found, as its data.
    pub(super) fn checked(self, faults: &[Fault], fine: &str) {
        self.checked_with(faults, &[], fine);
    }

    /// The same with what is no mistake and yet hardly meant.
    pub(super) fn checked_with(self, faults: &[Fault], warnings: &[Fault], fine: &str) {
        if self.json {
            self.json(&serde_json::json!({ "ok": faults.is_empty(), "faults": faults, "warnings": warnings }));
            return;
        }
        warnings.iter().for_each(|warning| self.data(&format!("warning: {warning}")));
        if faults.is_empty() {
            self.data(&printable(fine));
        } else {
            faults.iter().for_each(|fault| self.data(&fault.to_string()));
        }
    }

    /// Mistakes that stand in the way of another command.
    pub(super) fn faults(self, faults: &[Fault]) {
        for fault in faults {
            self.note(&fault.to_string());
        }
        self.note(&format!(
            "postern-relay: {}",
            Problem::new(Code::ConfigInvalid).detail(count(faults.len(), "mistake"))
        ));
    }

    /// A refusal or failure with its code; with `--json` the problem document is on stdout besides.
    pub(super) fn problem(self, problem: &Problem) {
        if self.json {
            self.json(problem);
        }
        self.note(&format!("postern-relay: {problem}"));
    }

    /// Rows in columns, the first row their names.
    pub(super) fn table<const N: usize>(self, head: [&str; N], rows: &[[String; N]]) {
        let mut widths = head.map(str::len);
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |cells: &[String; N]| {
            let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{:width$}", printable(cell)));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.data(&line(&head.map(str::to_uppercase)));
        rows.iter().for_each(|row| self.data(&line(row)));
    }
}

/// `1 mistake`, `2 mistakes`.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
