//! Which local port is whose: given by configuration or settings, else chosen by the system once and remembered.

use crate::settings::Kept;
use crate::state_dir::StateDir;
use postern_protocol::local::Settings;
use postern_protocol::{AppName, Code, Problem};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;

const FILE: &str = "ports.json";
const MAX_FILE: u64 = 256 * 1024;
/// Attempts at a port that is free on both loopback addresses.
const ATTEMPTS: usize = 16;

/// The ports given and remembered.
pub(super) struct Ports {
    state: Arc<StateDir>,
    kept: Kept,
    /// What `kept` comes to now.
    given: Settings,
    remembered: Remembered,
}

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
struct Remembered {
    #[serde(default)]
    http: u16,
    #[serde(default)]
    tcp: BTreeMap<AppName, u16>,
}

/// The listeners of `http` apps: a browser may try either loopback address first, and what another user's
/// program could take of the two would be sent this user's cookies.
#[derive(Debug)]
pub(super) struct HttpSockets {
    pub(super) port: u16,
    pub(super) listeners: Vec<Arc<TcpListener>>,
}

impl Ports {
    pub(super) fn load(state: Arc<StateDir>, kept: Kept) -> Self {
        let remembered = match state.read(FILE, MAX_FILE) {
            Ok(None) => Remembered::default(),
            Ok(Some(bytes)) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, "{FILE} is not readable: ports are chosen anew");
                Remembered::default()
            }),
            Err(problem) => {
                tracing::warn!(detail = problem.detail, "{FILE} is not readable: ports are chosen anew");
                Remembered::default()
            }
        };
        let given = kept.now();
        Self { state, kept, given, remembered }
    }

    pub(super) fn bind_http(&mut self) -> Result<HttpSockets, Problem> {
        let given = self.given.http_port;
        match bind_both(given) {
            Ok(sockets) if given != 0 => return Ok(sockets),
            Err(error) if given != 0 && self.kept.fixes_http() => return Err(taken(given, &error)),
            // What a person set must not keep the agent from starting, for they could not set it otherwise then.
            Err(error) if given != 0 => tracing::warn!(%error, port = given, "the port that was set cannot be opened"),
            _ => {}
        }
        let sockets = match bind_both(self.remembered.http) {
            Ok(sockets) => sockets,
            Err(_) => bind_any().map_err(|error| taken(0, &error))?,
        };
        self.remember(|ports| ports.http = sockets.port);
        Ok(sockets)
    }

    pub(super) fn bind_tcp(&mut self, app: &AppName) -> Result<(Arc<TcpListener>, u16), Problem> {
        if let Some(&port) = self.given.ports.get(app) {
            return bind(Ipv4Addr::LOCALHOST.into(), port).map_err(|error| taken(port, &error));
        }
        let others = |port: &u16| self.given.ports.values().any(|given| given == port);
        let wanted = self.remembered.tcp.get(app).copied().filter(|port| !others(port)).unwrap_or(0);
        let (listener, port) = bind(Ipv4Addr::LOCALHOST.into(), wanted)
            .or_else(|_| bind(Ipv4Addr::LOCALHOST.into(), 0))
            .map_err(|error| taken(wanted, &error))?;
        self.remember(|ports| {
            ports.tcp.insert(app.clone(), port);
        });
        Ok((listener, port))
    }

    /// What is set.
    pub(super) fn settings(&self) -> Settings {
        self.given.clone()
    }

    /// What would be set.
    pub(super) fn effective(&self, wanted: &Settings) -> Result<Settings, Problem> {
        self.kept.effective(wanted)
    }

    /// Sets it, and remembers `open`: who no longer has a port given keeps the one they have.
    pub(super) fn set(&mut self, wanted: &Settings, http: u16, open: BTreeMap<AppName, u16>) -> Result<(), Problem> {
        self.kept.keep(wanted)?;
        self.given = self.kept.now();
        self.remember(|ports| {
            ports.http = http;
            ports.tcp.extend(open);
        });
        Ok(())
    }

    /// Forgetting a port is a nuisance, not a failure.
    fn remember(&mut self, change: impl FnOnce(&mut Remembered)) {
        let before = self.remembered.clone();
        change(&mut self.remembered);
        if self.remembered == before {
            return;
        }
        let json = serde_json::to_vec_pretty(&self.remembered).unwrap_or_default();
        if let Err(problem) = self.state.write(FILE, &json) {
            tracing::warn!(detail = problem.detail, "{FILE} cannot be written: ports will change at the next start");
        }
    }
}

/// A port that is free on both loopback addresses.
fn bind_any() -> io::Result<HttpSockets> {
    let mut last = io::ErrorKind::AddrInUse.into();
    for _ in 0..ATTEMPTS {
        match bind_both(0) {
            Ok(sockets) => return Ok(sockets),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_both(port: u16) -> io::Result<HttpSockets> {
    let (ipv4, port) = bind(Ipv4Addr::LOCALHOST.into(), port)?;
    with_ipv6(ipv4, port)
}

/// The same where the one of the two is open already.
pub(super) fn with_ipv6(ipv4: Arc<TcpListener>, port: u16) -> io::Result<HttpSockets> {
    match bind(Ipv6Addr::LOCALHOST.into(), port) {
        Ok((ipv6, _)) => Ok(HttpSockets { port, listeners: vec![ipv4, ipv6] }),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        // A machine without IPv6: nobody else can listen there either.
        Err(_) => Ok(HttpSockets { port, listeners: vec![ipv4] }),
    }
}

fn bind(ip: IpAddr, port: u16) -> io::Result<(Arc<TcpListener>, u16)> {
    let listener = std::net::TcpListener::bind(SocketAddr::new(ip, port))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    Ok((Arc::new(TcpListener::from_std(listener)?), port))
}

/// On loopback alone.
pub(super) fn bind_ipv4(port: u16) -> io::Result<Arc<TcpListener>> {
    bind(Ipv4Addr::LOCALHOST.into(), port).map(|(listener, _)| listener)
}

pub(super) fn taken(port: u16, error: &io::Error) -> Problem {
    let detail = match port {
        0 => format!("no local port can be opened: {error}"),
        port => format!("port {port} cannot be opened: {error}"),
    };
    Problem::new(Code::PortInUse).detail(detail)
}
