//! Who may sign in, with what, and for how long.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use url::{Host, Url};

/// All that a provider needs to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen: a loopback address; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The people.
    pub users: Vec<User>,
    /// The programs.
    pub clients: Vec<Client>,
    /// What an access token may be meant for (`resource`, RFC 8707). The first is the default.
    pub resources: Vec<String>,
    /// How long things last.
    pub lifetimes: Lifetimes,
}

impl Config {
    /// Two people, the native client `postern` and the service account `ci-runner`.
    pub fn demo(listen: SocketAddr, resources: Vec<String>) -> Self {
        Self {
            listen,
            users: vec![
                User::new("ada", "lovelace", "Ada Lovelace", &["engineering"]),
                User::new("grace", "hopper", "Grace Hopper", &["finance"]),
            ],
            clients: vec![Client::native("postern"), Client::service_account("ci-runner", "ci-runner-demo-secret")],
            resources,
            lifetimes: Lifetimes::default(),
        }
    }

    /// [`Config::demo`] on a loopback port of the system's choice.
    pub fn demo_on_any_port() -> Self {
        Self::demo((Ipv4Addr::LOCALHOST, 0).into(), vec!["urn:postern:demo".into()])
    }
}

/// A person.
#[derive(Clone, Debug)]
pub struct User {
    /// What is typed to sign in; also the `sub` of the tokens.
    pub username: String,
    /// Shown on the sign-in page: this is a demonstration.
    pub password: String,
    /// For people.
    pub name: String,
    /// For people.
    pub email: String,
    /// The `groups` claim.
    pub groups: Vec<String>,
}

impl User {
    /// A person with an address at `example.com`.
    pub fn new(username: &str, password: &str, name: &str, groups: &[&str]) -> Self {
        Self {
            username: username.into(),
            password: password.into(),
            name: name.into(),
            email: format!("{username}@example.com"),
            groups: groups.iter().map(|&group| group.into()).collect(),
        }
    }
}

/// A program that may ask for tokens.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its `client_id`.
    pub id: String,
    /// What it is.
    pub kind: ClientKind,
}

/// What a client is, and with it what it may do.
#[derive(Clone, Debug)]
pub enum ClientKind {
    /// A program on somebody's machine: keeps no secret, takes its answer on a loopback redirect with any
    /// port (RFC 8252 §7.3), may use the code, refresh and device grants.
    Native {
        /// Registered redirects; of a loopback one the port is not compared.
        redirect_uris: Vec<Url>,
        /// Where the browser may go after a logout, compared the same way.
        post_logout_redirect_uris: Vec<Url>,
    },
    /// A service account: proves itself by its secret, may use client credentials.
    Confidential {
        /// The secret.
        secret: String,
    },
}

impl Client {
    /// A native client that takes its answer at `/callback` and `/` on loopback.
    pub fn native(id: &str) -> Self {
        let loopback = |path: &str| Url::parse(&format!("http://127.0.0.1{path}")).ok();
        Self {
            id: id.into(),
            kind: ClientKind::Native {
                redirect_uris: ["/callback", "/"].into_iter().filter_map(loopback).collect(),
                post_logout_redirect_uris: loopback("/signed-out").into_iter().collect(),
            },
        }
    }

    /// A service account.
    pub fn service_account(id: &str, secret: &str) -> Self {
        Self { id: id.into(), kind: ClientKind::Confidential { secret: secret.into() } }
    }

    pub(crate) fn may_redirect_to(&self, target: &Url) -> bool {
        match &self.kind {
            ClientKind::Native { redirect_uris, .. } => redirect_uris.iter().any(|known| same_redirect(known, target)),
            ClientKind::Confidential { .. } => false,
        }
    }

    pub(crate) fn may_return_to(&self, target: &Url) -> bool {
        match &self.kind {
            ClientKind::Native { post_logout_redirect_uris: known, .. } => {
                known.iter().any(|known| same_redirect(known, target))
            }
            ClientKind::Confidential { .. } => false,
        }
    }
}

/// Exact comparison, but for the port of a loopback address: the program takes whichever is free.
fn same_redirect(known: &Url, target: &Url) -> bool {
    if !is_loopback_literal(known) {
        return known == target;
    }
    let mut portless = target.clone();
    is_loopback_literal(target) && portless.set_port(known.port()).is_ok() && portless == *known
}

/// An address, not the name `localhost`, which may resolve elsewhere (RFC 8252 §8.3).
fn is_loopback_literal(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        _ => false,
    };
    loopback && url.scheme() == "http"
}

/// How long things last.
#[derive(Clone, Debug)]
pub struct Lifetimes {
    /// An authorization code.
    pub code: Duration,
    /// ID and access tokens.
    pub token: Duration,
    /// A refresh token's family, from sign-in.
    pub refresh: Duration,
    /// A sign-in page or a device code.
    pub pending: Duration,
    /// The browser's session at the provider.
    pub browser: Duration,
    /// Least pause between two polls of the device grant.
    pub poll: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        let minutes = |m: u64| Duration::from_secs(60 * m);
        Self {
            code: minutes(1),
            token: minutes(10),
            refresh: minutes(8 * 60),
            pending: minutes(10),
            browser: minutes(8 * 60),
            poll: Duration::from_secs(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_port_of_a_loopback_redirect_is_free() {
        let client = Client::native("postern");
        for good in ["http://127.0.0.1:1/callback", "http://127.0.0.1/callback", "http://127.0.0.1:65535/"] {
            assert!(client.may_redirect_to(&Url::parse(good).unwrap()), "{good}");
        }
        for bad in [
            "https://127.0.0.1:1/callback",
            "http://127.0.0.2:1/callback",
            "http://localhost:1/callback",
            "http://127.0.0.1:1/callback/",
            "http://127.0.0.1:1/callback?a=b",
            "http://127.0.0.1:1/callback#a",
            "http://user@127.0.0.1:1/callback",
            "http://127.0.0.1.evil.example/callback",
            "http://evil.example/callback",
        ] {
            assert!(!client.may_redirect_to(&Url::parse(bad).unwrap()), "{bad}");
        }
    }
}
