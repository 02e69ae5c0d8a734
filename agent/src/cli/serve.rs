//! `postern agent run`: the agent itself, from its directory's lock to an orderly end.

use super::{background, log, output};
use crate::config::Config;
use crate::engine::Engine;
use crate::listeners::Listeners;
use crate::local_api::{LocalApi, LocalSocket};
use crate::recent_log::RecentLog;
use crate::state_dir::StateDir;
use crate::system;
use crate::uplink::{Access, Uplink};
use postern_protocol::{Code, Problem};
use serde::Serialize;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long calls and streams under way may take to end.
const GOODBYE_LIMIT: Duration = Duration::from_secs(5);

/// The one line on standard output that says the agent is ready, or why it never was.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Start<'a> {
    Ready { socket: &'a Path, http_port: u16 },
    Failed { problem: &'a Problem },
}

pub(super) async fn run(state_dir: &Path, config: Option<&Path>, detached: bool) -> Result<(), Problem> {
    system::keep_private();
    let agent = match start(state_dir, config, detached).await {
        Ok(agent) => agent,
        Err(problem) if detached => {
            // Whoever started us shows it; it is in the log as well.
            print(&Start::Failed { problem: &problem });
            return Err(problem);
        }
        Err(problem) => return Err(problem),
    };
    print(&Start::Ready { socket: &agent.state.socket(), http_port: agent.http_port });
    if detached {
        system::let_go_of_stdout();
    }
    agent.run().await
}

struct Agent {
    state: Arc<StateDir>,
    uplink: Arc<Uplink>,
    engine: Engine,
    api: LocalApi,
    socket: LocalSocket,
    http_port: u16,
    stop: CancellationToken,
}

async fn start(state_dir: &Path, config: Option<&Path>, detached: bool) -> Result<Agent, Problem> {
    let state = Arc::new(StateDir::open(state_dir)?);
    let recent = RecentLog::default();
    log::start(if detached { Some(background::detach(&state)?) } else { None }, recent.clone())?;
    let config = Config::load(config, state_dir)?;
    let socket = LocalSocket::bind(&state)?;
    let uplink = Uplink::new();
    let ports = config.clone();
    let engine = Engine::start(config, state.clone(), uplink.clone()).await?;
    let access = Access::new(uplink.clone(), Arc::new(engine.clone()));
    let listeners = Listeners::open(state.clone(), &ports, access.clone())?;
    let http_port = listeners.http_port();
    let stop = CancellationToken::new();
    let api = LocalApi::new(engine.clone(), listeners, access, stop.clone()).with_log(recent);
    Ok(Agent { state, uplink, engine, api, socket, http_port, stop })
}

impl Agent {
    /// Until the system, or a call, asks it to end.
    async fn run(self) -> Result<(), Problem> {
        let failed = |error: io::Error| Problem::new(Code::Internal).detail(error.to_string());
        let mut asked = system::AskedToEnd::listen().map_err(failed)?;
        tracing::info!(state_dir = %self.state.path().display(), http_port = self.http_port, "the agent is ready");
        let stop = self.stop.clone();
        let mut serving = std::pin::pin!(self.api.serve(self.socket));
        tokio::select! {
            // Asked by a call, serving ends as well: that is no reason to go without a goodbye.
            biased;
            () = stop.cancelled() => {}
            () = asked.heard() => {}
            ended = &mut serving => return ended.map_err(failed),
        }
        tracing::info!("the agent stops");
        stop.cancel();
        let goodbye = async {
            // Calls end first, so that a client reads its last line before the connection goes.
            let _ = serving.await;
            let way = self.uplink.current();
            self.engine.shutdown().await;
            if let Ok(way) = way {
                way.link.close();
                way.link.gone().await;
            }
        };
        if tokio::time::timeout(GOODBYE_LIMIT, goodbye).await.is_err() {
            tracing::warn!("calls under way were cut short");
        }
        Ok(())
    }
}

fn print(start: &Start<'_>) {
    let mut out = io::stdout().lock();
    // Nobody need be listening.
    let _ = out.write_all(output::json_line(start).as_bytes());
    let _ = out.flush();
}
