//! `cargo xtask bench`: figures, each beside what it is compared with.

use crate::run::{Failure, Outcome};
use clap::ValueEnum;

/// Measure.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// What to measure; everything if not named.
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
    /// A request and a new stream through agent and relay, beside a direct connection.
    Path,
}

impl Bench {
    pub(crate) fn run(self) -> Outcome {
        Err(Failure::new(format!("{:?} {} {}", self.name, self.quick, self.json)))
    }
}
