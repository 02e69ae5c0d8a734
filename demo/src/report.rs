//! What the demo prints: the one place that writes to the terminal.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the output of the program")]

use crate::failure::Failure;
use postern_protocol::problem::printable;
use serde_json::{Map, Value, json};
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

/// The steps of `--once` so far.
pub(crate) struct Report {
    began: Instant,
    planned: usize,
    done: Vec<Value>,
    held: bool,
}

/// What a step showed: labels and values, in order.
#[derive(Default)]
pub(crate) struct Evidence(Vec<(&'static str, String)>);

impl Evidence {
    #[must_use]
    pub(crate) fn with(mut self, label: &'static str, value: impl Into<String>) -> Self {
        self.0.push((label, value.into()));
        self
    }
}

impl Report {
    pub(crate) fn of(planned: usize) -> Self {
        Self { began: Instant::now(), planned, done: Vec::new(), held: true }
    }

    /// Runs a step and prints what came of it. `None`: it failed, and the rest makes no sense.
    pub(crate) async fn step<T>(
        &mut self,
        title: &str,
        work: impl Future<Output = Result<(T, Evidence), Failure>>,
    ) -> Option<T> {
        let began = Instant::now();
        print!("{} {title} ", bold(&format!("{}/{}", self.done.len() + 1, self.planned)));
        let _ = std::io::stdout().flush();
        let outcome = work.await;
        let seconds = began.elapsed().as_secs_f64();
        let (evidence, result) = match outcome {
            Ok((value, evidence)) => (evidence, Some(value)),
            Err(failure) => (Evidence::default().with("why", failure.to_string()), None),
        };
        println!("{} ({seconds:.2} s)", if result.is_some() { green("ok") } else { red("FAILED") });
        for (label, value) in &evidence.0 {
            print_pair(label, value);
        }
        println!();
        self.held &= result.is_some();
        self.done.push(json!({
            "step": title,
            "ok": result.is_some(),
            "seconds": (seconds * 1000.0).round() / 1000.0,
            "evidence": evidence.0.into_iter().map(|(label, value)| (label.to_owned(), value.into())).collect::<Map<_, _>>(),
        }));
        result
    }

    /// The closing lines and the exit status.
    pub(crate) fn close(self, logs: &[String], as_json: bool) -> ExitCode {
        let (held, done) = (self.held && self.done.len() == self.planned, self.done.len());
        let seconds = self.began.elapsed().as_secs_f64();
        if held {
            println!("{} all {done} steps held in {seconds:.1} s", green("ok"));
        } else {
            println!("{} step {done} of {} did not hold; the rest was not tried", red("FAILED"), self.planned);
            print_logs(logs);
        }
        if as_json {
            println!("{}", json!({ "ok": held, "seconds": seconds, "planned": self.planned, "steps": self.done }));
        }
        if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Prints lines for the person who watches.
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// A heading.
pub(crate) fn head(text: &str) {
    println!("\n{}", bold(text));
}

/// Prints what stopped the demo.
pub(crate) fn failed(failure: &Failure, logs: &[String]) -> ExitCode {
    eprintln!("{} {}", red("FAILED"), lines(&failure.to_string()));
    print_logs(logs);
    ExitCode::FAILURE
}

/// Says that everything is being stopped.
pub(crate) fn ending() {
    eprintln!("\nEnding what was started and removing the temporary directory.");
}

fn print_pair(label: &str, value: &str) {
    for (number, line) in value.trim_end().lines().enumerate() {
        println!("    {:<12} {}", if number == 0 { label } else { "" }, printable(line));
    }
}

fn print_logs(logs: &[String]) {
    for log in logs {
        eprintln!("\n{}", lines(log));
    }
}

/// Line by line, so that text from elsewhere cannot drive the terminal.
fn lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

pub(crate) fn bold(text: &str) -> String {
    paint("1", text)
}

fn green(text: &str) -> String {
    paint("1;32", text)
}

fn red(text: &str) -> String {
    paint("1;31", text)
}

fn paint(style: &str, text: &str) -> String {
    let wanted = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if wanted { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
}
