//! Running commands, and where things are.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a task ended early, in words for the person who runs it.
pub(crate) struct Failure(pub(crate) String);

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// The top of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The target directory, seen from `target/debug/xtask`: whoever chose it.
pub(crate) fn target() -> Outcome<PathBuf> {
    let own = std::env::current_exe().map_err(|error| Failure::new(format!("cannot find this program: {error}")))?;
    own.ancestors().nth(2).map(Path::to_path_buf).ok_or_else(|| Failure::new("cannot find the target directory"))
}

/// `cargo`, the one that runs us, at the top of the repository.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments).current_dir(root());
    cargo
}

/// Builds the programs. One selection for every task, so that features, and with them builds, stay the same.
pub(crate) fn build_programs(profile: &str) -> Outcome {
    let programs = ["postern-agent", "postern-relay", "postern-demo-provider", "postern-demo"];
    let mut build = cargo(&["build", "--locked", "--bins", "--profile", profile]);
    run(build.args(programs.iter().flat_map(|package| ["-p", package])))
}

/// Runs to the end; the output is the person's to read.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let shown = shown(command);
    let status = command.stdin(Stdio::null()).status().map_err(|error| not_started(&shown, error))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("{shown}: {status}"))) }
}

/// The same, but each line of standard output goes to `each` first, which says whether it is to be shown.
pub(crate) fn run_reading(command: &mut Command, mut each: impl FnMut(&str) -> bool) -> Outcome {
    let shown = shown(command);
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| not_started(&shown, error))?;
    for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).split(b'\n')).map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if each(&line) {
            println!("{line}");
        }
    }
    let status = child.wait().map_err(|error| not_started(&shown, error))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("{shown}: {status}"))) }
}

/// Standard output of a command that ends well; `None` if it does not, or is not there.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The program of this name on the search path, or where Debian keeps a server's programs.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    places.map(|place| place.join(program)).find(|file| file.is_file())
}

/// The search path with `first` before it.
pub(crate) fn path_with(first: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::iter::once(first.to_path_buf()).chain(std::env::split_paths(&path));
    std::env::join_paths(places).unwrap_or(path)
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn not_started(shown: &str, error: impl Display) -> Failure {
    Failure::new(format!("cannot run {shown}: {error}"))
}
