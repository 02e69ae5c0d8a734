//! The admin socket: how `postern-relay revoke` reaches the running relay. Only the relay's own user and root may.

use crate::body::{self, Body};
use crate::policy_diff::{self, LiveDiff};
use crate::refusal;
use crate::revoke::{self, Named, Receipt};
use crate::state::Relay;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use postern_protocol::{Code, MAX_CONTROL_BYTES, Problem};
use postern_relay_core::audit::Event;
use postern_relay_core::limits::MAX_POLICY_BYTES;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};

/// How long one exchange may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Name of the socket in the state directory.
pub const SOCKET: &str = "admin.sock";

/// Longest answer that is read.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

const REVOKE: &str = "/revoke";
const RESTORE: &str = "/restore";
const ROTATE: &str = "/rotate";
const POLICY_DIFF: &str = "/policy/diff";

/// Answer of a restoration.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Restored {
    /// Was there a revocation to take back?
    pub was_revoked: bool,
    /// Was it told to a running relay?
    pub live: bool,
}

/// Answer of a rotation of the audit log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rotated {
    /// Where the log before is kept.
    pub kept: PathBuf,
}

/// The listening socket, removed when it is dropped.
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
}

impl AdminSocket {
    /// Listens in `state_dir`, whose lock the caller holds: a socket found there is a dead relay's.
    pub fn bind(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        // Until this line the directory, which is 0700, keeps others out.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let owner = std::fs::metadata(&path)?.uid();
        Ok(Self { listener, path, owner })
    }

    /// Serves for as long as the future is polled.
    pub async fn serve(&self, relay: Arc<Relay>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) if self.is_admin(&stream) => {
                    let relay = relay.clone();
                    tokio::spawn(async move { tokio::time::timeout(PATIENCE, connection(stream, relay)).await });
                }
                Ok(_) => tracing::warn!("another user tried the admin socket"),
                Err(error) => {
                    tracing::warn!(%error, "the admin socket cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn is_admin(&self, stream: &UnixStream) -> bool {
        stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == self.owner)
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let _already_gone = std::fs::remove_file(&self.path);
    }
}

