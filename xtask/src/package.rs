//! `cargo xtask package`: the Debian packages of agent, desktop and relay, each by itself.

use crate::packages::{Consent, DPKG_DEV, install};
use crate::run::{Outcome, cargo, output, root, run, target};
use crate::ui;

/// Make the Debian packages `postern-agent`, `postern-desktop` and `postern-relay` in the target directory's `debian`.
#[derive(clap::Args)]
pub(crate) struct Package {
    /// The build profile; `dev` is quicker and larger.
    #[arg(long, default_value = "release")]
    profile: String,
}

/// By the names of their crates. What is in each stands in its `Cargo.toml`.
const PACKAGES: [&str; 3] = ["postern-agent", "postern-desktop", "postern-relay"];

impl Package {
    pub(crate) fn run(self) -> Outcome {
        install(&[DPKG_DEV], Consent::Given)?;
        ui::build(Consent::Given)?;
        if output(&mut cargo(&["deb", "--version"])).is_none() {
            println!("Installing cargo-deb (some minutes, once).");
            run(&mut cargo(&["install", "--locked", "cargo-deb"]))?;
        }
        // One selection for every task, so that features, and with them builds, stay the same.
        run(&mut cargo(&["build", "--locked", "--workspace", "--bins", "--profile", &self.profile]))?;
        let place = target()?.join("debian");
        std::fs::create_dir_all(&place)
            .map_err(|error| crate::run::Failure::new(format!("{}: {error}", place.display())))?;
        for package in PACKAGES {
            let mut deb =
                cargo(&["deb", "--no-build", "--locked", "-p", package, "--profile", &self.profile, "--output"]);
            run(deb.arg(&place))?;
        }
        println!("The packages are in {}. To install: apt-get install ./postern-*.deb", shown(&place));
        Ok(())
    }
}

/// From the top of the repository where it is below it.
fn shown(place: &std::path::Path) -> String {
    place.strip_prefix(root()).unwrap_or(place).display().to_string()
}
