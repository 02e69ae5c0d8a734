//! What the endpoints share, and the loop that serves them with limits on size, number and time.

use crate::authorize::{self, Ticket};
use crate::config::{Config, User};
use crate::grants::{Grants, SignIn};
use crate::keys::{SigningKey, sha256};
use crate::store::{Expiring, Guesses};
use crate::{device, discovery, logout, page, token};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Cookie that ties a sign-in page to the browser it was shown to.
pub(crate) const BROWSER: &str = "postern_demo_browser";
/// Cookie of the browser's session.
pub(crate) const SESSION: &str = "postern_demo_session";

const MOST_CONNECTIONS: usize = 256;
const MOST_BODY: usize = 16 * 1024;
const MOST_HEADERS: usize = 32 * 1024;
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// A connection's whole life: a browser just opens another.
const CONNECTION_LIFE: Duration = Duration::from_secs(120);

/// Why a provider did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It shows passwords to whoever asks, so nobody else may reach it.
    #[error("{0} is not a loopback address; the demo provider listens on 127.0.0.0/8 or ::1 only")]
    NotLoopback(SocketAddr),
    /// The address is taken or not ours.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The crypto library made no key.
    #[error("cannot make a signing key")]
    Key,
}

/// A provider that listens.
pub struct Provider {
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl Provider {
    /// Binds to `config.listen`, which must be loopback.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        if !config.listen.ip().is_loopback() {
            return Err(StartError::NotLoopback(config.listen));
        }
        let failed = |error| StartError::Listen(config.listen, error);
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Shared {
            issuer: format!("http://{address}"),
            key: SigningKey::generate().ok_or(StartError::Key)?,
            config,
            grants: Mutex::new(Grants::new()),
            tickets: Mutex::new(Expiring::new(10_000)),
            sessions: Mutex::new(Expiring::new(10_000)),
            guesses: Mutex::new(Guesses::new()),
        };
        Ok(Self { listener, shared: Arc::new(shared) })
    }

    /// The `iss` of its tokens and the address of its metadata.
    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    /// Serves until `stop`; connections still open are closed.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let routes = routes(self.shared);
        let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => return,
                accepted = self.listener.accept() => accepted,
            };
            while connections.try_join_next().is_some() {}
            match (accepted, Arc::clone(&room).try_acquire_owned()) {
                (Ok((stream, _)), Ok(place)) => {
                    let routes = routes.clone();
                    connections.spawn(async move {
                        serve_connection(stream, routes).await;
                        drop(place);
                    });
                }
                (Ok(_), Err(_)) => tracing::warn!("connection refused: {MOST_CONNECTIONS} are open"),
                (Err(error), _) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

async fn serve_connection(stream: tokio::net::TcpStream, routes: Router) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN).max_buf_size(MOST_HEADERS);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_LIFE, connection).await {
        tracing::debug!(%error, "connection ended early");
    }
}

fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page::home))
        .route("/style.css", get(page::style))
        .route("/.well-known/openid-configuration", get(discovery::metadata))
        .route("/jwks", get(discovery::jwks))
        .route("/authorize", get(authorize::authorize).post(authorize::authorize))
        .route("/login", post(authorize::login))
        .route("/token", post(token::token))
        .route("/revoke", post(token::revoke))
        .route("/device_authorization", post(device::begin))
        .route("/device", get(device::show).post(device::answer))
        .route("/end_session", get(logout::end_session).post(logout::end_session))
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .layer(from_fn_with_state(Arc::clone(&shared), guard))
        .with_state(shared)
}

/// Refuses other names (a page elsewhere whose name was pointed at loopback) and sets the headers of every answer.
async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).map(HeaderValue::as_bytes);
    let mut response = if host == shared.issuer.strip_prefix("http://").map(str::as_bytes) {
        next.run(request).await
    } else {
        (StatusCode::MISDIRECTED_REQUEST, "This name is not served here.\n").into_response()
    };
    const HEADERS: [(HeaderName, &str); 5] = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Browsers apply form-action to the redirect after the form too: it leads to a loopback port.
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; form-action 'self' http://127.0.0.1:*; base-uri 'none'; frame-ancestors 'none'",
        ),
    ];
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What every endpoint reaches.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) issuer: String,
    pub(crate) key: SigningKey,
    pub(crate) grants: Mutex<Grants>,
    pub(crate) tickets: Mutex<Expiring<Ticket>>,
    pub(crate) sessions: Mutex<Expiring<SignIn>>,
    guesses: Mutex<Guesses>,
}

impl Shared {
    pub(crate) fn user(&self, username: &str) -> Option<&User> {
        self.config.users.iter().find(|user| user.username == username)
    }

    /// A sign-in at `now`, if the password is right and there were not too many wrong ones.
    pub(crate) fn check_password(&self, username: &str, password: &str, now: Duration) -> Option<SignIn> {
        if !self.may_guess(now) {
            return None;
        }
        match self.user(username).filter(|user| sha256(&user.password) == sha256(password)) {
            Some(user) => Some(SignIn { username: user.username.clone(), at: now }),
            None => {
                self.guessed_wrong(now);
                None
            }
        }
    }

    pub(crate) fn may_guess(&self, now: Duration) -> bool {
        self.guesses.lock().allowed(now)
    }

    pub(crate) fn guessed_wrong(&self, now: Duration) {
        self.guesses.lock().was_wrong(now);
    }
}

/// Since the Unix epoch: the one place that reads the clock.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

pub(crate) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    pairs
        .flat_map(|value| value.split("; "))
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

/// Lax: the sign-in begins by a navigation from elsewhere. An empty value ends the cookie.
pub(crate) fn set_cookie(name: &str, value: &str) -> AppendHeaders<[(HeaderName, String); 1]> {
    let life = if value.is_empty() { "; Max-Age=0" } else { "" };
    AppendHeaders([(header::SET_COOKIE, format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{life}"))])
}