async fn connection(stream: UnixStream, relay: Arc<Relay>) {
    let service = hyper::service::service_fn(move |request| {
        let relay = relay.clone();
        async move { Ok::<_, std::convert::Infallible>(answer(&relay, request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    let http = http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "admin socket");
    }
}

async fn answer(relay: &Arc<Relay>, request: Request<Incoming>) -> Response<Body> {
    let result = match (request.method(), request.uri().path()) {
        (&Method::POST, REVOKE) => ordered(relay, request, false).await,
        (&Method::POST, RESTORE) => ordered(relay, request, true).await,
        (&Method::POST, ROTATE) => rotated(relay).await,
        (&Method::POST, POLICY_DIFF) => compared(relay, request).await,
        _ => Err(Problem::new(Code::NotFound)),
    };
    result.unwrap_or_else(|problem| refusal::response(&problem))
}

async fn ordered(relay: &Arc<Relay>, request: Request<Incoming>, restore: bool) -> Result<Response<Body>, Problem> {
    let bytes = body::collect(request.into_body(), MAX_CONTROL_BYTES).await?;
    let named: Named = serde_json::from_slice(&bytes)
        .map_err(|_| Problem::new(Code::RequestInvalid).detail("the body does not name a user, device or session"))?;
    let target = named.try_into()?;
    Ok(if restore {
        let was_revoked = revoke::restore(relay, target).await?;
        body::json(StatusCode::OK, &Restored { was_revoked, live: true })
    } else {
        body::json(StatusCode::OK, &revoke::revoke(relay, target, Event::Revocation, "the administrator").await?)
    })
}

async fn rotated(relay: &Relay) -> Result<Response<Body>, Problem> {
    let kept = relay.audit.rotate().await.map_err(|why| Problem::new(Code::AuditUnavailable).detail(why))?;
    Ok(body::json(StatusCode::OK, &Rotated { kept }))
}

/// Reads a policy as a JSON text and says what it would change.
async fn compared(relay: &Arc<Relay>, request: Request<Incoming>) -> Result<Response<Body>, Problem> {
    // Line ends and quotes take two bytes in JSON.
    let bytes = body::collect(request.into_body(), 2 * MAX_POLICY_BYTES).await?;
    let text: String = serde_json::from_slice(&bytes)
        .map_err(|_| Problem::new(Code::RequestInvalid).detail("the body is no policy as a JSON text"))?;
    let relay = relay.clone();
    // It takes long enough to be in the way of requests.
    let compared = tokio::task::spawn_blocking(move || policy_diff::diff(&relay, &text)).await;
    let diff = compared.map_err(|error| Problem::new(Code::Internal).detail(error.to_string()))??;
    Ok(body::json(StatusCode::OK, &diff))
}

/// Asks the relay that runs with this state directory what this policy would change for live streams. `None`: none runs.
pub async fn policy_diff(state_dir: &Path, text: &str) -> Option<Result<LiveDiff, Problem>> {
    order(state_dir, POLICY_DIFF, &text).await
}

/// Asks the relay that runs with this state directory to begin a new audit log. `None`: none runs.
pub async fn rotate(state_dir: &Path) -> Option<Result<Rotated, Problem>> {
    order(state_dir, ROTATE, &()).await
}

/// Asks the relay that runs with this state directory to revoke. `None`: none runs.
pub async fn revoke(state_dir: &Path, target: &Named) -> Option<Result<Receipt, Problem>> {
    order(state_dir, REVOKE, target).await
}

/// Asks it to take a revocation back. `None`: none runs.
pub async fn restore(state_dir: &Path, target: &Named) -> Option<Result<Restored, Problem>> {
    order(state_dir, RESTORE, target).await
}

async fn order<T: serde::de::DeserializeOwned>(
    state_dir: &Path,
    path: &str,
    target: &impl Serialize,
) -> Option<Result<T, Problem>> {
    order_within(PATIENCE, state_dir, path, target).await
}

async fn order_within<T: serde::de::DeserializeOwned>(
    patience: Duration,
    state_dir: &Path,
    path: &str,
    target: &impl Serialize,
) -> Option<Result<T, Problem>> {
    let stream = UnixStream::connect(state_dir.join(SOCKET)).await.ok()?;
    let exchange = tokio::time::timeout(patience, exchange(stream, path, target)).await;
    Some(exchange.unwrap_or_else(|_| {
        let fix = "It may have taken effect all the same: `postern-relay sessions` and the audit log show. \
                   Give the order again; twice does no harm.";
        let unclear = [REVOKE, RESTORE].contains(&path).then(|| fix.to_owned());
        Err(broken("no answer in time").advice(None, unclear))
    }))
}

async fn exchange<T: serde::de::DeserializeOwned>(
    stream: UnixStream,
    path: &str,
    target: &impl Serialize,
) -> Result<T, Problem> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error.to_string()))?;
    let driver = tokio::spawn(connection);
    let body = serde_json::to_vec(target).map_err(|error| broken(&error.to_string()))?;
    let request = Request::post(path).header("host", "admin").body(Full::new(Bytes::from(body)));
    let request = request.map_err(|error| broken(&error.to_string()))?;
    let response = sender.send_request(request).await.map_err(|error| broken(&error.to_string()))?;
    let status = response.status();
    let bytes = body::collect(response.into_body().map_err(Into::<body::BoxError>::into), MAX_ANSWER).await?;
    driver.abort();
    if status == StatusCode::OK {
        serde_json::from_slice(&bytes).map_err(|error| broken(&error.to_string()))
    } else {
        Err(serde_json::from_slice(&bytes).unwrap_or_else(|_| broken(&format!("status {status}"))))
    }
}

fn broken(why: &str) -> Problem {
    Problem::new(Code::Internal).detail(format!("the running relay's admin socket: {why}"))
}

#[cfg(test)]
mod tests;
