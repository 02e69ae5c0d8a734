//! Other ports while the agent runs: every new listener is open before an old one closes, or nothing changes.

use super::ports::{HttpSockets, bind_ipv4, taken, with_ipv6};
use super::{Follower, OpenHttp, OpenPort};
use postern_protocol::control::{AppEntry, AppKind};
use postern_protocol::local::Settings;
use postern_protocol::{AppName, Code, Problem};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::TcpListener;

/// What settings need that is not open as they want it.
struct Wanted {
    http: Option<HttpSockets>,
    tcp: BTreeMap<AppName, (u16, Arc<TcpListener>)>,
}

impl Follower {
    /// Takes `settings` for these apps. Apps that are not listed get their ports once they are.
    pub(super) fn rebind(&mut self, settings: &Settings, entries: &[AppEntry]) -> Result<(), Problem> {
        let next = self.ports.effective(settings)?;
        let Wanted { http, tcp } = self.bind(&next, entries)?;
        let http_port = http.as_ref().map_or(self.http.sockets.port, |sockets| sockets.port);
        let claimed: BTreeSet<u16> = next.ports.values().copied().chain([http_port]).collect();
        let stays = |name: &AppName, port: u16| match next.ports.get(name) {
            Some(given) => *given == port,
            None => !claimed.contains(&port),
        };
        let staying = self.open.iter().filter(|(name, open)| stays(name, open.port));
        let remembered = staying.map(|(name, open)| (name.clone(), open.port)).collect();
        self.ports.set(settings, http_port, remembered)?;
        self.open.retain(|name, open| stays(name, open.port));
        for (name, (port, listener)) in tcp {
            let open = OpenPort::serve(&name, listener, port, &self.access);
            self.open.insert(name, open);
        }
        if let Some(sockets) = http {
            self.http = OpenHttp::serve(sockets, &self.access, &self.apps);
            self.told.store(self.http.sockets.port, Ordering::Relaxed);
        }
        Ok(())
    }

    fn bind(&self, next: &Settings, entries: &[AppEntry]) -> Result<Wanted, Problem> {
        let now = self.http.sockets.port;
        let moves = next.http_port != 0 && next.http_port != now;
        let http = moves.then(|| self.bind_http(next.http_port)).transpose()?;
        let mut tcp = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.kind == AppKind::Tcp) {
            let Some(&port) = next.ports.get(&entry.name) else { continue };
            if self.open.get(&entry.name).is_some_and(|open| open.port == port) {
                continue;
            }
            if port == now && !moves {
                return Err(Problem::new(Code::PortInUse).detail(format!("port {port} is that of the HTTP apps")));
            }
            let own = self.own(port).or_else(|| self.http.sockets.listeners.first().filter(|_| port == now).cloned());
            let listener = own.map_or_else(|| bind_ipv4(port).map_err(|error| taken(port, &error)), Ok)?;
            tcp.insert(entry.name.clone(), (port, listener));
        }
        Ok(Wanted { http, tcp })
    }

    fn bind_http(&self, port: u16) -> Result<HttpSockets, Problem> {
        let ipv4 = self.own(port).map_or_else(|| bind_ipv4(port), Ok);
        ipv4.and_then(|ipv4| with_ipv6(ipv4, port)).map_err(|error| taken(port, &error))
    }

    /// The listener of this agent's own that has the port, to be handed on: no two apps have one.
    fn own(&self, port: u16) -> Option<Arc<TcpListener>> {
        self.open.values().find(|open| open.port == port).map(|open| Arc::clone(&open.listener))
    }
}
