//! Sign-ins against a mock provider that does wrong whatever a provider, or someone in its place, can do wrong.

use super::mock_provider::{Mock, MockProvider, error, now};
use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use url::Url;

mod code_flow;
mod id_tokens;
mod other_flows;
mod step_up;

const NONCE: &str = "nonce-of-the-device-key";

/// A sign-in that waits for its callback.
struct Waiting {
    url: Url,
    flow: JoinHandle<Result<SignedIn, Problem>>,
}

async fn begin(provider: Arc<Provider>) -> Waiting {
    let (shown, url) = oneshot::channel();
    let flow =
        tokio::spawn(
            async move { provider.sign_in(NONCE, Browser::Shown, |url| shown.send(url.clone()).unwrap()).await },
        );
    Waiting { url: url.await.unwrap(), flow }
}

async fn discover(mock: &MockProvider) -> Arc<Provider> {
    Arc::new(Provider::discover(&mock.sign_in()).await.unwrap())
}

/// Sends raw bytes to the redirect; the status, or none if nobody answers.
async fn send(port: u16, request: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

fn get(port: u16, query: &str, more: &str) -> String {
    format!("GET /callback?{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{more}\r\n")
}

fn port_of(query: &std::collections::HashMap<String, String>) -> u16 {
    Url::parse(&query["redirect_uri"]).unwrap().port().unwrap()
}

async fn finish(mock: &MockProvider, waiting: Waiting) -> Result<SignedIn, Problem> {
    let (code, query) = mock.person_signs_in(&waiting.url);
    let answer =
        send(port_of(&query), &get(port_of(&query), &format!("code={code}&state={}", query["state"]), "")).await;
    let result = waiting.flow.await.unwrap();
    assert_eq!(answer, Some(if result.is_ok() { 200 } else { 400 }), "the page tells how it went");
    result
}

/// Claims of a good ID token, changed by `patch`; null removes.
fn claims_with(mock: &Mock, patch: &Value) -> Value {
    let mut claims = json!({
        "iss": mock.issuer, "sub": "user-1", "aud": "postern", "iat": now(), "exp": now() + 300, "nonce": NONCE,
    });
    for (key, value) in patch.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(key);
        } else {
            claims[key] = value.clone();
        }
    }
    claims
}
