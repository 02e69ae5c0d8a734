//! The agent as a background service of its user: one per state directory, in whatever starts programs for a user here.
//!
//! Each system says in a file of its own what it is told of the service and by which commands; texts and commands are
//! data, tested on any system. Only the files written and the commands run are this module's.

#[cfg(any(target_os = "linux", all(test, unix)))]
mod linux;
#[cfg(any(target_os = "macos", all(test, unix)))]
mod macos;
#[cfg(any(windows, all(test, unix)))]
mod windows;

use crate::state_dir::read_regular;
use crate::system;
use postern_client::user::User;
use postern_protocol::id::hex;
use postern_protocol::problem::printable;
use postern_protocol::{Code, Problem, binding};
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// A manager that takes longer hangs; stopping an agent takes up to ten seconds.
const CALL_LIMIT: Duration = Duration::from_secs(30);
const MAX_DEFINITION: u64 = 64 * 1024;
/// Stands in every definition; what lacks it is somebody else's.
const MARK: &str = "Made by `postern agent install`; `postern agent uninstall` removes it.";
/// Set in the environment of an agent that systemd runs: what it starts for the person must start outside of its unit.
pub(crate) const IN_SERVICE: &str = "POSTERN_SERVICE";
/// Where the person's own directory is told.
pub(crate) const HOME: &str = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
/// Organisations beside the first have their state directories here, below the default one.
const ORGANISATIONS: &str = "organisations";

/// What is to run. Its texts are fit for every system's definition: whole, and without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// `postern-agent`, with a suffix for another than the default state directory.
    name: String,
    program: String,
    /// What follows the program.
    arguments: Vec<String>,
}

/// Whose service it is.
#[derive(Clone, Debug)]
#[cfg_attr(not(all(test, unix)), allow(dead_code, reason = "no system needs all of it"))]
pub(crate) struct Person {
    home: PathBuf,
    /// Where programs' settings are: `$XDG_CONFIG_HOME`, or below the home.
    config: PathBuf,
    /// The number, or on Windows the security identifier, that the system knows them by.
    id: String,
}

/// A command for the system's manager.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    program: &'static str,
    arguments: Vec<OsString>,
}

/// One system's manager of services.
trait Platform {
    /// Where the definition lies.
    fn place(&self, person: &Person, unit: &Unit) -> PathBuf;
    /// A link that has the service started at sign-in, where that is how it is done: its place, and where it leads.
    fn link(&self, person: &Person, unit: &Unit) -> Option<(PathBuf, PathBuf)>;
    /// The definition itself.
    fn definition(&self, person: &Person, unit: &Unit) -> String;
    /// Succeeds where the manager runs for this user.
    fn alive(&self, person: &Person) -> Call;
    /// Has the manager read a definition that is new, changed or gone.
    fn reload(&self, person: &Person, unit: &Unit, place: &Path) -> Vec<Call>;
    /// Starts the service, if it does not run.
    fn start(&self, person: &Person, unit: &Unit) -> Vec<Call>;
    /// Stops it and, where the manager keeps a list of its own, takes it off.
    fn stop(&self, person: &Person, unit: &Unit) -> Vec<Call>;
    /// Asks for the service's process.
    fn process(&self, person: &Person, unit: &Unit) -> Call;
    /// Finds it in the answer.
    fn process_in(&self, answer: &str) -> Option<i32>;
    /// Does the manager tell it at all?
    fn tells_process(&self) -> bool {
        true
    }
}

/// Is there a service for a state directory?
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Installation {
    Installed,
    NotInstalled,
    /// This system has no manager that Postern knows.
    Unsupported,
}

/// The service of one state directory on this system.
pub(crate) struct Service {
    platform: Box<dyn Platform>,
    person: Person,
    unit: Unit,
}

