//! Addresses as people type them, and documents as hostile relays write them.

use super::*;
use crate::testing::{serve_http, serve_https};
use serde_json::{Value, json};

#[test]
fn addresses_are_read_as_people_type_them() {
    for (typed, url) in [
        ("relay.example", "https://relay.example/"),
        (" relay.example ", "https://relay.example/"),
        ("relay.example:8443", "https://relay.example:8443/"),
        ("https://relay.example", "https://relay.example/"),
        ("https://relay.example:8443/", "https://relay.example:8443/"),
        ("127.0.0.1:8443", "https://127.0.0.1:8443/"),
        ("[::1]:8443", "https://[::1]:8443/"),
        ("localhost:1", "https://localhost:1/"),
    ] {
        assert_eq!(parse_address(typed).unwrap().as_str(), url, "{typed}");
    }
    for bad in [
        "",
        "-relay",
        "http://relay.example",
        "file:///etc/passwd",
        "https://user:pass@relay.example",
        "user@relay.example",
        "https://relay.example/path",
        "relay.example?x",
        "relay.example#x",
        "relay example",
        "https://169.254.169.254",
        "relay.example:99999",
        "https://",
    ] {
        let problem = parse_address(bad).unwrap_err();
        assert_eq!(problem.code, Code::RequestInvalid, "{bad}");
        assert!(!problem.to_string().contains("pass@"), "A55: a password is not repeated");
    }
}

fn document(ca_pem: &str) -> Value {
    json!({
        "version": 1,
        "issuer": "https://relay.example:8443",
        "organisation": "Example Corp",
        "trust_domain": "corp.example",
        "relay": { "quic": "relay.example:4433", "server_name": "relay.example", "ca_pem": ca_pem },
        "sign_in": { "issuer": "https://login.example", "client_id": "postern", "scopes": ["openid", "email"] },
    })
}

fn ca() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::default().self_signed(&key).unwrap().pem()
}

/// A17: whatever a hostile relay writes into its document is refused before anything is dialled, opened or shown.
#[test]
fn a17_hostile_documents_are_refused() {
    let address = Url::parse("https://relay.example/").unwrap();
    let good = document(&ca());
    let read = |value: &Value| parse(&address, value.to_string().as_bytes());
    assert_eq!(read(&good).unwrap().sign_in.token_max_age, 900);
    let hostile = [
        ("/issuer", json!("file:///etc/passwd")),
        ("/issuer", json!("http://relay.example")),
        ("/organisation", json!("\u{1b}]0;owned\u{7}")),
        ("/organisation", json!("a\nb")),
        ("/organisation", json!("x".repeat(5000))),
        ("/trust_domain", json!("../../etc")),
        ("/relay/quic", json!("relay.example")),
        ("/relay/quic", json!("relay.example:4433/../x")),
        ("/relay/quic", json!("--help:1")),
        ("/relay/quic", json!("169.254.169.254:80")),
        ("/relay/server_name", json!("not a name")),
        ("/relay/ca_pem", json!("")),
        ("/relay/ca_pem", json!("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----")),
        ("/sign_in/issuer", json!("javascript:alert(1)")),
        ("/sign_in/issuer", json!("http://127.0.0.1:9000")),
        ("/sign_in/issuer", json!("https://169.254.169.254/")),
        ("/sign_in/client_id", json!("a\r\nx: y")),
        ("/sign_in/scopes", json!(["email"])),
        ("/sign_in/scopes", json!(["openid", "a b"])),
        ("/sign_in/scopes", json!(vec!["openid"; 1000])),
        ("/sign_in/redirect_port", json!(0)),
        ("/sign_in/redirect_port", json!(70000)),
        ("/sign_in/token_max_age", json!(0)),
        ("/sign_in/token_max_age", json!(u64::MAX)),
    ];
    for (place, value) in hostile {
        let mut document = good.clone();
        let (parent, key) = place.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[key] = value.clone();
        let problem = read(&document).expect_err(place);
        assert_eq!(problem.code, Code::DiscoveryInvalid, "{place} = {value}");
        assert!(!problem.detail.unwrap().contains('\u{1b}'));
    }
    // A relay on this machine may name a provider on this machine.
    let mut local = good;
    local["sign_in"]["issuer"] = json!("http://127.0.0.1:9000");
    assert!(parse(&Url::parse("https://127.0.0.1:8443/").unwrap(), local.to_string().as_bytes()).is_ok());
}

#[test]
fn another_version_says_so_whatever_else_changed() {
    let address = Url::parse("https://relay.example/").unwrap();
    let problem = parse(&address, br#"{"version": 2, "all": "new"}"#).unwrap_err();
    assert_eq!(problem.code, Code::VersionUnsupported);
    for garbage in ["", "[]", "<html>", "{\"version\":\"1\"}", "{\"version\":-1}"] {
        assert_eq!(parse(&address, garbage.as_bytes()).unwrap_err().code, Code::DiscoveryInvalid, "{garbage}");
    }
}

#[tokio::test]
async fn an_honest_relay_is_read_over_its_own_authority() {
    let server = serve_https(|_| (200, document(&ca()).to_string())).await;
    let found = fetch(&server.url, Some(&server.ca_pem)).await.unwrap();
    assert_eq!(found.organisation, "Example Corp");
    assert_eq!(fetch(&server.url, None).await.unwrap_err().code, Code::RelayUntrusted);
    assert_eq!(fetch(&server.url, Some(&ca())).await.unwrap_err().code, Code::RelayUntrusted);
}

/// A17: redirects are not followed, bodies are cut off, nonsense is told as such.
#[tokio::test]
async fn a17_hostile_answers_are_cut_short() {
    let server = serve_https(|_| (200, "x".repeat(100_000))).await;
    assert_eq!(fetch(&server.url, Some(&server.ca_pem)).await.unwrap_err().code, Code::DiscoveryInvalid);
    let server =
        serve_https(|path| if path == PATH { (302, String::new()) } else { (200, document(&ca()).to_string()) }).await;
    assert_eq!(fetch(&server.url, Some(&server.ca_pem)).await.unwrap_err().code, Code::DiscoveryInvalid);
}

#[tokio::test]
async fn nobody_there_and_no_tls_there_are_told_apart_from_distrust() {
    let plain = serve_http(|_| (200, String::new())).await;
    let mut url = plain.url.clone();
    url.set_scheme("https").unwrap_or_default();
    let url = Url::parse(&plain.url.as_str().replace("http:", "https:")).unwrap_or(url);
    assert_eq!(fetch(&url, Some(&ca())).await.unwrap_err().code, Code::RelayUnreachable);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = Url::parse(&format!("https://{}/", closed.local_addr().unwrap())).unwrap();
    drop(closed);
    assert_eq!(fetch(&gone, Some(&ca())).await.unwrap_err().code, Code::RelayUnreachable);
}
