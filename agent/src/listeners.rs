//! Where apps are on this machine: one port for all `http` apps, one for each `tcp` app, all on loopback.

mod command;
mod forward;
mod http;
mod page;
mod ports;
mod rebind;
mod screen;
mod tcp;
mod watched;

use crate::config::Config;
use crate::settings::Kept;
use crate::state_dir::StateDir;
use crate::uplink::Access;
use ports::{HttpSockets, Ports};
use postern_client::user::User;
use postern_protocol::control::{AppEntry, AppKind};
use postern_protocol::local::{LocalApp, Settings};
use postern_protocol::{AppName, Code, Problem};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Each `tcp` app takes a file descriptor; a hostile list must not take them all.
const MAX_TCP_APPS: usize = 256;

/// The open listeners. Dropping it closes them; streams end with the connection to the relay.
pub struct Listeners {
    http_port: Arc<AtomicU16>,
    follower: mpsc::Sender<Ask>,
    apps: watch::Receiver<Arc<[LocalApp]>>,
    _close: DropGuard,
}

impl Listeners {
    /// Opens the listener of `http` apps, and from now on those of `tcp` apps as the list of apps changes.
    pub fn open(state: Arc<StateDir>, config: &Config, access: Access) -> Result<Self, Problem> {
        let kept = Kept::load(Arc::clone(&state), config);
        let state_dir = named(&state);
        let mut ports = Ports::load(state, kept);
        let sockets = ports.bind_http()?;
        let close = CancellationToken::new();
        let (publish, apps) = watch::channel(Arc::from([]));
        let http = OpenHttp::serve(sockets, &access, &apps);
        let http_port = Arc::new(AtomicU16::new(http.sockets.port));
        let told = Arc::clone(&http_port);
        let follower = Follower { http, told, ports, access, apps: apps.clone(), open: BTreeMap::new(), state_dir };
        let (asks, asked) = mpsc::channel(1);
        tokio::spawn(close.clone().run_until_cancelled_owned(follower.run(asked, publish)));
        Ok(Self { http_port, follower: asks, apps, _close: close.drop_guard() })
    }

    /// The port of all `http` apps.
    pub fn http_port(&self) -> u16 {
        self.http_port.load(Ordering::Relaxed)
    }

    /// What is set.
    pub async fn settings(&self) -> Result<Settings, Problem> {
        self.ask(None).await
    }

    /// Sets it: from now on, for what is not open yet; connections that are live on. Either all of it or nothing.
    pub async fn set(&self, settings: Settings) -> Result<Settings, Problem> {
        self.ask(Some(settings)).await
    }

