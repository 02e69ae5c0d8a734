//! The public listener: HTTPS without client certificates, for discovery, enrolment, health, the JWKS, and what the
//! provider has to tell.
//! Nothing else is here, whatever name, path or header a client sends.

use crate::body::{self, Body};
use crate::state::{Relay, network};
use crate::{backchannel, enroll, refusal, signals};
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::routing::{get, post};
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use postern_protocol::control::{ENROLL, EnrollRequest};
use postern_protocol::discovery::{self, Discovery, RelayEndpoint, SignIn};
use postern_protocol::{Code, MAX_CONTROL_BYTES, MAX_HEADER_BYTES, Problem};
use postern_relay_core::audit::{Event, Record};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

/// What a client may take of this listener.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at one time.
    pub connections: u32,
    /// Connections at one time of one network.
    pub of_one_network: u32,
    /// How long a TLS handshake may take, and a request's header section.
    pub headers_in: Duration,
    /// How long a connection may live: nobody needs this listener for long.
    pub life: Duration,
}

impl Bounds {
    /// The usual patience for this many connections.
    pub fn new(connections: u32) -> Self {
        Self {
            connections,
            of_one_network: (connections / 10).max(16),
            headers_in: Duration::from_secs(10),
            life: Duration::from_secs(60),
        }
    }
}

/// Where the keys of identity assertions stand.
pub const JWKS: &str = "/.well-known/jwks.json";
/// Where a load balancer asks.
pub const HEALTH: &str = "/health";

/// Where the provider tells that somebody signed out there.
pub const BACKCHANNEL_LOGOUT: &str = "/backchannel-logout";

/// Where transmitters push security events.
pub const SECURITY_EVENTS: &str = "/ssf/events";

/// What the handlers of this listener share.
struct Public {
    relay: Arc<Relay>,
    discovery: Discovery,
}

/// The document that tells agents how to reach this relay and where to sign in.
pub fn discovery(relay: &Relay, issuer: url::Url, quic: String, server_name: &str, ca_pem: String) -> Discovery {
    let provider = &relay.config.provider;
    Discovery {
        version: 1,
        issuer,
        organisation: relay.config.organisation.clone(),
        trust_domain: relay.config.trust_domain.clone(),
        relay: RelayEndpoint { quic, server_name: server_name.to_owned(), ca_pem },
        sign_in: SignIn {
            issuer: provider.issuer.clone(),
            client_id: provider.client_id.clone(),
            scopes: provider.scopes.clone(),
            resource: provider.resource.clone(),
            redirect_port: provider.redirect_port,
            token_max_age: provider.token_max_age.as_secs(),
            max_age: relay.config.session_max_age.map(|age| age.as_secs()),
        },
    }
}

/// Every address this listener answers at.
pub fn router(relay: Arc<Relay>, discovery: Discovery) -> Router {
    let mut router = Router::new();
    if relay.config.provider.backchannel_logout {
        router = router.route(BACKCHANNEL_LOGOUT, post(sign_out));
    }
    if !relay.transmitters.is_empty() {
        router = router.route(SECURITY_EVENTS, post(security_event));
    }
    router
        .route(discovery::PATH, get(discover))
        .route(ENROLL, post(enrol))
        .route(HEALTH, get(health))
        .route(JWKS, get(jwks))
        .method_not_allowed_fallback(async || refusal::of(Code::MethodNotAllowed))
        .fallback(async || refusal::of(Code::NotFound))
        .layer(axum::middleware::map_response(harden))
        .with_state(Arc::new(Public { relay, discovery }))
}

/// Serves until `shutdown`, then lets what is in flight end.
pub async fn serve(
    listener: TcpListener,
    tls: rustls::ServerConfig,
    router: Router,
    bounds: Bounds,
    shutdown: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let places = Arc::new(Semaphore::new(bounds.connections as usize));
    let crowd = Arc::new(Crowd { by_network: Mutex::default(), most: bounds.of_one_network });
    let connections = TaskTracker::new();
    loop {
        let place = tokio::select! {
            () = shutdown.cancelled() => break,
            place = places.clone().acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, source)) => {
                let Some(seat) = crowd.enter(source.ip()) else { continue };
                let (acceptor, router, shutdown) = (acceptor.clone(), router.clone(), shutdown.clone());
                connections.spawn(async move {
                    let _until_it_ends = (place, seat);
                    let connection = connection(socket, source, &acceptor, router, bounds, shutdown);
                    let _too_long = tokio::time::timeout(bounds.life, connection).await;
                });
            }
            Err(error) => {
                // Mostly too many open files: a pause lets some close.
                tracing::warn!(%error, "the public listener cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

/// Connections by network, so that one cannot take all places.
struct Crowd {
    by_network: Mutex<HashMap<IpAddr, u32>>,
    most: u32,
}

/// One connection of a network, until it is dropped.
struct Seat {
    crowd: Arc<Crowd>,
    network: IpAddr,
}

impl Crowd {
    fn enter(self: &Arc<Self>, source: IpAddr) -> Option<Seat> {
        let network = network(source);
        let mut by_network = self.by_network.lock();
        let count = by_network.entry(network).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Seat { crowd: self.clone(), network })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut by_network = self.crowd.by_network.lock();
        if let Some(count) = by_network.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                by_network.remove(&self.network);
            }
        }
    }
}

