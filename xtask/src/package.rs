//! `cargo xtask package`: the Debian packages of agent, desktop and relay, each by itself.

use crate::packages::{Consent, DEBOOTSTRAP, DPKG_DEV, install};
use crate::run::{Failure, Outcome, cargo, output, root, run, target};
use crate::ui;
use std::path::Path;
use std::process::Command;

/// Make the Debian packages `postern-agent`, `postern-desktop` and `postern-relay` in the target directory's `debian`.
#[derive(clap::Args)]
pub(crate) struct Package {
    /// The build profile; `dev` is quicker and larger.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Then install them on a Debian 12 made for it, see each run, and remove them again. Needs root.
    #[arg(long = "try")]
    try_them: bool,
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
        std::fs::create_dir_all(&place).map_err(|error| Failure::new(format!("{}: {error}", place.display())))?;
        for package in PACKAGES {
            let mut deb =
                cargo(&["deb", "--no-build", "--locked", "--strip", "-p", package, "--profile", &self.profile, "-o"]);
            run(deb.arg(&place))?;
        }
        println!("The packages are in {}. To install: apt-get install ./postern-*.deb", shown(&place));
        if self.try_them { try_them(&place) } else { Ok(()) }
    }
}

/// Installs the packages on a Debian 12 that has nothing yet, by `packaging/try.sh`. It lives in a directory of its own, in
/// which no process and no mount outlasts the attempt.
fn try_them(packages: &Path) -> Outcome {
    install(&[DEBOOTSTRAP], Consent::Given)?;
    let fresh = target()?.join("fresh-debian");
    let failed = |error| Failure::new(format!("{}: {error}", fresh.display()));
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh).map_err(failed)?;
    }
    println!("Making a Debian 12 in {} (some minutes).", fresh.display());
    run(Command::new("debootstrap").args(["--variant=minbase", "bookworm"]).arg(&fresh))?;
    let inside = r#"set -eu
mount -t proc proc "$1/proc"; mount -t tmpfs tmpfs "$1/run"; mount --rbind /dev "$1/dev"
mkdir "$1/packages"; mount --bind "$2" "$1/packages"
cp -L /etc/resolv.conf "$1/etc/resolv.conf"; cp "$3" "$1/root/try.sh"
exec chroot "$1" sh /root/try.sh /packages"#;
    // Who ends first in the namespace of processes ends all others in it.
    let mut attempt = Command::new("unshare");
    attempt.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", inside, "sh"]);
    let outcome = run(attempt.arg(&fresh).arg(packages).arg(root().join("packaging/try.sh")));
    let removed = std::fs::remove_dir_all(&fresh).map_err(failed);
    outcome.and(removed)
}

/// From the top of the repository where it is below it.
fn shown(place: &Path) -> String {
    place.strip_prefix(root()).unwrap_or(place).display().to_string()
}