    async fn ask(&self, settings: Option<Settings>) -> Result<Settings, Problem> {
        let stopped = || Problem::new(Code::AgentNotRunning).detail("the agent is stopping");
        let (reply, answer) = oneshot::channel();
        self.follower.send(Ask { settings, reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// The apps and where they are.
    pub fn apps(&self) -> Arc<[LocalApp]> {
        self.apps.borrow().clone()
    }

    /// Follows [`Self::apps`].
    pub fn watch(&self) -> watch::Receiver<Arc<[LocalApp]>> {
        self.apps.clone()
    }
}

/// The state directory, for command lines that have to name it.
fn named(state: &StateDir) -> Option<PathBuf> {
    let usual = postern_client::place::default_path().is_ok_and(|usual| usual == state.path());
    (!usual).then(|| state.path().to_owned())
}

/// What is asked of the follower: the settings, set before if there are new ones.
struct Ask {
    settings: Option<Settings>,
    reply: oneshot::Sender<Result<Settings, Problem>>,
}

/// Keeps the listeners as settings and the list of apps want them.
struct Follower {
    http: OpenHttp,
    /// The port of `http`, for everyone to read.
    told: Arc<AtomicU16>,
    ports: Ports,
    access: Access,
    apps: watch::Receiver<Arc<[LocalApp]>>,
    open: BTreeMap<AppName, OpenPort>,
    state_dir: Option<PathBuf>,
}

/// The listeners of `http` apps. Dropping it closes them; connections that were accepted live on.
struct OpenHttp {
    sockets: HttpSockets,
    _close: DropGuard,
}

impl OpenHttp {
    fn serve(sockets: HttpSockets, access: &Access, apps: &watch::Receiver<Arc<[LocalApp]>>) -> Self {
        let close = CancellationToken::new();
        let site = Arc::new(http::Site { port: sockets.port, access: access.clone(), apps: apps.clone() });
        for listener in &sockets.listeners {
            let serving = http::serve(Arc::clone(listener), User::own(), site.clone());
            tokio::spawn(close.clone().run_until_cancelled_owned(serving));
        }
        Self { sockets, _close: close.drop_guard() }
    }
}

/// The same of a `tcp` app.
struct OpenPort {
    port: u16,
    listener: Arc<TcpListener>,
    _close: DropGuard,
}

impl OpenPort {
    fn serve(app: &AppName, listener: Arc<TcpListener>, port: u16, access: &Access) -> Self {
        let close = CancellationToken::new();
        let serving = tcp::serve(Arc::clone(&listener), User::own(), app.clone(), access.clone());
        tokio::spawn(close.clone().run_until_cancelled_owned(serving));
        Self { port, listener, _close: close.drop_guard() }
    }
}

impl Follower {
    async fn run(mut self, mut asked: mpsc::Receiver<Ask>, publish: watch::Sender<Arc<[LocalApp]>>) {
        let mut wanted = self.access.uplink().watch_apps();
        loop {
            let entries = wanted.borrow_and_update().clone();
            self.publish(&entries, &publish);
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                Some(Ask { settings, reply }) = asked.recv() => {
                    let done = settings.map_or(Ok(()), |settings| self.rebind(&settings, &entries));
                    // Known where everybody looks before it is told.
                    self.publish(&entries, &publish);
                    let _ = reply.send(done.map(|()| self.ports.settings()));
                }
            }
        }
    }

    /// Who follows the apps is woken only by what is new.
    fn publish(&mut self, entries: &[AppEntry], publish: &watch::Sender<Arc<[LocalApp]>>) {
        let apps = self.arrange(entries);
        publish.send_if_modified(|known| {
            let changed = *known != apps;
            if changed {
                *known = apps;
            }
            changed
        });
    }

    fn arrange(&mut self, entries: &[AppEntry]) -> Arc<[LocalApp]> {
        let is_tcp = |entry: &&AppEntry| entry.kind == AppKind::Tcp;
        self.open.retain(|name, _| entries.iter().filter(is_tcp).any(|entry| entry.name == *name));
        entries.iter().map(|entry| self.place(entry)).collect()
    }

    fn place(&mut self, entry: &AppEntry) -> LocalApp {
        let entry = entry.clone();
        match entry.kind {
            AppKind::Http => {
                let local = format!("http://{}.localhost:{}/", entry.name, self.http.sockets.port);
                LocalApp { entry, local, command: None, problem: None }
            }
            AppKind::Tcp => {
                let (port, problem) = match self.port_of(&entry.name) {
                    Ok(port) => (Some(port), None),
                    Err(problem) => (None, Some(problem)),
                };
                let command = command::of(&entry.name, entry.port, port, self.state_dir.as_deref());
                let local = port.map_or_else(String::new, |port| format!("127.0.0.1:{port}"));
                LocalApp { entry, local, command, problem }
            }
        }
    }

    fn port_of(&mut self, app: &AppName) -> Result<u16, Problem> {
        if let Some(open) = self.open.get(app) {
            return Ok(open.port);
        }
        if self.open.len() >= MAX_TCP_APPS {
            return Err(Problem::new(Code::Internal).detail(format!("more than {MAX_TCP_APPS} tcp apps")));
        }
        let (listener, port) = self.ports.bind_tcp(app).inspect_err(|problem| {
            tracing::warn!(%app, code = %problem.code, detail = problem.detail, "no local port");
        })?;
        self.open.insert(app.clone(), OpenPort::serve(app, listener, port, &self.access));
        Ok(port)
    }
}

/// The next connection. What fails at accepting (no descriptors left, a client already gone) passes.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without it, small answers wait for the acknowledgement of earlier ones.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a local connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
