//! The sample apps: `whoami` shows the identity it received, `echo` sends back, `vault` is denied by the policy.
//! `plain` answers with 128 bytes, for measuring.

mod echo;
mod page;
mod plain;
mod vault;
mod whoami;

pub(crate) use whoami::Seen;

use crate::failure::{Because as _, Failure};
use crate::identity::Verifier;
use crate::settings::App;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The running apps; they end with it.
pub(crate) struct Apps {
    /// Where they listen.
    pub(crate) whoami: SocketAddr,
    pub(crate) vault: SocketAddr,
    pub(crate) echo: SocketAddr,
    pub(crate) plain: SocketAddr,
    relay: Arc<OnceLock<Verifier>>,
    vault_requests: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Apps {
    pub(crate) async fn start() -> Result<Self, Failure> {
        let (relay, vault_requests) = (Arc::new(OnceLock::new()), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        let (listener, whoami) = listen().await?;
        tasks.spawn(whoami::serve(listener, Arc::clone(&relay)));
        let (listener, vault) = listen().await?;
        tasks.spawn(vault::serve(listener, Arc::clone(&vault_requests)));
        let (listener, echo) = listen().await?;
        tasks.spawn(echo::serve(listener));
        let (listener, plain) = listen().await?;
        tasks.spawn(plain::serve(listener));
        Ok(Self { whoami, vault, echo, plain, relay, vault_requests, _tasks: tasks })
    }

    /// Tells the apps which relay to believe.
    pub(crate) fn believe(&self, relay: Verifier) {
        let _ = self.relay.set(relay);
    }

    /// How many requests came as far as the vault.
    pub(crate) fn vault_requests(&self) -> u64 {
        self.vault_requests.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// As the relay is told of them; `plain` only where it is measured.
    pub(crate) fn table(&self, measuring: bool) -> Vec<App> {
        let app = |name, kind, upstream, description, group| App { name, kind, upstream, description, group };
        let mut all = vec![
            app("whoami", "http", self.whoami, "Shows who you are to the apps", "internal"),
            app("echo", "tcp", self.echo, "Sends back what it gets", "internal"),
            app("vault", "http", self.vault, "For the security team", "restricted"),
        ];
        all.extend(measuring.then(|| app("plain", "http", self.plain, "Answers with 128 bytes", "internal")));
        all
    }
}

async fn listen() -> Result<(TcpListener, SocketAddr), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.because("cannot listen for an app")?;
    let address = listener.local_addr().because("cannot listen for an app")?;
    Ok((listener, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn whoami_believes_nobody_who_came_past_the_relay() {
        let apps = Apps::start().await.unwrap();
        let forged = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.";
        let get =
            reqwest::Client::new().get(format!("http://{}/a?b=<i>", apps.whoami)).header("x-postern-identity", forged);
        let seen: Seen = get.try_clone().unwrap().send().await.unwrap().json().await.unwrap();
        assert!(seen.identity.is_none() && seen.identity_refused.is_some());
        assert_eq!((seen.method.as_str(), seen.body_bytes), ("GET", 0));
        let page = get.header("accept", "text/html").send().await.unwrap().text().await.unwrap();
        assert!(page.contains("Nobody vouched for this request") && !page.contains("<i>") && !page.contains(forged));
    }

    #[tokio::test]
    async fn vault_counts_and_echo_sends_back_until_the_end() {
        let apps = Apps::start().await.unwrap();
        reqwest::get(format!("http://{}/", apps.vault)).await.unwrap();
        assert_eq!(apps.vault_requests(), 1);
        let mut stream = tokio::net::TcpStream::connect(apps.echo).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"hello");
    }
}