async fn connection(
    socket: TcpStream,
    source: SocketAddr,
    acceptor: &TlsAcceptor,
    router: Router,
    bounds: Bounds,
    shutdown: CancellationToken,
) {
    let _latency_only = socket.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(bounds.headers_in, acceptor.accept(socket)).await else { return };
    let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(source));
        router.clone().call(request)
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(bounds.headers_in)
        .max_buf_size(MAX_HEADER_BYTES)
        .half_close(false);
    let serving = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    tokio::select! {
        _ended = serving.as_mut() => return,
        () = shutdown.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    let _ended = serving.await;
}

async fn discover(State(public): State<Arc<Public>>, ConnectInfo(source): ConnectInfo<SocketAddr>) -> Response<Body> {
    public.limited(source, || body::json(StatusCode::OK, &public.discovery))
}

async fn health(State(public): State<Arc<Public>>, ConnectInfo(source): ConnectInfo<SocketAddr>) -> Response<Body> {
    public.limited(source, || {
        let (status, word) = if public.relay.draining.is_cancelled() {
            (StatusCode::SERVICE_UNAVAILABLE, "draining")
        } else {
            (StatusCode::OK, "ok")
        };
        body::json(status, &serde_json::json!({ "status": word }))
    })
}

async fn jwks(State(public): State<Arc<Public>>, ConnectInfo(source): ConnectInfo<SocketAddr>) -> Response<Body> {
    public.limited(source, || {
        let mut response = Response::new(body::full(public.relay.assertions.signer().jwks_json()));
        response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/jwk-set+json"));
        response
    })
}

async fn enrol(
    State(public): State<Arc<Public>>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response<Body> {
    match public.enrol(source.ip(), request).await {
        Ok(response) => response,
        Err(problem) => refusal::response(&problem),
    }
}

async fn sign_out(
    State(public): State<Arc<Public>>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response<Body> {
    backchannel::handle(&public.relay, source.ip(), request).await
}

async fn security_event(
    State(public): State<Arc<Public>>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response<Body> {
    signals::handle(&public.relay, source.ip(), request).await
}

impl Public {
    async fn enrol(&self, source: IpAddr, request: Request) -> Result<Response<Body>, Problem> {
        let read = match self.relay.limiters.enrolments.check_key(&network(source)) {
            Ok(()) => body::collect(request.into_body(), MAX_CONTROL_BYTES).await,
            Err(_) => Err(Problem::new(Code::RateLimited).detail("too many enrolments from this address")),
        };
        let parsed = read.and_then(|bytes| {
            serde_json::from_slice::<EnrollRequest>(&bytes)
                .map_err(|_| Problem::new(Code::RequestInvalid).detail("the body is not an enrolment in JSON"))
        });
        match parsed {
            Ok(request) => {
                let response = enroll::after_sign_in(&self.relay, source, request).await?;
                Ok(body::json(StatusCode::OK, &response))
            }
            Err(problem) => {
                let record = Record::event(Event::Enrolment, self.relay.clock.now()).from(source);
                enroll::recorded(&self.relay, record, Err(problem), None).await
            }
        }
    }

    fn limited(&self, source: SocketAddr, answer: impl FnOnce() -> Response<Body>) -> Response<Body> {
        match self.relay.limiters.public.check_key(&network(source.ip())) {
            Ok(()) => answer(),
            Err(_) => refusal::of(Code::RateLimited),
        }
    }
}

/// Headers of every answer: a browser that strays here shows nothing and remembers nothing.
async fn harden(mut response: axum::response::Response) -> axum::response::Response {
    let headers = response.headers_mut();
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    headers.insert(
        http::header::CONTENT_SECURITY_POLICY,
        http::HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    response
}

#[cfg(test)]
mod tests;
