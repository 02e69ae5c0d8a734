//! What CLI and desktop ask of the agent, over a Unix socket, or a pipe, that only its own user may use.

mod diagnosis;
mod socket;
mod streams;

pub use socket::LocalSocket;

use crate::engine::Engine;
use crate::listeners::Listeners;
use crate::recent_log::RecentLog;
use crate::uplink::Access;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream;
use http_body_util::{BodyExt as _, Collected, Limited};
use hyper::body::Body as _;
use hyper_util::rt::TokioIo;
use postern_protocol::local::{self, Activity, Denials, LocalApps, LocalEvent, LoginEvent, STREAM_UPGRADE, Settings};
use postern_protocol::{AppName, Code, MAX_CONTROL_BYTES, Problem, headers, problem};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use streams::{Events, StreamEnds};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const JSON_LINES: HeaderValue = HeaderValue::from_static("application/jsonl");
/// How long the list of apps may take to follow a sign-in.
const APPS_LIMIT: Duration = Duration::from_secs(2);
/// How long a client that sends too much may take over it.
const GOODBYE_LIMIT: Duration = Duration::from_millis(500);

/// What the API speaks for.
pub struct LocalApi {
    engine: Engine,
    listeners: Listeners,
    access: Access,
    ends: StreamEnds,
    log: RecentLog,
    /// One examination at a time: it knocks at the relay's doors.
    examining: Arc<Semaphore>,
    stop: CancellationToken,
}

impl LocalApi {
    /// For this agent. Once `stop` is cancelled, streams of events end and no call is taken any more.
    pub fn new(engine: Engine, listeners: Listeners, access: Access, stop: CancellationToken) -> Self {
        Self {
            engine,
            listeners,
            access,
            ends: StreamEnds::default(),
            log: RecentLog::default(),
            examining: Arc::new(Semaphore::new(1)),
            stop,
        }
    }

    /// With the log to show.
    pub fn with_log(self, log: RecentLog) -> Self {
        Self { log, ..self }
    }

    /// The list of apps follows right after a sign-in; who was told `online` may ask for an app at once.
    async fn apps_arrive(&self) {
        let mut apps = self.listeners.watch();
        let arrived = apps.wait_for(|apps| !apps.is_empty());
        // There may be none for this user.
        let _ = tokio::time::timeout(APPS_LIMIT, arrived).await;
    }

    /// Answers calls until stopped.
    pub async fn serve(self, socket: LocalSocket) -> std::io::Result<()> {
        let stopped = self.stop.clone().cancelled_owned();
        axum::serve(socket, router(Arc::new(self))).with_graceful_shutdown(stopped).await
    }
}

type Api = State<Arc<LocalApi>>;

fn router(api: Arc<LocalApi>) -> Router {
    Router::new()
        .route(local::STATUS, get(status))
        .route(local::APPS, get(apps))
        .route(local::LOGIN, post(login).delete(cancel_login))
        .route(local::LOGOUT, post(logout))
        .route(local::STOP, post(stop))
        .route(local::DENIALS, get(denials))
        .route(local::EVENTS, get(events))
        .route(local::LOGS, get(logs))
        .route(local::ACTIVITY, get(activity))
        .route(local::DOCTOR, post(diagnosis::doctor))
        .route(local::BUNDLE, post(diagnosis::bundle))
        .route(local::SETTINGS, get(settings).put(set_settings))
        .route(&format!("{}/{{app}}", local::CONNECT), post(connect))
        .route(&format!("{}/{{app}}/{{stream}}", local::CONNECT), get(stream_end))
        .fallback(|| async { Refusal::from(Code::NotFound) })
        .method_not_allowed_fallback(|| async { Refusal::from(Code::MethodNotAllowed) })
        .with_state(api)
}

async fn status(State(api): Api) -> Response {
    json(&api.engine.status())
}

async fn apps(State(api): Api) -> Response {
    json(&LocalApps { apps: api.listeners.apps().to_vec() })
}

async fn login(State(api): Api, request: Request) -> Result<Response, Refusal> {
    let request = read_json(request).await?;
    let steps = api.engine.login(request);
    Ok(lines(stream::unfold((steps, api), |(mut steps, api)| async move {
        let step = tokio::select! {
            step = steps.recv() => step?,
            () = api.stop.cancelled() => return None,
        };
        if matches!(step, LoginEvent::Online { .. }) {
            api.apps_arrive().await;
        }
        Some((line(&step), (steps, api)))
    })))
}

