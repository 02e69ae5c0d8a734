//! HTTPS to relay and provider before there is a link: bounded in time and size, without redirects, under the
//! system's own trust. Plain http goes to loopback alone, and only where the caller allows it.

use http::{HeaderValue, Request, Response};
use reqwest::{Certificate, Client, redirect};
use std::error::Error as StdError;
use std::net::IpAddr;
use std::time::Duration;
use url::{Host, Url};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Room for the largest set of keys; a discovery document is far smaller.
pub(crate) const MAX_ANSWER: usize = 1024 * 1024;

/// A client for one purpose.
#[derive(Clone)]
pub(crate) struct Web {
    /// For the world, by way of the system's proxy where there is one.
    outer: Client,
    /// For this machine: no proxy could reach it.
    local: Client,
    plain_loopback: bool,
    limit: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebError {
    /// The address itself is not acceptable; nothing was sent.
    #[error("{0}")]
    Address(String),
    /// TLS refused the other side.
    #[error("{0}")]
    Untrusted(String),
    /// No answer, or not in time.
    #[error("{0}")]
    Unreachable(String),
    /// More bytes than anyone needs.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

impl Web {
    /// A client that trusts the system's authorities and those in `ca_pem`, takes at most `limit` bytes, and speaks
    /// plain http to loopback only if `plain_loopback`.
    pub(crate) fn new(ca_pem: Option<&str>, plain_loopback: bool, limit: usize) -> Result<Self, WebError> {
        let extra = match ca_pem {
            Some(pem) => {
                Certificate::from_pem_bundle(pem.as_bytes()).map_err(|error| WebError::Untrusted(deepest(&error)))?
            }
            None => Vec::new(),
        };
        // A system without any authorities can still reach a relay of its own authority, or plain loopback.
        let local = client(&extra, true).or_else(|_| without_system_trust(&extra))?;
        let outer =
            client(&extra, false).or_else(|error| if plain_loopback { Ok(local.clone()) } else { Err(error) })?;
        Ok(Self { outer, local, plain_loopback, limit })
    }

    /// Sends a request; the answer is whole and no larger than the limit, whatever its status.
    pub(crate) async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, WebError> {
        let url = Url::parse(&request.uri().to_string()).map_err(|error| WebError::Address(error.to_string()))?;
        check_address(&url, self.plain_loopback).map_err(WebError::Address)?;
        let client = if is_loopback(&url) { &self.local } else { &self.outer };
        let request = reqwest::Request::try_from(request).map_err(|error| WebError::Address(deepest(&error)))?;
        let mut answer = client.execute(request).await.map_err(|error| classify(&error))?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| classify(&error))? {
            if body.len() + chunk.len() > self.limit {
                return Err(WebError::TooLarge(self.limit));
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = Response::new(body);
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }

    /// A GET that asks for JSON.
    pub(crate) async fn get(&self, url: &Url) -> Result<Response<Vec<u8>>, WebError> {
        self.send(request("GET", url, None, Vec::new())?).await
    }

    /// A POST with a form.
    pub(crate) async fn post_form(&self, url: &Url, form: String) -> Result<Response<Vec<u8>>, WebError> {
        self.send(request("POST", url, Some("application/x-www-form-urlencoded"), form.into_bytes())?).await
    }

    /// A POST with a JSON body.
    pub(crate) async fn post_json(&self, url: &Url, body: Vec<u8>) -> Result<Response<Vec<u8>>, WebError> {
        self.send(request("POST", url, Some("application/json"), body)?).await
    }
}

fn request(method: &str, url: &Url, kind: Option<&'static str>, body: Vec<u8>) -> Result<Request<Vec<u8>>, WebError> {
    let mut builder = Request::builder().method(method).uri(url.as_str()).header("accept", "application/json");
    if let Some(kind) = kind {
        builder = builder.header("content-type", HeaderValue::from_static(kind));
    }
    builder.body(body).map_err(|error| WebError::Address(error.to_string()))
}

fn client(extra: &[Certificate], direct: bool) -> Result<Client, WebError> {
    build(Client::builder().tls_certs_merge(extra.iter().cloned()), direct)
}

fn without_system_trust(roots: &[Certificate]) -> Result<Client, WebError> {
    build(Client::builder().tls_certs_only(roots.iter().cloned()), true)
}

fn build(builder: reqwest::ClientBuilder, direct: bool) -> Result<Client, WebError> {
    let builder = if direct { builder.no_proxy() } else { builder };
    builder
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_LIMIT)
        .timeout(ANSWER_LIMIT)
        .referer(false)
        .user_agent(concat!("postern/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| WebError::Untrusted(deepest(&error)))
}

/// May this address be asked? https anywhere but where clouds keep their metadata; http on loopback if allowed.
pub(crate) fn check_address(url: &Url, plain_loopback: bool) -> Result<(), String> {
    let shown = || postern_protocol::problem::printable(url.as_str());
    match url.scheme() {
        "https" => {}
        "http" if plain_loopback && is_loopback(url) => {}
        "http" => return Err(format!("{} is not https", shown())),
        other => return Err(format!("{other}: is not an address of the web")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("an address may not carry a user name".into());
    }
    let forbidden = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_link_local() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
        Some(Host::Ipv6(ip)) => match ip.to_ipv4_mapped() {
            Some(ip) => ip.is_link_local() || ip.is_unspecified(),
            None => ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast() || is_cloud_metadata(ip),
        },
        Some(Host::Domain(_)) => false,
        None => true,
    };
    if forbidden { Err(format!("{} is not a public address", shown())) } else { Ok(()) }
}

/// `fd00:ec2::254`, where AWS answers over IPv6.
fn is_cloud_metadata(ip: std::net::Ipv6Addr) -> bool {
    ip.segments() == [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254]
}

/// Does this address name this machine?
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        None => false,
    }
}

fn classify(error: &reqwest::Error) -> WebError {
    let mut source: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(inner) = source {
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return match tls {
                rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_) => {
                    WebError::Untrusted(tls.to_string())
                }
                other => WebError::Unreachable(other.to_string()),
            };
        }
        // An io::Error keeps the TLS error within, but does not name it as its source.
        if let Some(tls) = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            source = Some(tls);
            continue;
        }
        source = inner.source();
    }
    if error.is_timeout() {
        WebError::Unreachable("no answer in time".into())
    } else {
        WebError::Unreachable(deepest(error))
    }
}

/// The last cause in the chain: the others only say that something failed. Never an address: it may hold a code.
fn deepest(error: &dyn StdError) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_or_allowed_loopback_is_asked() {
        let check = |text: &str, plain| check_address(&Url::parse(text).unwrap(), plain);
        for good in ["https://relay.example/", "https://10.0.0.1:8443/", "https://[::1]/", "https://127.0.0.1/"] {
            assert_eq!(check(good, false), Ok(()), "{good}");
        }
        for loopback in ["http://127.0.0.1:1/", "http://localhost/", "http://idp.localhost:1/", "http://[::1]/"] {
            assert!(check(loopback, false).is_err() && check(loopback, true).is_ok(), "{loopback}");
        }
        for bad in [
            "http://relay.example/",
            "http://localhost.evil.example/",
            "file:///etc/passwd",
            "ftp://relay.example/",
            "https://user@relay.example/",
            "https://169.254.169.254/latest/meta-data",
            "https://[fe80::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://[fd00:ec2::254]/",
            "https://0.0.0.0/",
        ] {
            assert!(check(bad, true).is_err(), "{bad}");
        }
    }
}
