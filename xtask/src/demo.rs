//! `cargo xtask demo`.

use crate::packages::{Consent, DBUS, KEYRING, install};
use crate::run::{Failure, Outcome, build_programs, cargo, run, target};
use crate::ui;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Run all of Postern on this machine, on loopback, until Ctrl-C: an OpenID provider, a relay, three sample apps and
/// an agent, in a temporary directory that goes when it ends.
#[derive(clap::Args)]
pub(crate) struct Demo {
    /// Sign in without a browser, show each step with its evidence, and end: 0 only if every step held.
    #[arg(long)]
    once: bool,
    /// Install missing system packages without asking.
    #[arg(long)]
    yes: bool,
    /// With --once: the last line of standard output is the report as one JSON object.
    #[arg(long, requires = "once")]
    json: bool,
}

impl Demo {
    pub(crate) fn run(self) -> Outcome {
        let consent = if self.yes { Consent::Given } else { Consent::Ask };
        install(&[DBUS, KEYRING], consent)?;
        eprintln!("Building agent, relay and demo (some minutes the first time).");
        build_programs("dev")?;
        if !self.once && has_display() {
            ui::build(consent)?;
            run(&mut cargo(&["build", "--locked", "-p", "postern-desktop"]))?;
        }
        let mut demo = Command::new(target()?.join("debug/postern-demo"));
        demo.args(self.once.then_some("--once")).args(self.json.then_some("--json"));
        // In our place: Ctrl-C and signals reach the demo itself, and its exit status is ours.
        let error = demo.exec();
        Err(Failure::new(format!("cannot run postern-demo: {error}")))
    }
}

fn has_display() -> bool {
    ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some())
}
