//! `cargo xtask`: demo, test, bench, ui and package, the project's only scripts.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a script talks to the person who runs it")]

mod bench;
mod demo;
mod node;
mod package;
mod packages;
mod run;
mod test;
mod ui;

use clap::{Parser, Subcommand};
use run::Failure;
use std::process::ExitCode;

/// Postern's scripts.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run all of Postern on this machine: provider, relay, sample apps and agent.
    Demo(demo::Demo),
    /// Install what is missing, then run every check and test; stops at the first that fails.
    Test(test::Test),
    /// Measure.
    Bench(bench::Bench),
    /// Build the desktop's pages, which the desktop is built with.
    Ui,
    /// Make the Debian packages of agent, desktop and relay.
    Package(package::Package),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Demo(demo) => demo.run(),
        Command::Test(test) => test.run(),
        Command::Bench(bench) => bench.run(),
        Command::Ui => ui::build(packages::Consent::Given),
        Command::Package(package) => package.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(text)) => {
            eprintln!("\nFAILED: {text}");
            ExitCode::FAILURE
        }
    }
}
