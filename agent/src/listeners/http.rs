//! The port of all `http` apps: who asks, for which app, and may a browser's page ask so?

use super::watched::Watched;
use super::{accept, forward, page};
use crate::activity::InUse;
use crate::link::{Body, full};
use crate::peer;
use crate::uplink::Access;
use ::http::header::{ACCEPT, CONTENT_TYPE, HOST, ORIGIN, REFERER, WWW_AUTHENTICATE};
use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use postern_agent_core::guard::{self, Asked, Field, Place, Verdict};
use postern_client::user::User;
use postern_protocol::local::LocalApp;
use postern_protocol::{AppName, Code, MAX_HEADER_BYTES, Problem, headers, problem};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// Browsers open six connections for each app and keep them.
const MAX_CONNECTIONS: usize = 512;
/// How long a client may take over the head of a request, waiting for its first byte included.
const HEAD_LIMIT: Duration = Duration::from_secs(75);
/// How long a refused client may take to hang up.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

/// What every request needs.
pub(super) struct Site {
    pub(super) port: u16,
    pub(super) access: Access,
    pub(super) apps: watch::Receiver<Arc<[LocalApp]>>,
}

/// Serves until dropped.
pub(super) async fn serve(listener: Arc<TcpListener>, user: User, site: Arc<Site>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let stream = accept(&listener).await;
        let (site, user) = (site.clone(), user.clone());
        tokio::spawn(async move {
            serve_connection(stream, user, site).await;
            drop(place);
        });
    }
}

/// Nothing is read before it is known who asks.
async fn serve_connection(stream: TcpStream, user: User, site: Arc<Site>) {
    if let Err(problem) = peer::check(&user, &stream) {
        // A client that went away meanwhile needs no answer.
        let _ = tokio::time::timeout(GOODBYE_LIMIT, turn_away(stream, &problem)).await;
        return;
    }
    let service = service_fn(move |request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(site.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_header_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off or speaks no HTTP has been answered or is gone.
    let _ = connection.with_upgrades().await;
}

async fn turn_away(mut stream: TcpStream, problem: &Problem) -> std::io::Result<()> {
    let document = serde_json::to_string(problem)?;
    let (status, length) = (problem.status, document.len());
    let head =
        format!("HTTP/1.1 {status} Forbidden\r\ncontent-type: {}\r\ncontent-length: {length}", problem::MEDIA_TYPE);
    stream.write_all(format!("{head}\r\nconnection: close\r\n\r\n{document}").as_bytes()).await?;
    stream.shutdown().await?;
    // What the client still sends must be taken, or its system throws the answer away.
    let mut ignored = [0; 1024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

impl Site {
    async fn answer(&self, request: Request<Incoming>) -> Response<Watched> {
        let reader = Reader::of(request.headers());
        match guard::judge(&asked(&request), self.port) {
            Verdict::Open(Place::App(app)) => {
                let answer = self.forward(request, app).await;
                return answer.unwrap_or_else(|problem| refusal(problem, reader).map(Watched::own));
            }
            Verdict::Open(Place::Index) => self.index(&request).unwrap_or_else(|problem| refusal(problem, reader)),
            Verdict::Ask(place) => page::ask(&self.address(&place, &request), &place),
            Verdict::Refuse(code, why) => refusal(Problem::new(code).detail(why), reader),
        }
        .map(Watched::own)
    }

    async fn forward(&self, mut request: Request<Incoming>, app: AppName) -> Result<Response<Watched>, Problem> {
        let in_use = self.access.uplink().activity().begin(&app);
        let switch = forward::asks_for_websocket(request.headers()).then(|| hyper::upgrade::on(&mut request));
        let response = self.access.request(&app, forward::to_relay(request, &app)?).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let uplink = Arc::clone(self.access.uplink());
            return Ok(forward::to_client(response).map(|body| Watched::of(body, app, uplink, in_use)));
        }
        match switch {
            Some(local) => Ok(self.switch(local, response, app, in_use).map(Watched::own)),
            None => Err(Problem::new(Code::UpstreamInvalid).detail("the app switched protocols unasked")),
        }
    }

    /// Joins the two sides of a WebSocket once both have switched.
    fn switch(
        &self,
        local: hyper::upgrade::OnUpgrade,
        mut response: Response<Incoming>,
        app: AppName,
        in_use: InUse,
    ) -> Response<Body> {
        let upgraded = hyper::upgrade::on(&mut response);
        let uplink = Arc::clone(self.access.uplink());
        tokio::spawn(async move {
            if let (Ok(upgraded), Ok(local)) = tokio::join!(upgraded, local)
                && let Some(stream) = crate::link::AppStream::of_upgraded(upgraded)
            {
                let (from_local, to_local) = tokio::io::split(TokioIo::new(local));
                // Either side may leave a WebSocket at any time.
                if let Err(end) = stream.counted(in_use).splice(from_local, to_local).await {
                    uplink.ended(&app, end);
                }
            }
        });
        forward::switching(response)
    }

    fn index(&self, request: &Request<Incoming>) -> Result<Response<Body>, Problem> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(Problem::new(Code::MethodNotAllowed).detail("the list of apps can only be read"));
        }
        match request.uri().path() {
            "/" => Ok(page::index(&self.apps.borrow(), self.access.uplink().current().err().as_ref())),
            _ => Err(Problem::new(Code::NotFound)),
        }
    }

    /// The whole address of what was asked for: relative, a path like `//evil.example` would lead elsewhere.
    fn address(&self, place: &Place, request: &Request<Incoming>) -> String {
        let host = match place {
            Place::Index => "localhost".to_owned(),
            Place::App(app) => format!("{app}.localhost"),
        };
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        format!("http://{host}:{}{path}", self.port)
    }
}

fn asked(request: &Request<Incoming>) -> Asked<'_> {
    let headers = request.headers();
    Asked {
        method: request.method().as_str(),
        host: field(headers, HOST.as_str()),
        target: request.uri().authority().map(::http::uri::Authority::as_str),
        origin: field(headers, ORIGIN.as_str()),
        referer: field(headers, REFERER.as_str()),
        site: field(headers, "sec-fetch-site"),
        mode: field(headers, "sec-fetch-mode"),
        dest: field(headers, "sec-fetch-dest"),
    }
}

