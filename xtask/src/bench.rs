//! `cargo xtask bench`: figures, each beside its budget or what it is compared with.

use crate::run::{Failure, Outcome, build_programs, cargo, run_reading, target};
use clap::ValueEnum;
use serde_json::{Map, Value, json};
use std::process::Command;

/// Measure, with optimised builds: everything, or what is named.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// What to measure.
    name: Vec<Name>,
    /// Shorter runs, for a first impression.
    #[arg(long)]
    quick: bool,
    /// The last line of standard output is one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// One decision of the relay.
    Decide,
    /// Requests and new streams through agent and relay, beside a direct connection.
    Path,
    /// How fast live streams are cut, and what the others notice.
    Revocation,
}

impl Bench {
    pub(crate) fn run(self) -> Outcome {
        let mut results = Map::new();
        for name in Name::value_variants().iter().filter(|name| self.name.is_empty() || self.name.contains(name)) {
            match name {
                Name::Decide => results.insert("decide".into(), decide(self.quick)?),
                Name::Path => results.insert("path".into(), path(self.quick)?),
                Name::Revocation => results.insert("revocation".into(), revocation(self.quick)?),
            };
        }
        if self.json {
            println!("{}", Value::Object(results));
        }
        Ok(())
    }
}

fn decide(quick: bool) -> Outcome<Value> {
    println!("\n== decide ==");
    let mut bench = cargo(&["bench", "--locked", "-p", "postern-relay-core", "--bench", "decide"]);
    bench.args(quick.then_some(["--", "--quick"]).into_iter().flatten());
    let mut rows = Vec::new();
    run_reading(&mut bench, |line| {
        rows.extend(percentiles(line));
        true
    })?;
    if rows.is_empty() { Err(Failure::new("the bench printed no percentiles")) } else { Ok(Value::Array(rows)) }
}

fn path(quick: bool) -> Outcome<Value> {
    println!("\n== path ==");
    build_programs("release")?;
    let mut bench = Command::new(target()?.join("release/postern-demo"));
    bench.args(["--bench", "--json"]).args(quick.then_some("--quick"));
    last_object(&mut bench)
}

fn revocation(quick: bool) -> Outcome<Value> {
    println!("\n== revocation ==");
    build_programs("release")?;
    let mut bench = cargo(&["bench", "--locked", "-p", "postern-tests", "--bench", "revocation"]);
    last_object(bench.args(quick.then_some(["--", "--quick"]).into_iter().flatten()))
}

/// Runs a bench whose last line is a JSON object, and passes on the lines before it.
fn last_object(bench: &mut Command) -> Outcome<Value> {
    let mut object = None;
    run_reading(bench, |line| {
        object = serde_json::from_str(line).ok().filter(Value::is_object);
        object.is_none()
    })?;
    object.ok_or_else(|| Failure::new("the last line of the bench is no JSON object"))
}

/// Reads `decide/usual/cached token: p50 21.3µs  p90 ...  p99 ...  p99.9 ...  (p99 within the budget of 50µs, within
/// the 81µs it is at this pace)`.
fn percentiles(line: &str) -> Option<Value> {
    let (name, rest) = line.split_once(": p50 ")?;
    let (figures, verdict) = rest.split_once('(')?;
    let mut words = figures.split_whitespace();
    let mut row = Map::from_iter([("name".to_owned(), json!(name)), ("p50_us".to_owned(), micros(words.next()?)?)]);
    while let (Some(share), Some(time)) = (words.next(), words.next()) {
        row.insert(format!("{share}_us"), micros(time)?);
    }
    if let Some((plain, scaled)) = verdict.strip_prefix("p99 ").and_then(|verdict| verdict.split_once(", ")) {
        row.insert("within_budget".into(), plain.starts_with("within").into());
        row.insert("within_budget_at_this_pace".into(), scaled.starts_with("within").into());
    }
    Some(Value::Object(row))
}

/// As `Duration` prints itself.
fn micros(text: &str) -> Option<Value> {
    let (number, factor) = [("ns", 1e-3), ("µs", 1.0), ("ms", 1e3), ("s", 1e6)]
        .into_iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?.parse::<f64>().ok()?, factor)))?;
    Some(json!((number * factor * 1e3).round() / 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_bench_prints() {
        let line = "decide/usual/cached token: p50 21.5µs  p90 900ns  p99 1.5ms  p99.9 2s  (p99 OVER the budget of \
                    50µs, within the 2ms it is at this pace)";
        let row = percentiles(line).unwrap();
        let expected = json!({ "name": "decide/usual/cached token", "p50_us": 21.5, "p90_us": 0.9, "p99_us": 1500.0,
            "p99.9_us": 2e6, "within_budget": false, "within_budget_at_this_pace": true });
        assert_eq!(row, expected);
        let yardstick =
            percentiles("yardstick/one JWT verified: p50 46µs  p99 98µs  (the budgets are scaled by its p50)");
        assert_eq!(yardstick.unwrap().get("within_budget"), None);
        assert!(percentiles("decide/usual/cached token  time: [20 µs]").is_none());
    }
}
