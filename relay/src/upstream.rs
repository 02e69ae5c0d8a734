//! The way to the apps. Only a stream that was allowed and filed leads there: [`Live`] is the one key.

mod authenticated;
mod location;
mod share;
mod tether;
mod transfer;

pub(crate) use location::{Location, globalise, localise};
pub use share::Slot;
pub(crate) use tether::Tether;
pub(crate) use transfer::{Download, Upload};

use crate::streams::Live;
use arc_swap::ArcSwap;
use http::uri::{Authority, PathAndQuery, Uri};
use http::{HeaderValue, Method, Request, Response};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{Connect, HttpConnector, capture_connection};
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use postern_protocol::{AppName, Code, MAX_HEADER_BYTES, Problem};
use postern_relay_core::app::{AppTable, Scheme, Upstream};
#[cfg(test)]
use postern_relay_core::principal::PrincipalKey;
use rustls_platform_verifier::BuilderVerifierExt;
use share::Room;
use socket2::{SockRef, TcpKeepalive};
use std::collections::HashMap;
use std::error::Error as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tether::{Fuse, Fused};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection to an upstream may take, names looked up and TLS agreed.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an upstream may take to begin its answer while nothing of the request is moving.
const ANSWER: Duration = Duration::from_secs(60);
/// Silence after which a connection is probed.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// How long a pooled connection may lie; below the idle limits of most servers, so that few are stale when used.
const IDLE: Duration = Duration::from_secs(15);
/// Idle connections kept per upstream.
const IDLE_CONNECTIONS: usize = 64;

/// Why an upstream gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which problem it is.
    pub code: Code,
    /// What happened.
    pub detail: &'static str,
}

impl Failure {
    /// As it travels. The decision was an allow: what failed is what came after it.
    pub(crate) fn problem(self, live: &Live) -> Problem {
        Problem::new(self.code).detail(self.detail).decision(live.permit().decision().clone())
    }
}

/// The beginning of an upstream's answer.
#[derive(Debug)]
pub struct Answer {
    /// Head and streaming body.
    pub response: Response<Incoming>,
    /// Room taken; keep it as long as the body lasts.
    pub slot: Slot,
}

/// Connections to `http` apps, kept alive between requests.
pub struct Pool {
    /// Replaced whole when an app has gone, and with it all idle connections.
    ways: ArcSwap<Ways>,
    doors: Mutex<HashMap<AppName, Arc<Door>>>,
}

/// The clients that hold the connections.
struct Ways {
    plain: Clients<Fused>,
    /// Made when an `https` upstream is first used: a system without authorities is no obstacle before.
    tls: OnceLock<Option<Clients<HttpsConnector<Fused>>>>,
}

/// The two ways to make a connection.
struct Clients<C> {
    /// Kept between requests, whosever they are.
    kept: Client<C, Upload>,
    /// For one request alone.
    single: Client<C, Upload>,
}

/// What stays the same about one app's upstream.
#[derive(Debug)]
pub(crate) struct Door {
    upstream: Upstream,
    /// The name the upstream knows itself by.
    pub(crate) host: HeaderValue,
    authority: Authority,
    room: Room,
}

impl Pool {
    /// Nothing is connected yet.
    pub fn new() -> Self {
        Self { ways: ArcSwap::from_pointee(Ways::new()), doors: Mutex::default() }
    }

    /// Forgets the upstreams of apps that are not among these any more, or have another upstream now, with every idle
    /// connection there. What is under way goes on.
    pub(crate) fn keep_only(&self, apps: &AppTable) {
        let mut doors = self.doors.lock();
        let before = doors.len();
        doors.retain(|name, door| apps.get(name).is_some_and(|app| app.upstream == door.upstream));
        if doors.len() < before {
            self.ways.store(Arc::new(Ways::new()));
        }
    }

    /// The upstream of the app that `live` leads to.
    pub(crate) fn door(&self, live: &Live) -> Result<Arc<Door>, Failure> {
        let app = live.permit().app();
        let mut doors = self.doors.lock();
        if let Some(door) = doors.get(&app.name)
            && door.upstream == app.upstream
        {
            return Ok(door.clone());
        }
        let door = Arc::new(Door::new(&app.upstream)?);
        doors.insert(app.name.clone(), door.clone());
        Ok(door)
    }