async fn read_json<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    let mut body = request.into_body();
    let bytes = match body.size_hint().lower() {
        announced if announced > MAX_CONTROL_BYTES as u64 => None,
        _ => Limited::new(&mut body, MAX_CONTROL_BYTES).collect().await.ok().map(Collected::to_bytes),
    };
    let Some(bytes) = bytes else {
        // Closing with bytes unread would take the answer away from the client.
        let rest = async { while let Some(Ok(_)) = body.frame().await {} };
        let _ = tokio::time::timeout(GOODBYE_LIMIT, rest).await;
        return Err(Problem::new(Code::BodyTooLarge).detail(format!("at most {MAX_CONTROL_BYTES} bytes")));
    };
    // By way of an object: a list would pass for a request that leaves everything out.
    serde_json::from_slice(&bytes)
        .and_then(|fields: serde_json::Map<_, _>| T::deserialize(serde_json::Value::from(fields)))
        .map_err(|error| Problem::new(Code::RequestInvalid).detail(error.to_string()))
}

async fn cancel_login(State(api): Api) -> Result<StatusCode, Refusal> {
    api.engine.cancel_login().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn logout(State(api): Api) -> Result<Response, Refusal> {
    Ok(json(&api.engine.logout().await?))
}

async fn stop(State(api): Api) -> StatusCode {
    tracing::info!("asked to stop");
    api.stop.cancel();
    StatusCode::NO_CONTENT
}

async fn denials(State(api): Api) -> Response {
    json(&Denials { denials: api.access.uplink().denials().newest_first() })
}

async fn logs(State(api): Api) -> Response {
    json(&api.log.lines())
}

async fn activity(State(api): Api) -> Response {
    json(&Activity { entries: api.access.uplink().activity().newest_first() })
}

async fn settings(State(api): Api) -> Result<Response, Refusal> {
    Ok(json(&api.listeners.settings().await?))
}

async fn set_settings(State(api): Api, request: Request) -> Result<Response, Refusal> {
    let settings: Settings = read_json(request).await?;
    Ok(json(&api.listeners.set(settings).await?))
}

async fn events(State(api): Api) -> Response {
    let uplink = api.access.uplink();
    let events = Events::new(api.engine.watch(), api.listeners.watch(), uplink.subscribe(), uplink.activity().clone());
    lines(stream::unfold((events, api), |(mut events, api)| async move {
        let event: LocalEvent = tokio::select! {
            event = events.next() => event?,
            () = api.stop.cancelled() => return None,
        };
        Some((line(&event), (events, api)))
    }))
}

/// Opens a stream to a `tcp` app and turns this call into it.
async fn connect(State(api): Api, Path(app): Path<String>, mut request: Request) -> Result<Response, Refusal> {
    let app = app_name(&app)?;
    if !asks_for_stream(request.headers()) {
        let detail = format!("send Connection: upgrade and Upgrade: {STREAM_UPGRADE}");
        return Err(Problem::new(Code::RequestInvalid).detail(detail).into());
    }
    let app_stream = api.access.connect(&app).await?;
    let id = api.ends.open();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let (mut from_local, mut to_local) = tokio::io::split(TokioIo::new(upgraded));
        let end = app_stream.splice(&mut from_local, &mut to_local).await;
        // Known before the socket closes, so that the client can ask why it did.
        api.ends.record(id, end.err().map(|end| api.access.uplink().ended(&app, end)));
    });
    let upgrade = [
        (CONNECTION, HeaderValue::from_static("upgrade")),
        (UPGRADE, HeaderValue::from_static(STREAM_UPGRADE)),
        (streams::STREAM_ID, HeaderValue::from(id)),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, upgrade).into_response())
}

/// Why a stream of [`connect`] was cut; 404 if it was not, or is long gone.
async fn stream_end(State(api): Api, Path((_, id)): Path<(String, String)>) -> Result<Response, Refusal> {
    let id = id.parse().map_err(|_| Problem::new(Code::RequestInvalid).detail("a stream's id is a number"))?;
    let code = api.ends.cause(id).ok_or(Code::NotFound)?;
    Ok(json(&Problem::new(code)))
}

fn app_name(text: &str) -> Result<AppName, Problem> {
    text.parse()
        .map_err(|error: postern_protocol::id::InvalidId| Problem::new(Code::RequestInvalid).detail(error.to_string()))
}

fn asks_for_stream(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(STREAM_UPGRADE.as_bytes()))
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => ([(CONTENT_TYPE, JSON)], bytes).into_response(),
        Err(error) => Refusal(Problem::new(Code::Internal).detail(error.to_string())).into_response(),
    }
}

fn line(value: &impl Serialize) -> Result<Bytes, Infallible> {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    Ok(bytes.into())
}

fn lines(lines: impl stream::Stream<Item = Result<Bytes, Infallible>> + Send + 'static) -> Response {
    ([(CONTENT_TYPE, JSON_LINES)], Body::from_stream(lines)).into_response()
}

/// A failed call's answer.
struct Refusal(Problem);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self(Problem::new(code))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let document = serde_json::to_vec(&problem).unwrap_or_default();
        let code = HeaderValue::from_static(problem.code.as_str());
        let media_type = HeaderValue::from_static(problem::MEDIA_TYPE);
        (status, [(CONTENT_TYPE.as_str(), media_type), (headers::CODE, code)], document).into_response()
    }
}

#[cfg(test)]
mod tests;
