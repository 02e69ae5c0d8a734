//! Node and npm, new enough for the OpenID provider and the desktop's pages, and the packages of both.

use crate::run::{Failure, Outcome, output, path_with, root, run, target};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the provider asks for. Debian 12 has 18.
const OLDEST: u32 = 20;
/// Older ones leave out what Vite needs for this system. Debian 12 has 9.
const OLDEST_NPM: u32 = 11;
/// npm's packages of the programs themselves.
const PACKAGES: [&str; 2] = ["node@22", "npm@11"];

/// Node's programs and where npm's packages go.
pub(crate) struct Node {
    /// To put before the search path, if the system's are too old.
    own: Option<PathBuf>,
}

impl Node {
    /// Makes sure of a Node and an npm that are new enough. Some of whatever age are there already.
    pub(crate) fn find() -> Outcome<Self> {
        let good = major("node") >= Some(OLDEST) && major("npm") >= Some(OLDEST_NPM);
        Ok(Self { own: if good { None } else { Some(newer()?) } })
    }

    /// The search path to run tests with, if not the usual one.
    pub(crate) fn path(&self) -> Option<OsString> {
        self.own.as_deref().map(path_with)
    }

    /// npm in a directory of the repository.
    pub(crate) fn npm(&self, directory: &str, arguments: &[&str]) -> Command {
        let own = self.own.as_ref().map(|own| own.join("npm"));
        let mut npm = Command::new(own.as_deref().unwrap_or(Path::new("npm")));
        npm.args(arguments).current_dir(root().join(directory)).envs(self.path().map(|path| ("PATH", path)));
        npm
    }

    /// Makes sure of the packages of a directory, as its lock file says.
    pub(crate) fn packages(&self, directory: &str) -> Outcome {
        if installed(&root().join(directory)) {
            return Ok(());
        }
        println!("Fetching the packages of {directory}.");
        run(&mut self.npm(directory, &["ci", "--no-fund", "--no-audit"]))
    }
}

/// Newer ones beside the system's, which stay as they are.
fn newer() -> Outcome<PathBuf> {
    let place = target()?.join("xtask/node");
    let bin = place.join("node_modules/.bin");
    if version(&bin.join("node")) >= Some(OLDEST) && bin.join("npm").is_file() {
        return Ok(bin);
    }
    println!("The system's Node or npm is too old: fetching {} into {}.", PACKAGES.join(" and "), place.display());
    std::fs::create_dir_all(&place).map_err(|error| Failure::new(format!("{}: {error}", place.display())))?;
    run(Command::new("npm")
        .args(["install", "--no-fund", "--no-audit", "--no-save", "--prefix"])
        .arg(&place)
        .args(PACKAGES))?;
    if version(&bin.join("node")) >= Some(OLDEST) {
        Ok(bin)
    } else {
        Err(Failure::new(format!("this brought no Node {OLDEST} or newer; install one and try again")))
    }
}

fn major(program: &str) -> Option<u32> {
    version(Path::new(program))
}

fn version(program: &Path) -> Option<u32> {
    let text = output(Command::new(program).arg("--version"))?;
    text.trim_start_matches('v').split('.').next()?.parse().ok()
}

/// Are the packages those of the lock file? npm leaves a copy of what it installed.
fn installed(programs: &Path) -> bool {
    let modified = |file: &str| programs.join(file).metadata().and_then(|data| data.modified()).ok();
    let copy = modified("node_modules/.package-lock.json");
    copy.is_some() && copy >= modified("package-lock.json")
}
