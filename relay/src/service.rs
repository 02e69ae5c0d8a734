//! The one HTTP service, whatever transport brought the request: it finds out what a request is for and hands it on.

use crate::body::Body;
use crate::gate;
use crate::state::Relay;
use crate::streams::{self, Live};
use crate::transport::{Cut, Guarded, Verdict};
use crate::{control, http_app, refusal, tcp_app};
use futures_util::future::BoxFuture;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use postern_protocol::{Code, MAX_HEADER_BYTES, Problem};
use postern_relay_core::certificate::VerifiedDevice;
use postern_relay_core::forward::{self, Target};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

/// Who is at the other end of a connection.
pub struct Peer {
    /// The relay it came to.
    pub relay: Arc<Relay>,
    /// The device, as its certificate proved.
    pub device: Arc<VerifiedDevice>,
    /// Where it comes from.
    pub source: SocketAddr,
    /// Ends the connection.
    pub connection: Arc<Cut>,
}

impl Peer {
    /// Is a refusal of this device to have a record of its own? If not, it is counted; far beyond that the connection
    /// ends, so that a flood has to pay for a handshake each time.
    pub(crate) fn records_refusal(&self) -> bool {
        let refusals = &self.relay.limiters.refusals;
        let singly = refusals.record_of(self.device.id());
        if !singly && refusals.is_flood_of(self.device.id()) {
            self.connection.cut_any(Code::RateLimited);
        }
        singly
    }
}

/// What the requests on one stream share.
pub(crate) struct Stream {
    pub(crate) peer: Arc<Peer>,
    pub(crate) cut: Arc<Cut>,
    verdict: Verdict,
    /// The means to take the stream over, while a request that may switch protocols is answered.
    upgrade: Mutex<Option<OnUpgrade>>,
    after: Mutex<Option<BoxFuture<'static, ()>>>,
    /// The last request that was sent on, while it can break off.
    carried: Mutex<Option<Arc<streams::Stream>>>,
}

impl Stream {
    /// Takes the stream over, if the request that is being answered asked for that.
    pub(crate) fn upgrade(&self) -> Option<OnUpgrade> {
        self.upgrade.lock().take()
    }

    /// What to do with the stream once HTTP has let go of it.
    pub(crate) fn afterwards(&self, carry: impl Future<Output = ()> + Send + 'static) {
        *self.after.lock() = Some(Box::pin(carry));
    }

    /// What is sent to an app for this request ends with the stream, unless that ends in order.
    pub(crate) fn carries(&self, live: &Live) {
        *self.carried.lock() = Some(live.stream().clone());
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(broken_off) = self.carried.lock().take() {
            broken_off.upload.let_go();
        }
    }
}

/// Serves one byte stream to its end, or until it is cut.
pub async fn serve<IO>(peer: Arc<Peer>, io: IO, cut: Arc<Cut>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (io, verdict) = Guarded::new(io);
    let stream = Arc::new(Stream {
        peer,
        cut: cut.clone(),
        verdict,
        upgrade: Mutex::default(),
        after: Mutex::default(),
        carried: Mutex::default(),
    });
    let service = service_fn({
        let stream = stream.clone();
        move |request| {
            let stream = stream.clone();
            async move { Ok::<_, Infallible>(answer(&stream, request).await) }
        }
    });
    let mut http = http1::Builder::new();
    // The guard has its own timers. A device may end its direction while it waits for the answer.
    http.header_read_timeout(None).half_close(true).max_header_size(MAX_HEADER_BYTES).writev(false);
    let served = async {
        let ended = http.serve_connection(TokioIo::new(io), service).with_upgrades().await;
        if ended.is_ok() {
            // All of it has arrived here, and an app that reads on gets it.
            stream.carried.lock().take();
        }
        if let Err(why) = ended {
            tracing::debug!(device = %stream.peer.device.id(), %why, "stream ended");
            if why.is_parse() {
                // hyper has answered 400 or 431 by itself.
                let code = if why.is_parse_too_large() { Code::HeadersTooLarge } else { Code::RequestInvalid };
                gate::record_malformed(&stream.peer, code).await;
            }
        }
        let carry = stream.after.lock().take();
        if let Some(carry) = carry {
            carry.await;
        }
    };
    tokio::select! {
        // First, so that not a byte passes once the stream is cut, whatever woke this task.
        biased;
        // Everything the stream holds is dropped with it: the request in flight, the upstream, both directions.
        _ = cut.wait() => {}
        () = served => {}
    }
}

async fn answer(stream: &Stream, mut request: Request<Incoming>) -> Response<Body> {
    if request.method() == Method::CONNECT || request.headers().contains_key(UPGRADE) {
        *stream.upgrade.lock() = Some(hyper::upgrade::on(&mut request));
    }
    let mut response = dispatch(stream, request).await;
    let not_switched = stream.upgrade();
    // The guard stopped reading HTTP at a request that might have switched protocols, and at a malformed one.
    if not_switched.is_some() || stream.verdict.fault().is_some() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(not_switched) = not_switched {
        stream.afterwards(end(not_switched));
    }
    response
}

/// Ends a stream in order. hyper leaves that to us when a request asked to switch, even though nothing was switched.
async fn end(stream: OnUpgrade) {
    if let Ok(stream) = stream.await {
        let _it_may_be_gone = TokioIo::new(stream).shutdown().await;
    }
}

async fn dispatch(stream: &Stream, request: Request<Incoming>) -> Response<Body> {
    let peer = &stream.peer;
    match check(stream, &request) {
        Ok(Target::Control) => control::handle(peer.clone(), request).await,
        Ok(Target::Http(app)) => http_app::answer(stream, request, app).await,
        Ok(Target::Connect(app, _)) => tcp_app::answer(stream, request, app).await,
        Err(problem) => refusal::response(&gate::refuse(peer, &request, problem).await),
    }
}

/// Is the request well formed, and what is it for?
fn check(stream: &Stream, request: &Request<Incoming>) -> Result<Target, Problem> {
    if let Some(fault) = stream.verdict.fault() {
        return Err(Problem::new(Code::RequestInvalid).detail(fault));
    }
    if request.version() != Version::HTTP_11 {
        return Err(Problem::new(Code::RequestInvalid).detail("the relay speaks HTTP/1.1"));
    }
    forward::target(request.method(), request.uri(), request.headers()).map_err(Problem::new)
}

/// The authority the request names.
pub(crate) fn host(request: &Request<Incoming>) -> &str {
    let named = request.uri().authority().map(http::uri::Authority::as_str);
    let host = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok());
    named.or(host).unwrap_or_default()
}

#[cfg(test)]
mod tests;
