//! `http` apps: each request is decided on its own, stripped of what only Postern may say, and sent on.

use crate::body::Body;
use crate::gate::{self, Admitted};
use crate::identity_header::TokenHash;
use crate::refusal;
use crate::service::Stream;
use crate::streams::Live;
use crate::upstream::{Answer, Door, Download, Location, Upload, globalise, localise};
use http::header::{CONNECTION, CONTENT_LOCATION, EXPECT, HOST, LOCATION, ORIGIN, REFERER, TRAILER, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use postern_protocol::{AppName, Code, Problem, headers};
use postern_relay_core::forward;
use std::sync::Arc;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// Answers a request to an `http` app. Redirects are the browser's business: nothing here follows one (A19).
pub(crate) async fn answer(stream: &Stream, request: Request<Incoming>, app: AppName) -> Response<Body> {
    exchange(stream, request, app).await.unwrap_or_else(|problem| refusal::response(&problem))
}

async fn exchange(stream: &Stream, request: Request<Incoming>, app: AppName) -> Result<Response<Body>, Problem> {
    let relay = &stream.peer.relay;
    let Admitted { live, token } = gate::admit(&stream.peer, &stream.cut, &request, app).await?;
    let live = &Arc::new(live);
    let door = relay.upstreams.door(live).map_err(|failure| failure.problem(live))?;
    let switches = wants_websocket(&request);
    let local = request.headers().get(headers::LOCAL_AUTHORITY);
    let local = local.and_then(|text| Location::parse(text, &live.permit().app().name));
    let (mut head, body) = request.into_parts();
    clean(&mut head.headers, switches);
    introduce(stream, live, token, &door, local.as_ref(), &mut head.headers)?;
    // What extensions there are belong to this side of the exchange.
    head.extensions.clear();
    let request = Request::from_parts(head, Upload::new(body, live.clone()));
    stream.carries(live);
    let answer = relay.upstreams.send(live, &door, request).await.map_err(|failure| failure.problem(live))?;
    finish(stream, answer, &door, local.as_ref(), live.clone(), switches)
}

/// Takes out what must not reach the upstream.
fn clean(headers: &mut HeaderMap, switches: bool) {
    forward::clean_request(headers);
    // hyper asks for the body itself, once the upstream takes it.
    headers.remove(EXPECT);
    // Trailers are not sent on.
    headers.remove(TRAILER);
    if switches {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, WEBSOCKET);
    }
}

/// Adds what Postern says: who calls, from where, and by which address.
fn introduce(
    stream: &Stream,
    live: &Live,
    token: TokenHash,
    door: &Door,
    local: Option<&Location>,
    headers: &mut HeaderMap,
) -> Result<(), Problem> {
    let (relay, permit) = (&stream.peer.relay, live.permit());
    let identity = relay.assertions.header(token, &live.stream().session, &permit.app().name, relay.clock.now());
    let identity = identity.map_err(|code| Problem::new(code).decision(permit.decision().clone()))?;
    headers.insert(HeaderName::from_static(headers::IDENTITY), identity);
    headers.insert(HOST, door.host.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    if let Ok(source) = HeaderValue::try_from(stream.peer.source.ip().to_canonical().to_string()) {
        headers.insert(X_FORWARDED_FOR, source);
    }
    let Some(local) = local else { return Ok(()) };
    for name in [ORIGIN, REFERER] {
        if let Some(own) = headers.get(&name).and_then(|value| globalise(value, door, local)) {
            headers.insert(name, own);
        }
    }
    if let Some(local) = local.header() {
        headers.insert(X_FORWARDED_HOST, local);
    }
    Ok(())
}

/// The upstream's answer as the device gets it.
fn finish(
    stream: &Stream,
    answer: Answer,
    door: &Arc<Door>,
    local: Option<&Location>,
    live: Arc<Live>,
    switches: bool,
) -> Result<Response<Body>, Problem> {
    let Answer { mut response, slot } = answer;
    live.keep(slot);
    let websocket =
        response.headers().get(UPGRADE).is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let upgraded = hyper::upgrade::on(&mut response);
    let (mut head, body) = response.into_parts();
    forward::clean_response(&mut head.headers);
    head.headers.remove(TRAILER);
    refusal::decided(&mut head.headers, live.permit().decision());
    head.extensions.clear();
    for name in [LOCATION, CONTENT_LOCATION] {
        if let Some(local) = head.headers.get(&name).and_then(|value| localise(value, door, local)) {
            head.headers.insert(name, local);
        }
    }
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        let body = Download::new(body, live).boxed_unsync();
        return Ok(Response::from_parts(head, body));
    }
    let Some(switch) = stream.upgrade().filter(|_| switches && websocket) else {
        let unasked = Problem::new(Code::UpstreamInvalid).detail("the app switched protocols unasked");
        return Err(unasked.decision(live.permit().decision().clone()));
    };
    head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers.insert(UPGRADE, WEBSOCKET);
    stream.afterwards(carry(switch, upgraded, live));
    Ok(Response::from_parts(head, crate::body::empty()))
}

/// Carries a WebSocket's bytes until either side ends it, or the stream is cut.
async fn carry(device: OnUpgrade, upstream: OnUpgrade, live: Arc<Live>) {
    let Ok((device, upstream)) = tokio::try_join!(device, upstream) else {
        return live.fail(Code::UpstreamInvalid);
    };
    let (mut device, mut upstream) = (TokioIo::new(device), TokioIo::new(upstream));
    if tokio::io::copy_bidirectional(&mut device, &mut upstream).await.is_err() {
        live.fail(Code::UpstreamUnreachable);
    }
}

/// Is this the opening of a WebSocket (RFC 6455 §4.1)? No other protocol is switched to.
fn wants_websocket(request: &Request<Incoming>) -> bool {
    let named = |name: HeaderName, token: &str| {
        let values = request.headers().get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(token))
    };
    request.method() == Method::GET && named(UPGRADE, "websocket") && named(CONNECTION, "upgrade")
}
