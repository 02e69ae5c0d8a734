//! The `postern` program, which starts and installs the agent. It is called with fixed words and no shell.

use crate::model::Service;
use postern_protocol::problem::printable;
use postern_protocol::{Code, Problem};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// Longer than an agent needs to start or stop.
const LIMIT: Duration = Duration::from_secs(30);
/// Most characters of what it says that are shown.
const MAX_SAID: usize = 2000;

/// What it is asked to do with the agent of a state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Start,
    Stop,
    Install,
    Uninstall,
}

impl Act {
    const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Install => "install",
            Self::Uninstall => "uninstall",
        }
    }
}

/// Does it, and waits until it is done.
pub(crate) async fn perform(act: Act, state_dir: &Path) -> Result<(), Problem> {
    let program = find();
    let failed = |why: String| Problem::new(Code::AgentNotRunning).detail(why);
    let mut command = Command::new(&program);
    command.args(["agent", act.word()]).arg("--state-dir").arg(state_dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let ended = tokio::time::timeout(LIMIT, command.output()).await;
    let ended = ended.map_err(|_| failed(format!("postern agent {} takes too long", act.word())))?;
    let output = ended.map_err(|error| failed(format!("{}: {error}", program.display())))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<_> = said.lines().map(|line| printable(line.trim())).collect();
    Err(failed(said.join(" ").chars().take(MAX_SAID).collect()))
}

/// Is the agent of this state directory a background service?
pub(crate) async fn service(state_dir: &Path) -> Service {
    let mut command = Command::new(find());
    command.args(["agent", "status", "--json", "--state-dir"]).arg(state_dir);
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(LIMIT, command.output()).await {
        Ok(Ok(output)) => service_in(&output.stdout),
        _ => Service::Unsupported,
    }
}

/// What `postern agent status --json` says of it.
fn service_in(answer: &[u8]) -> Service {
    #[derive(Deserialize)]
    struct Answer {
        service: Service,
    }
    serde_json::from_slice(answer).map_or(Service::Unsupported, |Answer { service }| service)
}

/// The one installed with this program, else the one on the path.
fn find() -> PathBuf {
    let name = format!("postern{}", std::env::consts::EXE_SUFFIX);
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(&name)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_program_says_is_believed() {
        assert_eq!(service_in(b"{\"service\":\"installed\",\"running\":true}\n"), Service::Installed);
        for other in ["", "null", "{}", "{\"service\":\"on\"}", "no such command"] {
            assert_eq!(service_in(other.as_bytes()), Service::Unsupported, "{other}");
        }
    }
}