    /// Sends one request, its path and query in `request`'s URI, and waits for the head of the answer.
    pub(crate) async fn send(&self, live: &Live, door: &Door, mut request: Request<Upload>) -> Result<Answer, Failure> {
        *request.uri_mut() = door.uri(request.uri())?;
        let slot = door.room.take(live.permit().principal()).await?;
        // A pooled connection may have been closed just as the request went out. What is safe to repeat is.
        let second = repeatable(&request);
        let first = self.attempt(live, door, request).await;
        let response = match (first, second) {
            (Err(Attempt::Broken), Some(second)) => self.attempt(live, door, second).await,
            (first, _) => first,
        };
        match response {
            Ok(response) => Ok(Answer { response, slot }),
            Err(_) if live.stream().upload_broken.load(Ordering::Relaxed) => {
                Err(Failure { code: Code::RequestInvalid, detail: "the body broke off, or its framing is wrong" })
            }
            Err(attempt) => Err(unanswered(live, attempt)),
        }
    }

    async fn attempt(
        &self,
        live: &Live,
        door: &Door,
        mut request: Request<Upload>,
    ) -> Result<Response<Incoming>, Attempt> {
        let connection = capture_connection(&mut request);
        let ways = self.ways.load_full();
        let answer = match door.upstream.scheme {
            Scheme::Http => ways.plain.request(request),
            _ => ways.tls.get_or_init(tls_clients).as_ref().ok_or(Attempt::NoTls)?.request(request),
        };
        let mut answer = std::pin::pin!(answer);
        let mut sent = 0;
        loop {
            match timeout(ANSWER, &mut answer).await {
                Ok(Ok(response)) => {
                    if authenticated::asks(response.headers())
                        && let Some(connection) = connection.connection_metadata().as_ref()
                    {
                        connection.poison();
                    }
                    if let Some(fuse) = response.extensions().get::<Fuse>() {
                        // Once the app has answered, hyper no longer minds whether anybody waits.
                        live.stream().upload.tie(fuse);
                    }
                    return Ok(response);
                }
                Ok(Err(failure)) => return Err(Attempt::from(&failure)),
                // A long upload is not a silent upstream.
                Err(_) if live.stream().sent.load(Ordering::Relaxed) != sent => {
                    sent = live.stream().sent.load(Ordering::Relaxed);
                }
                Err(_) => return Err(Attempt::Silent),
            }
        }
    }
}

/// Connects to the upstream of a `tcp` app.
pub(crate) async fn dial(live: &Live) -> Result<TcpStream, Failure> {
    let upstream = &live.permit().app().upstream;
    let connected = timeout(CONNECT, TcpStream::connect((upstream.host.as_str(), upstream.port))).await;
    let stream = connected.map_err(|_| unanswered(live, Attempt::ConnectTimeout))?.map_err(|failure| {
        tracing::info!(app = %live.permit().app().name, %failure, "upstream not reached");
        unanswered(live, Attempt::Unreachable)
    })?;
    // Small messages are the rule: never wait to fill a segment. And an app that is gone is noticed, some time.
    let options = SockRef::from(&stream);
    let set = options
        .set_tcp_nodelay(true)
        .and_then(|()| options.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE)));
    set.map_err(|_| Attempt::Unreachable)?;
    Ok(stream)
}

/// What was allowed and came to nothing. Whoever is asked about it knows the decision.
fn unanswered(live: &Live, attempt: Attempt) -> Failure {
    let (permit, failure) = (live.permit(), Failure::from(attempt));
    let (app, upstream, decision) = (&permit.app().name, &permit.app().upstream, permit.decision());
    tracing::warn!(%app, %upstream, %decision, code = %failure.code, "no answer from the app: {}", failure.detail);
    failure
}

#[cfg(test)]
impl Pool {
    /// Takes this many places at `app`, which was used before, as if requests of `principal` were under way.
    pub(crate) async fn occupy(&self, app: &str, principal: &PrincipalKey, places: usize) -> Vec<Slot> {
        let found = |name: &AppName| name.as_str() == app;
        let door = self.doors.lock().iter().find(|(name, _)| found(name)).map(|(_, door)| door.clone()).unwrap();
        let mut slots = Vec::new();
        for _ in 0..places {
            slots.push(door.room.take(principal).await.unwrap());
        }
        slots
    }
}

