//! `cargo xtask test`: every check and every test, in the order of how soon they fail.

use crate::node::Node;
use crate::packages::{
    CHROMIUM, CURL, Consent, DBUS, FAKETIME, FONTS, GLEWLWYD, KEYRING, NGINX, NODEJS, NPM, POSTGRES, PSQL, SECRET_TOOL,
    SQLITE, WEBKIT_DRIVER, XAUTH, XVFB, install,
};
use crate::run::shown;
use crate::run::{Failure, Outcome, cargo, output, run, run_reading, target};
use crate::ui;
use clap::ValueEnum;
use std::process::Command;
use std::time::{Duration, Instant};

/// Install what is missing, then run every check and test; stops at the first that fails.
#[derive(clap::Args)]
pub(crate) struct Test {
    /// Only these steps, in the usual order.
    #[arg(long, value_name = "STEP", num_args = 1.., value_delimiter = ',')]
    only: Vec<Step>,
    /// Look into the advisory database too, which must be reachable.
    #[arg(long)]
    online: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Formatting.
    Fmt,
    /// The desktop's pages: types, unit tests, and what is built into the desktop.
    Ui,
    /// Lints, warnings denied.
    Clippy,
    /// Licences, banned crates and sources.
    Deny,
    /// The programs that the end-to-end tests run.
    Build,
    /// Unit, property, repository-shape and end-to-end tests.
    Test,
    /// Every state of the pages in a real browser, with screenshots.
    Pages,
    /// The demonstration, `--once`.
    Demo,
}

/// What a step left to say.
struct Done {
    step: Step,
    time: Duration,
    note: String,
}

impl Test {
    pub(crate) fn run(self) -> Outcome {
        let wanted = |step: &&Step| self.only.is_empty() || self.only.contains(step);
        let mut done = Vec::new();
        let mut tally = Tally::default();
        for &step in Step::value_variants().iter().filter(wanted) {
            println!("\n== {} ==", name(step));
            let began = Instant::now();
            let outcome = self.take(step, &mut tally);
            let time = began.elapsed();
            match outcome {
                Ok(note) => done.push(Done { step, time, note }),
                Err(Failure(why)) => {
                    summary(&done);
                    let again = format!("cargo xtask test --only {}", name(step));
                    return Err(Failure::new(format!("{} after {}: {why}\nAgain: {again}", name(step), seconds(time))));
                }
            }
        }
        summary(&done);
        if tally.passed > 0 {
            println!("\n{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.ignored);
        }
        Ok(())
    }

    fn take(&self, step: Step, tally: &mut Tally) -> Outcome<String> {
        match step {
            Step::Fmt => run(&mut cargo(&["fmt", "--all", "--check"]))?,
            Step::Ui => ui::check()?,
            Step::Clippy => {
                ui::build(Consent::Given)?;
                run(&mut cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
            }
            Step::Deny => deny(self.online)?,
            Step::Build => build_all()?,
            Step::Test => return tests(tally),
            Step::Pages => ui::pages()?,
            Step::Demo => {
                install(&[DBUS, KEYRING], Consent::Given)?;
                build_all()?;
                run(Command::new(target()?.join("debug/postern-demo")).arg("--once"))?;
            }
        }
        Ok(String::new())
    }
}

/// Programs and tests in one build: apart, their dependencies would differ in features and be built twice.
fn build_all() -> Outcome {
    ui::build(Consent::Given)?;
    run(&mut cargo(&["build", "--locked", "--workspace", "--all-targets"]))
}

fn deny(online: bool) -> Outcome {
    if output(&mut cargo(&["deny", "--version"])).is_none() {
        println!("Installing cargo-deny (some minutes, once).");
        run(&mut cargo(&["install", "--locked", "cargo-deny"]))?;
    }
    run(&mut cargo(&["deny", "--workspace", "check", "bans", "licenses", "sources"]))?;
    if online { run(&mut cargo(&["deny", "--workspace", "check", "advisories"])) } else { Ok(()) }
}

fn tests(tally: &mut Tally) -> Outcome<String> {
    // Debian starts nginx and postgresql as services when it installs them; the tests start their own beside them.
    install(&[CHROMIUM, CURL, DBUS, FAKETIME, GLEWLWYD, KEYRING, SECRET_TOOL, NGINX], Consent::Given)?;
    install(&[POSTGRES, PSQL, NODEJS, NPM, SQLITE, FONTS, WEBKIT_DRIVER, XAUTH, XVFB], Consent::Given)?;
    let node = Node::find()?;
    node.packages("tests/node")?;
    tauri_driver()?;
    build_all()?;
    let mut command = cargo(&["test", "--locked", "--workspace", "--no-fail-fast"]);
    command.envs(node.path().map(|path| ("PATH", path)));
    println!("{}", shown(&command));
    let outcome = run_reading(&mut command, |line| {
        tally.read(line);
        true
    });
    if outcome.is_ok() && tally.passed == 0 {
        return Err(Failure::new("no test ran"));
    }
    let note = format!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.ignored);
    outcome.map(|()| note.clone()).map_err(|Failure(why)| Failure::new(format!("{why} ({note})")))
}

/// Drives the desktop's window in tests.
fn tauri_driver() -> Outcome {
    if output(Command::new("tauri-driver").arg("--help")).is_some() {
        return Ok(());
    }
    println!("Installing tauri-driver (half a minute, once).");
    run(&mut cargo(&["install", "--locked", "tauri-driver", "--version", "^2"]))
}

/// The sum of what the test programs say at their ends.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Tally {
    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    fn read(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for part in counts.split("; ") {
            let (count, what) = part.split_once(' ').unwrap_or_default();
            let count: u64 = count.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => (),
            }
        }
    }
}

fn summary(done: &[Done]) {
    println!("\n== summary ==");
    for Done { step, time, note } in done {
        println!("{:<8} ok  {:>8}  {note}", name(*step), seconds(*time));
    }
}

fn name(step: Step) -> String {
    step.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_test_programs_say() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.04s",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ] {
            tally.read(line);
        }
        assert_eq!((tally.passed, tally.failed, tally.ignored), (5, 1, 1));
    }
}
