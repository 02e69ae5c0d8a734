//! Which local port is whose: fixed by the configuration, else chosen by the system once and remembered.

use crate::config::Config;
use crate::state_dir::StateDir;
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

/// The ports fixed and remembered.
pub(super) struct Ports {
    state: Arc<StateDir>,
    fixed_http: u16,
    fixed: BTreeMap<AppName, u16>,
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
    pub(super) listeners: Vec<TcpListener>,
}

impl Ports {
    pub(super) fn load(state: Arc<StateDir>, config: &Config) -> Self {
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
        Self { state, fixed_http: config.http_port, fixed: config.ports.clone(), remembered }
    }

    pub(super) fn bind_http(&mut self) -> Result<HttpSockets, Problem> {
        if self.fixed_http != 0 {
            return bind_both(self.fixed_http).map_err(|error| taken(self.fixed_http, &error));
        }
        let sockets = match bind_both(self.remembered.http) {
            Ok(sockets) => sockets,
            Err(_) => bind_any().map_err(|error| taken(0, &error))?,
        };
        self.remember(|ports| ports.http = sockets.port);
        Ok(sockets)
    }

    pub(super) fn bind_tcp(&mut self, app: &AppName) -> Result<(TcpListener, u16), Problem> {
        if let Some(&port) = self.fixed.get(app) {
            return bind(Ipv4Addr::LOCALHOST.into(), port).map_err(|error| taken(port, &error));
        }
        let wanted = self.remembered.tcp.get(app).copied().unwrap_or(0);
        let (listener, port) = bind(Ipv4Addr::LOCALHOST.into(), wanted)
            .or_else(|_| bind(Ipv4Addr::LOCALHOST.into(), 0))
            .map_err(|error| taken(wanted, &error))?;
        self.remember(|ports| {
            ports.tcp.insert(app.clone(), port);
        });
        Ok((listener, port))
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
    match bind(Ipv6Addr::LOCALHOST.into(), port) {
        Ok((ipv6, _)) => Ok(HttpSockets { port, listeners: vec![ipv4, ipv6] }),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        // A machine without IPv6: nobody else can listen there either.
        Err(_) => Ok(HttpSockets { port, listeners: vec![ipv4] }),
    }
}

fn bind(ip: IpAddr, port: u16) -> io::Result<(TcpListener, u16)> {
    let listener = std::net::TcpListener::bind(SocketAddr::new(ip, port))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    Ok((TcpListener::from_std(listener)?, port))
}

fn taken(port: u16, error: &io::Error) -> Problem {
    let detail = match port {
        0 => format!("no local port can be opened: {error}"),
        port => format!("port {port} cannot be opened: {error}"),
    };
    Problem::new(Code::PortInUse).detail(detail)
}