impl Ways {
    fn new() -> Self {
        Self { plain: clients(&connector()), tls: OnceLock::new() }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Door {
    fn new(upstream: &Upstream) -> Result<Self, Failure> {
        let misnamed = Failure { code: Code::UpstreamBlocked, detail: "the upstream's name cannot be used" };
        let authority: Authority = upstream.authority().parse().map_err(|_| misnamed)?;
        let default = match upstream.scheme {
            Scheme::Http => upstream.port == 80,
            Scheme::Https => upstream.port == 443,
            Scheme::Tcp => false,
        };
        let host = if default { authority.host() } else { authority.as_str() };
        let host = HeaderValue::from_str(host).map_err(|_| misnamed)?;
        Ok(Self { upstream: upstream.clone(), host, authority, room: Room::new() })
    }

    fn uri(&self, asked: &Uri) -> Result<Uri, Failure> {
        let path = asked.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let uri = Uri::builder().scheme(self.upstream.scheme.as_str()).authority(self.authority.clone());
        let unfit = Failure { code: Code::PathAmbiguous, detail: "the path cannot be sent on" };
        uri.path_and_query(path).build().map_err(|_| unfit)
    }

    /// `scheme://host`, with the port where it is not the scheme's own.
    fn origin(&self) -> String {
        format!("{}://{}", self.upstream.scheme.as_str(), self.host.to_str().unwrap_or_default())
    }

    /// Does `authority` name this upstream, for a URL of `scheme`?
    pub(crate) fn is(&self, scheme: &str, authority: &str) -> bool {
        let default = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
        let with_port = authority.eq_ignore_ascii_case(self.authority.as_str());
        with_port || (self.upstream.port == default && authority.eq_ignore_ascii_case(self.authority.host()))
    }
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug)]
enum Attempt {
    Unreachable,
    ConnectTimeout,
    NoTls,
    Silent,
    /// The connection broke before an answer began.
    Broken,
    Invalid,
}

impl From<&hyper_util::client::legacy::Error> for Attempt {
    fn from(failure: &hyper_util::client::legacy::Error) -> Self {
        tracing::info!(%failure, source = failure.source().map(tracing::field::display), "upstream failed");
        if failure.is_connect() {
            return Self::Unreachable;
        }
        match failure.source().and_then(|source| source.downcast_ref::<hyper::Error>()) {
            Some(why) if why.is_parse() => Self::Invalid,
            _ => Self::Broken,
        }
    }
}

impl From<Attempt> for Failure {
    fn from(attempt: Attempt) -> Self {
        let (code, detail) = match attempt {
            Attempt::Unreachable => (Code::UpstreamUnreachable, "no connection could be made"),
            Attempt::ConnectTimeout => (Code::UpstreamTimeout, "no connection could be made in time"),
            Attempt::NoTls => (Code::UpstreamUnreachable, "the relay's system has no certificate authorities"),
            Attempt::Silent => (Code::UpstreamTimeout, "no answer came in time"),
            Attempt::Broken => (Code::UpstreamUnreachable, "the connection broke before the answer"),
            Attempt::Invalid => (Code::UpstreamInvalid, "the answer is not valid HTTP/1.1"),
        };
        Self { code, detail }
    }
}

/// The same request once more, if sending it twice does no harm: no body and a method that changes nothing.
fn repeatable(request: &Request<Upload>) -> Option<Request<Upload>> {
    let safe = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    if !safe || !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(Upload::none());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}

fn connector() -> Fused {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEP_ALIVE));
    connector.enforce_http(false);
    Fused::new(connector)
}

impl<C: Connect + Clone + Send + Sync + 'static> Clients<C> {
    fn request(&self, request: Request<Upload>) -> ResponseFuture {
        let client = if authenticated::signs_in(request.headers()) { &self.single } else { &self.kept };
        client.request(request)
    }
}

fn clients<C: Connect + Clone + Send + Sync + 'static>(connector: &C) -> Clients<C> {
    let client = |idle_connections| {
        Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(idle_connections)
            .http1_max_buf_size(MAX_HEADER_BYTES)
            .set_host(false)
            .build(connector.clone())
    };
    Clients { kept: client(IDLE_CONNECTIONS), single: client(0) }
}

/// TLS to upstreams trusts what the relay's system trusts.
fn tls_clients() -> Option<Clients<HttpsConnector<Fused>>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier);
    match config {
        Ok(config) => Some(clients(&secure(config.with_no_client_auth()))),
        Err(why) => {
            tracing::error!(%why, "https upstreams cannot be reached");
            None
        }
    }
}

fn secure(config: rustls::ClientConfig) -> HttpsConnector<Fused> {
    HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().wrap_connector(connector())
}
