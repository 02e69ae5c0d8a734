//! `postern-demo`: Postern on one machine, with a provider to sign in at and apps to reach. With `--once` it
//! drives itself, shows the evidence for each step and ends well only if each held.

mod apps;
mod bench;
mod browser;
mod failure;
mod guide;
mod identity;
mod keyring;
mod load;
mod process;
mod report;
mod settings;
mod sign_in;
mod stage;
mod story;

use clap::Parser;
use failure::{Because as _, Failure};
use stage::Stage;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Everything of Postern on this machine, on loopback, in a temporary directory that goes when it ends.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Sign in without a browser, show each step with its evidence, and end: 0 only if every step held.
    #[arg(long, group = "by_itself")]
    once: bool,
    /// With --once or --bench: the last line of standard output is one JSON object.
    #[arg(long, requires = "by_itself")]
    json: bool,
    /// Measure requests and new streams through agent and relay beside a direct connection, and end.
    #[arg(long, group = "by_itself")]
    bench: bool,
    /// With --bench: shorter runs.
    #[arg(long, requires = "bench")]
    quick: bool,
    /// Where postern, postern-relay and postern-demo-provider are. Default: beside this program.
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut stage = match Stage::empty(arguments.bin_dir.as_deref()) {
        Ok(stage) => stage,
        Err(failure) => return report::failed(&failure, &[]),
    };
    // The stage outlives the play: however that ends, what was started is ended in order.
    let outcome = tokio::select! {
        outcome = play(&arguments, &mut stage) => outcome,
        outcome = interrupted(arguments.once || arguments.bench) => outcome,
    };
    let code = match outcome {
        Ok(code) => code,
        Err(failure) => report::failed(&failure, &stage.last_words()),
    };
    stage.stop().await;
    code
}

async fn play(arguments: &Arguments, stage: &mut Stage) -> Result<ExitCode, Failure> {
    if arguments.once {
        return Ok(story::tell(stage, arguments.json).await);
    }
    if arguments.bench {
        bench::run(stage, arguments.quick, arguments.json).await?;
        return Ok(ExitCode::SUCCESS);
    }
    guide::show(stage).await?;
    Ok(ExitCode::SUCCESS)
}

/// An interrupt is how a person ends the demo; what ends by itself has failed then.
async fn interrupted(ends_by_itself: bool) -> Result<ExitCode, Failure> {
    let [interrupt, terminate, hangup] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .map(|kind| signal(kind).because("cannot listen for signals"));
    let (mut interrupt, mut terminate, mut hangup) = (interrupt?, terminate?, hangup?);
    tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => (), _ = hangup.recv() => () }
    report::ending();
    Ok(if ends_by_itself { ExitCode::from(130) } else { ExitCode::SUCCESS })
}
