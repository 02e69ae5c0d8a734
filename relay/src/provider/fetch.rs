//! Fetches the provider's metadata and key set: only from where the configuration leads, never by redirect, never
//! from an address that belongs to the machine or its cloud, never more than a bounded number of bytes.

use crate::config::is_loopback;
use postern_relay_core::limits::MAX_JWKS_BYTES;
use postern_relay_core::provider::Jwks;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

/// Most bytes of the metadata document.
const MAX_METADATA: usize = 64 * 1024;
/// How long one fetch may take in all.
const TIME_OUT: Duration = Duration::from_secs(5);

/// Why the keys could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// No answer, or none that could be read.
    #[error("{0}: {1}")]
    Unreachable(Url, String),
    /// An answer that is not acceptable.
    #[error("{0}: {1}")]
    Invalid(Url, String),
    /// The client could not be made.
    #[error("the HTTPS client cannot be set up: {0}")]
    Client(reqwest::Error),
}

/// Fetches for one issuer.
pub(super) struct Fetcher {
    client: reqwest::Client,
    /// The address that the administrator named: the issuer's, or the key set's own.
    named: Url,
    /// The issuer, exactly as its metadata must have it. Absent: the named address is the key set's.
    issuer: Option<String>,
}

#[derive(serde::Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Fetcher {
    /// For the key set that the metadata of the issuer at `address` names.
    pub(super) fn of_issuer(address: Url, issuer: String) -> Result<Self, FetchError> {
        Self::new(address, Some(issuer))
    }

    /// For the key set at `address`.
    pub(super) fn of_key_set(address: Url) -> Result<Self, FetchError> {
        Self::new(address, None)
    }

    fn new(named: Url, issuer: Option<String>) -> Result<Self, FetchError> {
        let resolver = Guarded { named_host: named.host_str().unwrap_or_default().to_owned() };
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            // A proxy would dial what the resolver has not checked.
            .no_proxy()
            .dns_resolver(Arc::new(resolver))
            .timeout(TIME_OUT)
            .user_agent(concat!("postern-relay/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(FetchError::Client)?;
        Ok(Self { client, named, issuer })
    }

    /// The key set.
    pub(super) async fn jwks(&self) -> Result<Jwks, FetchError> {
        let url = match &self.issuer {
            Some(issuer) => self.key_set_of(issuer).await?,
            None => self.named.clone(),
        };
        let bytes = self.get(&url, MAX_JWKS_BYTES).await?;
        Jwks::parse(&bytes).map_err(|why| FetchError::Invalid(url, why))
    }

    /// Where the issuer's metadata says that its key set is.
    async fn key_set_of(&self, issuer: &str) -> Result<Url, FetchError> {
        let metadata_url = self.metadata_url();
        let bytes = self.get(&metadata_url, MAX_METADATA).await?;
        let invalid = |why: String| FetchError::Invalid(metadata_url.clone(), why);
        let metadata: Metadata =
            serde_json::from_slice(&bytes).map_err(|error| invalid(format!("not provider metadata: {error}")))?;
        if metadata.issuer != issuer {
            let why = format!("the provider calls itself {:?}, relay.toml says {issuer:?}", metadata.issuer);
            return Err(invalid(why));
        }
        let url = Url::parse(&metadata.jwks_uri).map_err(|error| invalid(format!("jwks_uri: {error}")))?;
        self.check_scheme(&url).map_err(|why| invalid(format!("jwks_uri: {why}")))?;
        Ok(url)
    }

    /// OpenID Connect Discovery §4: below the issuer, whose trailing slash goes.
    fn metadata_url(&self) -> Url {
        let mut url = self.named.clone();
        let path = format!("{}/.well-known/openid-configuration", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url
    }

    /// https; or http where both the issuer and this are on loopback.
    fn check_scheme(&self, url: &Url) -> Result<(), &'static str> {
        let trial = self.named.scheme() == "http" && is_loopback(url);
        match url.scheme() {
            "https" => Ok(()),
            "http" if trial => Ok(()),
            _ => Err("must be https"),
        }
    }

    async fn get(&self, url: &Url, most: usize) -> Result<Vec<u8>, FetchError> {
        let unreachable = |error: reqwest::Error| FetchError::Unreachable(url.clone(), chain(&error.without_url()));
        let invalid = |why: String| FetchError::Invalid(url.clone(), why);
        // An address in the URL itself never meets the resolver.
        let literal = match url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            _ => None,
        };
        if literal.is_some_and(|ip| !permitted(ip, url.host_str() == self.named.host_str() || is_loopback(&self.named)))
        {
            return Err(invalid("this address is not one a provider may have".to_owned()));
        }
        let mut answer = self.client.get(url.clone()).send().await.map_err(unreachable)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(invalid(format!("answered {}, not 200", answer.status())));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if bytes.len().saturating_add(chunk.len()) > most {
                return Err(invalid(format!("the answer is longer than {most} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// An error and its causes in one line: reqwest's own text stops at "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Resolves names and passes on only addresses that a provider may have; those are the ones dialled.
struct Guarded {
    named_host: String,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        // The administrator named this host: it may be this machine. No other name may turn out to be.
        let own = name.as_str().eq_ignore_ascii_case(&self.named_host);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses: Vec<SocketAddr> = found.filter(|address| permitted(address.ip(), own)).collect();
            if addresses.is_empty() {
                return Err("the name leads to no address that a provider may have".into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// May a provider have this address? Never link-local, where clouds keep their metadata services, nor an address
/// that is no host's; loopback only where the administrator named it.
fn permitted(address: IpAddr, loopback: bool) -> bool {
    match address {
        IpAddr::V4(ip) => permitted_v4(ip, loopback),
        IpAddr::V6(ip) => match embedded_v4(ip) {
            Some(ip) => permitted_v4(ip, loopback),
            None => {
                let refused = ip.is_unspecified()
                    || ip.is_multicast()
                    || ip.is_unicast_link_local()
                    || ip == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
                    || (ip.is_loopback() && !loopback);
                !refused
            }
        },
    }
}

fn permitted_v4(ip: Ipv4Addr, loopback: bool) -> bool {
    // 100.100.100.200 and 192.0.0.192 are metadata services outside of 169.254.0.0/16.
    let metadata = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)].contains(&ip);
    let no_host = ip.is_unspecified() || ip.octets()[0] == 0 || ip.is_broadcast() || ip.is_multicast();
    !(metadata || no_host || ip.is_link_local() || (ip.is_loopback() && !loopback))
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64, 6to4.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    if ip.is_loopback() || ip.is_unspecified() {
        return None;
    }
    let low = |a: u16, b: u16| Ipv4Addr::from((u32::from(a) << 16) | u32::from(b));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, a, b] | [0x64, 0xff9b, 0, 0, 0, 0, a, b] | [0x2002, a, b, ..] => Some(low(a, b)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A11: however it is written, a link-local or metadata address is refused.
    #[test]
    fn addresses_of_machine_and_cloud_are_refused() {
        for refused in [
            "169.254.169.254",
            "169.254.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "224.0.0.1",
            "100.100.100.200",
            "fe80::1",
            "::",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(!permitted(refused.parse().unwrap(), true), "{refused}");
        }
        for loopback in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(!permitted(loopback.parse().unwrap(), false), "{loopback}");
            assert!(permitted(loopback.parse().unwrap(), true), "{loopback}");
        }
        for fine in ["10.1.2.3", "192.168.1.1", "93.184.216.34", "2606:2800:220:1::1", "fd12::1"] {
            assert!(permitted(fine.parse().unwrap(), false), "{fine}");
        }
    }
}
