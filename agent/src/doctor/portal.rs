//! Does a page of the network, at which people sign in to it, stand between device and relay?
//!
//! Nobody but the relay's own host is asked, unless the configuration names somebody: no third party learns where
//! this device is.

use super::network::Public;
use super::{Relay, Verdict};
use crate::posture::tools::{self, Tool};
use http::header::{HOST, LOCATION};
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use postern_protocol::{Code, Problem};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use url::Url;

/// A network that keeps silent at port 80 has no page there.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// What NetworkManager found out by itself, where the system has it (`NMConnectivityState`).
const TOOLS: &[Tool] = &[Tool {
    name: "connectivity",
    places: &["/usr/bin/busctl", "/bin/busctl"],
    arguments: &[
        "--system",
        "--auto-start=no",
        "--timeout=3",
        "get-property",
        "org.freedesktop.NetworkManager",
        "/org/freedesktop/NetworkManager",
        "org.freedesktop.NetworkManager",
        "Connectivity",
    ],
}];
const PORTAL: &str = "u 2";

/// What speaks for a page of the network, apart from the relay's own answer; `None`: nothing.
pub(super) async fn signs(probe: Option<Url>, relay: Option<Relay>) -> Option<String> {
    let (system, probed) = tokio::join!(tools::ask(TOOLS), probed(probe, relay));
    if system.by("connectivity").is_some_and(|said| said.trim() == PORTAL) {
        return Some("The system's network service says so.".to_owned());
    }
    probed
}

async fn probed(probe: Option<Url>, relay: Option<Relay>) -> Option<String> {
    let own = |relay: Relay| {
        // Where the relay's host answers in the clear it sends to itself; a network's page sends to its own place.
        let mut url = relay.address;
        (url.set_scheme("http").is_ok() && url.set_port(None).is_ok()).then_some((url, false))
    };
    let (url, must_be_empty) = probe.map(|url| (url, true)).or_else(|| relay.and_then(own))?;
    let answer = tokio::time::timeout(PROBE_LIMIT, ask(&url)).await.ok()??;
    let elsewhere = answer.status().is_redirection() && !leads_home(&url, &answer);
    let wants_sign_in = answer.status() == StatusCode::NETWORK_AUTHENTICATION_REQUIRED;
    let other_page = must_be_empty && answer.status() != StatusCode::NO_CONTENT;
    (elsewhere || wants_sign_in || other_page)
        .then(|| format!("Another than {} answers in its place.", url.host_str().unwrap_or_default()))
}

fn leads_home(asked: &Url, answer: &Response<Incoming>) -> bool {
    let target = answer.headers().get(LOCATION).and_then(|target| asked.join(target.to_str().ok()?).ok());
    target.is_none_or(|target| target.host() == asked.host())
}

/// One request in the clear: nothing of the device or the person is in it.
async fn ask(url: &Url) -> Option<Response<Incoming>> {
    let host = url.host_str()?;
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((name, url.port_or_known_default()?)).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let request = Request::builder().uri(url.path()).header(HOST, authority).body(Empty::<Bytes>::new()).ok()?;
    sender.send_request(request).await.ok()
}

/// The finding, once the relay's public address was tried. `known`: this device was connected to that relay before.
pub(super) async fn verdict(public: &Public, known: bool, signs: JoinHandle<Option<String>>) -> Verdict {
    let portal = || Problem::new(Code::CaptivePortal);
    if matches!(public, Public::Answered { .. }) {
        signs.abort();
        return Verdict::ok("No: the relay itself answers.");
    }
    if let Some(sign) = signs.await.ok().flatten() {
        return Verdict::failed(format!("This network wants you to sign in to it first. {sign}"), portal());
    }
    match public {
        Public::Failed { problem, .. } if problem.code == Code::RelayUntrusted && known => Verdict::warning(
            "Perhaps: another than the relay answers at its address, as a network's sign-in page would.",
            portal(),
        ),
        Public::Unknown => Verdict::ok("No sign of one."),
        _ => Verdict::ok("No sign of one, though the relay does not answer."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::serve_http;

    async fn probed_with(status: u16) -> Option<String> {
        let server = serve_http(move |_| (status, String::new())).await;
        probed(Some(server.url.clone()), None).await
    }

    #[tokio::test]
    async fn what_answers_in_place_of_a_probe_is_seen() {
        assert_eq!(probed_with(204).await, None);
        assert!(
            probed_with(200).await.is_some() && probed_with(511).await.is_some() && probed_with(302).await.is_some()
        );
        assert_eq!(probed(None, None).await, None);
        let nobody = Url::parse("http://127.0.0.1:1/").unwrap();
        assert_eq!(probed(Some(nobody), None).await, None, "silence is no page");
    }

    #[tokio::test]
    async fn only_a_way_elsewhere_is_a_page_of_the_network() {
        let server = serve_http(|_| (302, String::new())).await;
        let answer = ask(&server.url).await.unwrap();
        assert!(leads_home(&server.url, &answer), "/elsewhere of the same host");
        let asked = Url::parse("http://relay.example/").unwrap();
        for (location, home) in [
            ("https://relay.example/x", true),
            ("/x", true),
            ("http://login.hotel.example/", false),
            ("http://10.0.0.1/", false),
        ] {
            let target = asked.join(location).unwrap();
            assert_eq!(target.host() == asked.host(), home, "{location}");
        }
    }
}
