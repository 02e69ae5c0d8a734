//! What the provider tells of itself, where it listens and what it refuses at the door.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod site;

use postern_demo_provider::{Config, Provider, StartError};
use reqwest::StatusCode;
use reqwest::header::HOST;
use serde_json::Value;
use site::Site;

#[tokio::test]
async fn metadata_names_endpoints_that_exist_and_requires_s256() {
    let site = Site::start().await;
    let url = format!("{}/.well-known/openid-configuration", site.issuer);
    let metadata: Value = site.http.get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(metadata["issuer"], site.issuer.as_str());
    assert_eq!(metadata["code_challenge_methods_supported"], serde_json::json!(["S256"]));
    assert_eq!(metadata["authorization_response_iss_parameter_supported"], true);
    for (name, value) in metadata.as_object().unwrap() {
        if name.ends_with("_endpoint") || name == "jwks_uri" {
            let status = site.http.get(value.as_str().unwrap()).send().await.unwrap().status();
            assert_ne!(status, StatusCode::NOT_FOUND, "{name}");
        }
    }
}

#[tokio::test]
async fn other_names_huge_bodies_and_other_content_are_refused() {
    let site = Site::start().await;
    let token = format!("{}/token", site.issuer);
    let rebound = site.http.get(format!("{}/jwks", site.issuer)).header(HOST, "evil.example").send().await.unwrap();
    assert_eq!(rebound.status(), StatusCode::MISDIRECTED_REQUEST);
    let huge = site.http.post(&token).form(&[("grant_type", "x".repeat(20_000))]).send().await.unwrap();
    assert_eq!(huge.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let json = site.http.post(&token).json(&serde_json::json!({})).send().await.unwrap();
    assert_eq!(json.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let page = site.http.get(&site.issuer).send().await.unwrap();
    assert!(page.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
}

#[tokio::test]
async fn it_binds_loopback_only() {
    for address in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"] {
        let refused = Provider::bind(Config::demo(address.parse().unwrap(), vec![])).await;
        assert!(matches!(refused.err(), Some(StartError::NotLoopback(_))), "{address}");
    }
}

#[test]
fn the_program_refuses_other_addresses_too() {
    let program = env!("CARGO_BIN_EXE_postern-demo-provider");
    let run = std::process::Command::new(program).args(["--listen", "0.0.0.0:0"]).output().unwrap();
    assert_eq!(run.status.code(), Some(1));
    assert!(run.stdout.is_empty() && String::from_utf8_lossy(&run.stderr).contains("not a loopback address"));
}

#[test]
fn the_program_says_when_it_is_ready_and_stops_when_asked() {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_postern-demo-provider")).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(ready["event"], "ready");
    assert!(ready["issuer"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(child.wait().unwrap().success());
}
