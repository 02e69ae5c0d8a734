//! Calls to the agent that runs with a state directory: the CLI's and the desktop's one way to it.

pub mod channel;
#[cfg(any(windows, test))]
pub mod pipe_name;
pub mod place;
pub mod user;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use postern_protocol::local::{
    self, Activity, Denials, Finding, LocalApps, LocalEvent, LoginEvent, LoginRequest, Logs, STREAM_UPGRADE, Settings,
    SignedOut, Status,
};
use postern_protocol::{AppName, Code, Problem};
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most bytes of an answer: a list of a thousand apps fits well.
/// Longer than the agent itself waits for a person who is to unlock their keyring.
const LIMIT: Duration = Duration::from_secs(150);
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// A caller of the local API. Each call has a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// A stream to a `tcp` app.
pub struct AppConnection {
    /// The app's bytes.
    pub bytes: TokioIo<Upgraded>,
    /// What to ask [`Client::cause_of_end`] with.
    pub id: StreamId,
}

/// Names a stream at the agent.
pub struct StreamId(String);

impl Client {
    /// Of the agent with this state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self { socket: state_dir.join(local::SOCKET_NAME) }
    }

    /// Where the agent stands.
    pub async fn status(&self) -> Result<Status, Problem> {
        self.fetch(Method::GET, local::STATUS).await
    }

    /// The apps and where they are.
    pub async fn apps(&self) -> Result<LocalApps, Problem> {
        self.fetch(Method::GET, local::APPS).await
    }

    /// The last refusals, the newest first.
    pub async fn denials(&self) -> Result<Denials, Problem> {
        self.fetch(Method::GET, local::DENIALS).await
    }

    /// Ends the agent, once what is under way has ended.
    pub async fn stop(&self) -> Result<(), Problem> {
        self.call(build(request_to(Method::POST, local::STOP), Bytes::new())?).await.map(|_| ())
    }

    /// Signs out.
    pub async fn logout(&self) -> Result<SignedOut, Problem> {
        self.fetch(Method::POST, local::LOGOUT).await
    }

    /// Signs in; the steps follow as they are taken.
    pub async fn login(&self, request: &LoginRequest) -> Result<Lines<LoginEvent>, Problem> {
        let body = serde_json::to_vec(request).map_err(|error| internal(error.to_string()))?;
        let request = request_to(Method::POST, local::LOGIN).header(CONTENT_TYPE, "application/json");
        Ok(Lines::of(self.call(build(request, body)?).await?.into_body()))
    }

    /// Ends a sign-in that waits for the person.
    pub async fn cancel_login(&self) -> Result<(), Problem> {
        self.call(build(request_to(Method::DELETE, local::LOGIN), Bytes::new())?).await.map(|_| ())
    }

    /// What went through lately, the newest first.
    pub async fn activity(&self) -> Result<Activity, Problem> {
        self.fetch(Method::GET, local::ACTIVITY).await
    }

    /// Examines agent and network; the findings follow as they are made.
    pub async fn doctor(&self) -> Result<Lines<Finding>, Problem> {
        Ok(Lines::of(self.call(build(request_to(Method::POST, local::DOCTOR), Bytes::new())?).await?.into_body()))
    }

    /// The agent's log, the oldest line first.
    pub async fn logs(&self) -> Result<Logs, Problem> {
        self.fetch(Method::GET, local::LOGS).await
    }

    /// A document in JSON for an administrator, without secrets.
    pub async fn bundle(&self) -> Result<Bytes, Problem> {
        let response = self.call(build(request_to(Method::POST, local::BUNDLE), Bytes::new())?).await?;
        read_body(response.into_body()).await
    }

    /// What may be set.
    pub async fn settings(&self) -> Result<Settings, Problem> {
        self.fetch(Method::GET, local::SETTINGS).await
    }

    /// Sets it; answers what it is now.
    pub async fn set_settings(&self, settings: &Settings) -> Result<Settings, Problem> {
        let body = serde_json::to_vec(settings).map_err(|error| internal(error.to_string()))?;
        let request = request_to(Method::PUT, local::SETTINGS).header(CONTENT_TYPE, "application/json");
        parse(&read_body(self.call(build(request, body)?).await?.into_body()).await?)
    }

    /// What happens from now on, the state first.
    pub async fn events(&self) -> Result<Lines<LocalEvent>, Problem> {
        Ok(Lines::of(self.call(build(request_to(Method::GET, local::EVENTS), Bytes::new())?).await?.into_body()))
    }

    /// The process that is the agent.
    pub async fn process(&self) -> Result<i32, Problem> {
        let peer = channel::process(&channel::open(&self.socket).await?);
        let peer = peer.map_err(|error| internal(error.to_string()))?;
        peer.ok_or_else(|| internal("this system does not tell which process the agent is".into()))
    }

    /// Opens a stream to a `tcp` app.
    pub async fn connect(&self, app: &AppName) -> Result<AppConnection, Problem> {
        let request = request_to(Method::POST, &format!("{}/{app}", local::CONNECT))
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, STREAM_UPGRADE);
        let response = self.call(build(request, Bytes::new())?).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(internal(format!("the agent answered {}", response.status())));
        }
        let id = response.headers().get("postern-stream").and_then(|id| id.to_str().ok()).unwrap_or_default();
        let id = StreamId(format!("{}/{app}/{id}", local::CONNECT));
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| internal(error.to_string()))?;
        Ok(AppConnection { bytes: TokioIo::new(upgraded), id })
    }

    /// Why a stream that has ended was cut, if it was.
    pub async fn cause_of_end(&self, StreamId(path): &StreamId) -> Option<Problem> {
        self.fetch(Method::GET, path).await.ok()
    }

    async fn fetch<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, Problem> {
        self.within(async {
            let response = self.ask(build(request_to(method, path), Bytes::new())?).await?;
            parse(&read_body(response.into_body()).await?)
        })
        .await
    }

    /// Sends one request; a refusal is an `Err`.
    async fn call(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Problem> {
        self.within(self.ask(request)).await
    }

    async fn within<T>(&self, answer: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
        let silent = |_| Problem::new(Code::AgentNotRunning).detail("it runs but does not answer; restart it");
        tokio::time::timeout(LIMIT, answer).await.map_err(silent)?
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Problem> {
        let stream = channel::open(&self.socket).await?;
        let broken = |error: hyper::Error| internal(format!("the agent broke off: {error}"));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await.map_err(broken)?;
        if !response.status().is_client_error() && !response.status().is_server_error() {
            return Ok(response);
        }
        Err(parse::<Problem>(&read_body(response.into_body()).await?).unwrap_or_else(|problem| problem))
    }
}

/// JSON lines as they come.
pub struct Lines<T> {
    body: Incoming,
    buffer: BytesMut,
    /// So many bytes of the buffer have no end of line.
    searched: usize,
    of: PhantomData<T>,
}

impl<T: DeserializeOwned> Lines<T> {
    fn of(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0, of: PhantomData }
    }

    /// The next line; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<T>, Problem> {
        loop {
            if let Some(end) = self.buffer.iter().skip(self.searched).position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + end);
                self.buffer.advance(1);
                self.searched = 0;
                return parse(&line).map(Some);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_ANSWER {
                return Err(internal("the agent sent a line without end".into()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.buffer.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                Some(Err(error)) => return Err(internal(format!("the agent broke off: {error}"))),
                None => return Ok(None),
            }
        }
    }
}

fn request_to(method: Method, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header(HOST, "agent")
}

fn build(request: http::request::Builder, body: impl Into<Bytes>) -> Result<Request<Full<Bytes>>, Problem> {
    request.body(Full::new(body.into())).map_err(|error| internal(error.to_string()))
}

async fn read_body(body: Incoming) -> Result<Bytes, Problem> {
    match Limited::new(body, MAX_ANSWER).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(internal(format!("the agent broke off: {error}"))),
    }
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(json).map_err(|error| {
        let detail = format!("the running agent answers otherwise than expected ({error}); restart it");
        Problem::new(Code::VersionUnsupported).detail(detail)
    })
}

fn internal(detail: String) -> Problem {
    Problem::new(Code::Internal).detail(detail)
}
