//! Node, new enough for the OpenID provider, and the provider's packages.

use crate::run::{Failure, Outcome, output, path_with, root, run, target};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the provider asks for. Debian 12 has 18.
const OLDEST: u32 = 20;
/// The version of npm's `node` package, which holds the program itself.
const PACKAGE: &str = "node@22";

/// Makes sure of a Node that is new enough and of the packages in `tests/node`; the directory to put before the
/// search path, if any. Node of whatever age and npm are there already.
pub(crate) fn prepare() -> Outcome<Option<PathBuf>> {
    let own = if version(Path::new("node")) >= Some(OLDEST) { None } else { Some(newer()?) };
    let programs = root().join("tests/node");
    if !installed(&programs) {
        println!("Fetching the packages of tests/node.");
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-fund", "--no-audit"]).current_dir(&programs);
        npm.envs(own.as_deref().map(|own| ("PATH", path_with(own))));
        run(&mut npm)?;
    }
    Ok(own)
}

/// A newer Node beside the system's, which stays as it is.
fn newer() -> Outcome<PathBuf> {
    let place = target()?.join("xtask/node");
    let bin = place.join("node_modules/node/bin");
    if version(&bin.join("node")) >= Some(OLDEST) {
        return Ok(bin);
    }
    println!("The system's Node is older than {OLDEST}: fetching {PACKAGE} into {}.", place.display());
    std::fs::create_dir_all(&place).map_err(|error| Failure::new(format!("{}: {error}", place.display())))?;
    run(Command::new("npm")
        .args(["install", "--no-fund", "--no-audit", "--no-save", "--prefix"])
        .arg(&place)
        .arg(PACKAGE))?;
    if version(&bin.join("node")) >= Some(OLDEST) {
        Ok(bin)
    } else {
        Err(Failure::new(format!("{PACKAGE} brought no Node {OLDEST} or newer; install one and try again")))
    }
}

fn version(node: &Path) -> Option<u32> {
    let text = output(Command::new(node).arg("--version"))?;
    text.strip_prefix('v')?.split('.').next()?.parse().ok()
}

/// Are the packages those of the lock file? npm leaves a copy of what it installed.
fn installed(programs: &Path) -> bool {
    let modified = |file: &str| programs.join(file).metadata().and_then(|data| data.modified()).ok();
    let copy = modified("node_modules/.package-lock.json");
    copy.is_some() && copy >= modified("package-lock.json")
}
