//! The sample apps: `whoami` shows the identity it received, `echo` sends back, `vault` is denied by the policy.

mod echo;
mod page;
mod vault;
mod whoami;

pub(crate) use whoami::Seen;

use crate::failure::{Because as _, Failure};
use crate::identity::Verifier;
use crate::settings::Upstreams;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The running apps; they end with it.
pub(crate) struct Apps {
    /// Where they listen.
    pub(crate) upstreams: Upstreams,
    relay: Arc<OnceLock<Verifier>>,
    vault: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Apps {
    pub(crate) async fn start() -> Result<Self, Failure> {
        let (relay, vault) = (Arc::new(OnceLock::new()), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        let (listener, whoami) = listen().await?;
        tasks.spawn(whoami::serve(listener, Arc::clone(&relay)));
        let (listener, vault_at) = listen().await?;
        tasks.spawn(vault::serve(listener, Arc::clone(&vault)));
        let (listener, echo) = listen().await?;
        tasks.spawn(echo::serve(listener));
        Ok(Self { upstreams: Upstreams { whoami, vault: vault_at, echo }, relay, vault, _tasks: tasks })
    }

    /// Tells the apps which relay to believe.
    pub(crate) fn believe(&self, relay: Verifier) {
        let _ = self.relay.set(relay);
    }

    /// How many requests came as far as the vault.
    pub(crate) fn vault_requests(&self) -> u64 {
        self.vault.load(std::sync::atomic::Ordering::SeqCst)
    }
}

async fn listen() -> Result<(TcpListener, SocketAddr), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.because("cannot listen for an app")?;
    let address = listener.local_addr().because("cannot listen for an app")?;
    Ok((listener, address))
}