impl Unit {
    /// For the agent with this state directory, where `default` is the one that agents have by default.
    pub(crate) fn new(
        program: &Path,
        default: Option<&Path>,
        state_dir: &Path,
        config: Option<&Path>,
    ) -> Result<Self, Problem> {
        let mut arguments: Vec<String> = ["agent", "run", "--detached", "--state-dir"].map(str::to_owned).into();
        arguments.push(text(state_dir)?);
        if let Some(config) = config {
            arguments.extend(["--config".to_owned(), text(config)?]);
        }
        Ok(Self { name: name(default, state_dir), program: text(program)?, arguments })
    }

    /// What the system calls it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// A path as text. What no definition could hold in every form of it is refused rather than mended.
fn text(path: &Path) -> Result<String, Problem> {
    match path.to_str() {
        Some(text) if path.is_absolute() && !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err(failed(format!(
            "{} cannot be a service's path: it is relative, not UTF-8 or has control characters",
            printable(&path.to_string_lossy())
        ))),
    }
}

fn name(default: Option<&Path>, state_dir: &Path) -> String {
    let below = default.and_then(|default| state_dir.strip_prefix(default).ok());
    let slug = below.and_then(|below| below.strip_prefix(ORGANISATIONS).ok()).and_then(Path::to_str);
    match (below, slug) {
        (Some(below), _) if below.as_os_str().is_empty() => "postern-agent".to_owned(),
        (_, Some(slug)) if is_slug(slug) => format!("postern-agent-{slug}"),
        _ => {
            let digest = hex(&binding::sha256(state_dir.as_os_str().as_encoded_bytes()));
            // No slug has this underscore.
            format!("postern-agent-dir_{}", digest.chars().take(16).collect::<String>())
        }
    }
}

fn is_slug(text: &str) -> bool {
    (1..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl Person {
    /// Whoever runs this program.
    fn here() -> Result<Self, Problem> {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute(HOME).ok_or_else(|| failed(format!("{HOME} is not an absolute path")))?;
        let config = absolute("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        Ok(Self { home, config, id: User::own().to_string() })
    }
}

#[cfg(target_os = "linux")]
fn here() -> Option<Box<dyn Platform>> {
    linux::Systemd::present().then(|| Box::new(linux::Systemd) as Box<dyn Platform>)
}

#[cfg(target_os = "macos")]
#[expect(clippy::unnecessary_wraps, reason = "other systems may have none")]
fn here() -> Option<Box<dyn Platform>> {
    Some(Box::new(macos::Launchd))
}

#[cfg(windows)]
#[expect(clippy::unnecessary_wraps, reason = "other systems may have none")]
fn here() -> Option<Box<dyn Platform>> {
    Some(Box::new(windows::Tasks))
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
fn here() -> Option<Box<dyn Platform>> {
    None
}

impl Service {
    /// On this system; `None` where it has no manager that is known.
    pub(crate) fn of(unit: Unit) -> Result<Option<Self>, Problem> {
        let Some(platform) = here() else { return Ok(None) };
        Ok(Some(Self { platform, person: Person::here()?, unit }))
    }

    /// The unit, as the system calls it.
    pub(crate) fn name(&self) -> &str {
        self.unit.name()
    }

    /// Where its definition lies.
    pub(crate) fn place(&self) -> PathBuf {
        self.platform.place(&self.person, &self.unit)
    }

    /// Is there a definition?
    pub(crate) fn installed(&self) -> Installation {
        if self.place().symlink_metadata().is_ok() { Installation::Installed } else { Installation::NotInstalled }
    }

    /// Does the manager run for this user?
    pub(crate) async fn manager_runs(&self) -> bool {
        run(&self.platform.alive(&self.person)).await.is_ok()
    }

    /// Writes the definition and has it start at sign-in. `true`: it is new or changed.
    pub(crate) async fn install(&self) -> Result<bool, Problem> {
        let place = self.place();
        let unusable = |error: io::Error| failed(format!("{}: {error}", place.display()));
        let definition = self.platform.definition(&self.person, &self.unit);
        let before = self.own_definition()?;
        let changed = before.as_deref() != Some(definition.as_bytes());
        if changed {
            write(&place, definition.as_bytes()).map_err(unusable)?;
        }
        if let Some((link, target)) = self.platform.link(&self.person, &self.unit) {
            relink(&link, &target).map_err(unusable)?;
        }
        if self.manager_runs().await {
            self.each(self.platform.reload(&self.person, &self.unit, &place)).await?;
        }
        Ok(changed)
    }

    /// Is the definition the one that [`Self::install`] would write?
    pub(crate) fn is_current(&self) -> bool {
        let definition = self.platform.definition(&self.person, &self.unit);
        self.own_definition().is_ok_and(|found| found.as_deref() == Some(definition.as_bytes()))
    }

    /// Starts it through the manager.
    pub(crate) async fn start(&self) -> Result<(), Problem> {
        self.each(self.platform.start(&self.person, &self.unit)).await
    }

    /// Stops and removes it. `false`: there was none.
    pub(crate) async fn uninstall(&self) -> Result<bool, Problem> {
        if self.own_definition()?.is_none() {
            return Ok(false);
        }
        let runs = self.manager_runs().await;
        if runs {
            self.each(self.platform.stop(&self.person, &self.unit)).await?;
        }
        let place = self.place();
        let link = self.platform.link(&self.person, &self.unit).map(|(link, _)| link);
        for path in link.iter().chain([&place]) {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(format!("{}: {error}", path.display())));
                }
                _ => {}
            }
        }
        if runs {
            self.each(self.platform.reload(&self.person, &self.unit, &place)).await?;
        }
        Ok(true)
    }

    /// Would [`Self::process`] tell of a service that runs?
    pub(crate) fn tells_process(&self) -> bool {
        self.platform.tells_process()
    }

    /// The process that the manager started for it, if it runs.
    pub(crate) async fn process(&self) -> Option<i32> {
        let answer = run(&self.platform.process(&self.person, &self.unit)).await.ok()?;
        self.platform.process_in(&answer)
    }

    /// The definition that is there; somebody else's is neither replaced nor removed.
    fn own_definition(&self) -> Result<Option<Vec<u8>>, Problem> {
        let place = self.place();
        match read_regular(&place, MAX_DEFINITION) {
            Ok(bytes) if String::from_utf8_lossy(&bytes).contains(MARK) => Ok(Some(bytes)),
            Ok(_) => Err(failed(format!("{} was not made by postern; move it out of the way first", place.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(format!("{}: {error}", place.display()))),
        }
    }

    async fn each(&self, calls: Vec<Call>) -> Result<(), Problem> {
        for call in &calls {
            run(call).await?;
        }
        Ok(())
    }
}

/// Runs one command; its standard output, or why it failed.
async fn run(call: &Call) -> Result<String, Problem> {
    let shown = || {
        let words: Vec<_> = call.arguments.iter().map(|word| word.to_string_lossy()).collect();
        format!("{} {}", call.program, words.join(" "))
    };
    let output = Command::new(call.program)
        .args(&call.arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(CALL_LIMIT, output).await;
    let output = output.map_err(|_| failed(format!("{} does not end", shown())))?;
    let output = output.map_err(|error| failed(format!("{}: {error}", shown())))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(500).collect();
    Err(failed(format!("{} failed: {}", shown(), printable(&said))))
}

/// Replaces the file whole, and a link in its place by the file.
fn write(place: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = place.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).create(directory)?;
    let mut file = tempfile::Builder::new().prefix(".postern-").tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(place).map(|_| ()).map_err(|error| error.error)
}

fn relink(link: &Path, target: &Path) -> io::Result<()> {
    if fs::read_link(link).is_ok_and(|before| before == target) {
        return Ok(());
    }
    if let Some(directory) = link.parent() {
        DirBuilder::new().recursive(true).create(directory)?;
    }
    match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => system::symlink(target, link),
    }
}

fn failed(detail: impl Into<String>) -> Problem {
    Problem::new(Code::ServiceFailed).detail(detail)
}

/// What a text is in XML.
#[cfg(any(target_os = "macos", windows, all(test, unix)))]
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
