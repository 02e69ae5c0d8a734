//! Where apps are on this machine: one port for all `http` apps, one for each `tcp` app, all on loopback.

mod forward;
mod http;
mod page;
mod ports;
mod screen;
mod tcp;
mod watched;

use crate::config::Config;
use crate::peer::Uid;
use crate::state_dir::StateDir;
use crate::uplink::Access;
use ports::Ports;
use postern_protocol::control::{AppEntry, AppKind};
use postern_protocol::local::LocalApp;
use postern_protocol::{AppName, Code, Problem};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Each `tcp` app takes a file descriptor; a hostile list must not take them all.
const MAX_TCP_APPS: usize = 256;

/// The open listeners. Dropping it closes them; streams end with the connection to the relay.
pub struct Listeners {
    http_port: u16,
    apps: watch::Receiver<Arc<[LocalApp]>>,
    _close: DropGuard,
}

impl Listeners {
    /// Opens the listener of `http` apps, and from now on those of `tcp` apps as the list of apps changes.
    pub fn open(state: Arc<StateDir>, config: &Config, access: Access) -> Result<Self, Problem> {
        let mut ports = Ports::load(state, config);
        let sockets = ports.bind_http()?;
        let http_port = sockets.port;
        let close = CancellationToken::new();
        let (publish, apps) = watch::channel(Arc::from([]));
        let site = Arc::new(http::Site { port: http_port, access: access.clone(), apps: apps.clone() });
        for listener in sockets.listeners {
            tokio::spawn(close.clone().run_until_cancelled_owned(http::serve(listener, Uid::own(), site.clone())));
        }
        let follower = Follower { http_port, ports, access, open: BTreeMap::new() };
        tokio::spawn(close.clone().run_until_cancelled_owned(follower.run(publish)));
        Ok(Self { http_port, apps, _close: close.drop_guard() })
    }

    /// The port of all `http` apps.
    pub fn http_port(&self) -> u16 {
        self.http_port
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

/// Keeps the `tcp` listeners as the list of apps wants them.
struct Follower {
    http_port: u16,
    ports: Ports,
    access: Access,
    open: BTreeMap<AppName, OpenPort>,
}

struct OpenPort {
    port: u16,
    _close: DropGuard,
}

impl Follower {
    async fn run(mut self, publish: watch::Sender<Arc<[LocalApp]>>) {
        let mut wanted = self.access.uplink().watch_apps();
        loop {
            let entries = wanted.borrow_and_update().clone();
            publish.send_replace(self.arrange(&entries));
            if wanted.changed().await.is_err() {
                return;
            }
        }
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
                let local = format!("http://{}.localhost:{}/", entry.name, self.http_port);
                LocalApp { entry, local, command: None, problem: None }
            }
            AppKind::Tcp => match self.port_of(&entry.name) {
                Ok(port) => LocalApp { entry, local: format!("127.0.0.1:{port}"), command: None, problem: None },
                Err(problem) => LocalApp { entry, local: String::new(), command: None, problem: Some(problem) },
            },
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
        let close = CancellationToken::new();
        let serving = tcp::serve(listener, Uid::own(), app.clone(), self.access.clone());
        tokio::spawn(close.clone().run_until_cancelled_owned(serving));
        self.open.insert(app.clone(), OpenPort { port, _close: close.drop_guard() });
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
