//! `postern agent install`, `uninstall` and `status`: the agent as its user's background service.

use super::background;
use super::client;
use super::output::{Output, table};
use crate::service::{Installation, Service, Unit};
use postern_client::place;
use postern_protocol::problem::printable;
use postern_protocol::{Code, Problem};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The answer of `postern agent status`.
#[derive(Serialize)]
pub(super) struct State {
    /// Does an agent run with this state directory?
    running: bool,
    /// Does it start by itself?
    service: Installation,
    /// What the system calls the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Where its definition lies, or would.
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<PathBuf>,
}

pub(super) async fn install(state_dir: &Path, config: Option<&Path>, output: &Output) -> Result<(), Problem> {
    let service = wanted(state_dir, config)?;
    let changed = service.install().await?;
    output.progress(&format!("Installed as {}: the agent starts whenever you sign in.", service.name()));
    if !service.manager_runs().await {
        output.progress("The service manager does not run for you now: from your next login on it takes over.");
        return background::ensure_told(state_dir, config, output).await;
    }
    let client = client(state_dir)?;
    match client.process().await {
        Err(problem) if problem.code == Code::AgentNotRunning => {}
        Err(problem) => return Err(problem),
        Ok(process) => {
            let own = service.process().await == Some(process);
            if own && !changed {
                output.progress("The agent runs already.");
                return Ok(());
            }
            let status = client.status().await?;
            if status.session.is_some() && status.device.is_some_and(|device| device.key_storage == "memory") {
                output.progress(
                    "The agent that runs keeps its session in memory, so it goes on. To hand over, which needs a new \
                     sign-in: postern agent stop, then postern agent start",
                );
                return Ok(());
            }
            background::end(state_dir).await?;
        }
    }
    background::start_service(&service, state_dir).await?;
    output.progress("The agent runs in the background.");
    Ok(())
}

pub(super) async fn uninstall(state_dir: &Path, config: Option<&Path>, output: &Output) -> Result<(), Problem> {
    let service = wanted(state_dir, config)?;
    let told =
        if service.uninstall().await? { "Removed: the agent no longer starts by itself." } else { "Not installed." };
    output.progress(told);
    if client(state_dir)?.status().await.is_ok() {
        output.progress("An agent that was started otherwise goes on. To stop it: postern agent stop");
    }
    Ok(())
}

pub(super) async fn state(state_dir: &Path, config: Option<&Path>) -> Result<State, Problem> {
    let running = match client(state_dir)?.status().await {
        Ok(_) => true,
        Err(problem) if problem.code == Code::AgentNotRunning => false,
        Err(problem) => return Err(problem),
    };
    Ok(match of(state_dir, config)? {
        Some(service) => State {
            running,
            service: service.installed(),
            name: Some(service.name().to_owned()),
            definition: Some(service.place()),
        },
        None => State { running, service: Installation::Unsupported, name: None, definition: None },
    })
}

/// The service to start an agent with, where it is installed and its manager runs. Another configuration than the
/// service's is asked for: then it is not the one.
pub(super) async fn installed(state_dir: &Path, config: Option<&Path>) -> Option<Service> {
    let service = of(state_dir, config).ok()??;
    let fits = service.installed() == Installation::Installed && (config.is_none() || service.is_current());
    (fits && service.manager_runs().await).then_some(service)
}

fn wanted(state_dir: &Path, config: Option<&Path>) -> Result<Service, Problem> {
    of(state_dir, config)?.ok_or_else(|| {
        let detail = "this system has no service manager that postern knows (systemd, launchd, Task Scheduler)";
        Problem::new(Code::ServiceFailed).detail(detail)
    })
}

fn of(state_dir: &Path, config: Option<&Path>) -> Result<Option<Service>, Problem> {
    let failed = |error: std::io::Error| Problem::new(Code::ServiceFailed).detail(error.to_string());
    let program = std::env::current_exe().map_err(failed)?;
    let config = config.map(std::path::absolute).transpose().map_err(failed)?;
    // As the agent will: a link on the way there is no other directory.
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let default = place::default_path().ok().map(|path| real(&path));
    let unit = Unit::new(&program, default.as_deref(), &real(state_dir), config.as_deref())?;
    Service::of(unit)
}

impl super::output::Screen {
    /// The answer of `postern agent status`.
    pub(super) fn service(&self, state: &State) -> String {
        let service = match state.service {
            Installation::Installed => "installed: starts whenever you sign in",
            Installation::NotInstalled => "not installed (postern agent install)",
            Installation::Unsupported => "not supported on this system",
        };
        let mut rows = vec![
            ("Agent", if state.running { "runs" } else { "does not run" }.to_owned()),
            ("Service", service.to_owned()),
        ];
        rows.extend(state.name.iter().map(|name| ("Name", printable(name))));
        if state.service == Installation::Installed {
            rows.extend(state.definition.iter().map(|path| ("Definition", printable(&path.to_string_lossy()))));
        }
        table(&rows)
    }
}