fn field<'a>(headers: &'a HeaderMap, name: &str) -> Field<'a> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (None, _) => Field::Absent,
        (Some(value), None) => value.to_str().map_or(Field::Invalid, Field::One),
        (Some(_), Some(_)) => Field::Invalid,
    }
}

/// Who reads an answer of Postern's own.
#[derive(Clone, Copy)]
struct Reader {
    /// A browser, or a script in it.
    browser: bool,
    /// A person.
    html: bool,
}

impl Reader {
    fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let html = accept.is_some_and(|accept| accept.contains("text/html"));
        Self { browser: html || headers.contains_key("sec-fetch-mode"), html }
    }
}

/// A refusal as a person or a program reads it.
fn refusal(mut problem: Problem, reader: Reader) -> Response<Body> {
    // Browsers take 407 for the word of a proxy they never chose, and show a page of their own.
    if problem.status == 407 && reader.browser {
        problem.status = 401;
    }
    let mut response = if reader.html { page::problem(&problem) } else { document(&problem) };
    *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if problem.status == 401 {
        // Every 401 names a scheme (RFC 9110 §15.5.2); no browser asks for a password for this one.
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Postern"));
    }
    headers.insert(headers::CODE, HeaderValue::from_static(problem.code.as_str()));
    if let Ok(status) = HeaderValue::try_from(problem.proxy_status("postern")) {
        headers.insert("proxy-status", status);
    }
    if let Some(id) = problem.decision.and_then(|id| HeaderValue::try_from(id.as_str()).ok()) {
        headers.insert(headers::DECISION, id);
    }
    response
}

fn document(problem: &Problem) -> Response<Body> {
    let mut response = Response::new(full(serde_json::to_vec(problem).unwrap_or_default()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(problem::MEDIA_TYPE));
    response
}

#[cfg(test)]
mod tests;
