//! One connection to the relay: QUIC with mutual TLS, HTTP/1.1 on each of its streams.

mod cause;
mod dial;
mod pool;
mod silence;
mod splice;
mod stream;

pub use stream::{AppStream, StreamEnd};

use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use pool::{Pool, Purpose};
use postern_protocol::discovery::RelayEndpoint;
use postern_protocol::{AppName, Code, DecisionId, MAX_CONTROL_BYTES, Problem, headers, problem};
use rustls::pki_types::CertificateDer;
use rustls::sign::SigningKey;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A body towards the relay: bytes at hand, or what a local client is sending.
pub type Body = Either<Full<Bytes>, Incoming>;

/// A body of bytes at hand; `full("")` is none.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Either::Left(Full::new(bytes.into()))
}

/// The device's certificate and key, as the relay asks for at the handshake.
#[derive(Clone)]
pub struct TlsIdentity {
    /// The chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Signs with the device key.
    pub key: Arc<dyn SigningKey>,
}

/// How long the relay may take to answer `CONNECT`: it has to reach the upstream first.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// How long the relay's acknowledgement of our goodbye may take.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

/// Does the relay answer, as itself? Takes no certificate of the device, and so is good for nothing more.
pub(crate) async fn reach(endpoint: &RelayEndpoint) -> Result<(), Problem> {
    let (local, connection) = dial::connect(endpoint, None).await?;
    connection.close(quinn::VarInt::from_u32(0), b"");
    let _ = tokio::time::timeout(GOODBYE_LIMIT, local.wait_idle()).await;
    Ok(())
}

/// One QUIC connection to the relay. Dropping it ends the connection once its last stream has ended.
pub struct Link {
    endpoint: quinn::Endpoint,
    connection: quinn::Connection,
    pool: Arc<Pool>,
    /// The relay has gone silent: no new request goes this way.
    lost: CancellationToken,
}

impl Link {
    /// Connects to a relay, trusting nothing but the authority it named in its discovery document.
    pub async fn dial(endpoint: &RelayEndpoint, identity: TlsIdentity) -> Result<Arc<Self>, Problem> {
        let (endpoint, connection) = dial::connect(endpoint, Some(identity)).await?;
        let pool = Pool::start(connection.clone());
        let link = Arc::new(Self { endpoint, connection, pool, lost: CancellationToken::new() });
        tokio::spawn(silence::watch(Arc::downgrade(&link)));
        Ok(link)
    }

    /// Sends an app's request and returns the answer once its head is here. Dropping the future resets the stream.
    ///
    /// A refusal by the relay is an answer too: see [`problem_in`].
    pub async fn request(&self, request: Request<Body>) -> Result<Response<Incoming>, Problem> {
        self.send(Purpose::App, request).await
    }

    /// The same for what keeps the session alive: it gets a stream even when apps use all that they may.
    pub async fn control(&self, request: Request<Body>) -> Result<Response<Incoming>, Problem> {
        self.send(Purpose::Control, request).await
    }

    async fn send(&self, purpose: Purpose, request: Request<Body>) -> Result<Response<Incoming>, Problem> {
        tokio::select! {
            biased;
            () = self.lost.cancelled() => Err(silent()),
            answer = self.exchange(purpose, request) => answer,
        }
    }

    async fn exchange(&self, purpose: Purpose, mut request: Request<Body>) -> Result<Response<Incoming>, Problem> {
        loop {
            let (mut sender, reused) = self.pool.take(purpose).await?;
            let mut failure = match sender.try_send_request(request).await {
                Ok(response) => {
                    self.pool.put(purpose, sender);
                    return Ok(response);
                }
                Err(failure) => failure,
            };
            match failure.take_message() {
                // The relay closed an idle stream as we took it: nothing was sent, so a fresh one may.
                Some(unsent) if reused => request = unsent,
                _ => return Err(cause::of_exchange(&self.connection, &failure.into_error())),
            }
        }
    }

    /// Opens a stream of bytes to a `tcp` app.
    pub async fn connect(&self, app: &AppName, port: u16, bearer: &HeaderValue) -> Result<AppStream, Problem> {
        let response = tokio::time::timeout(CONNECT_LIMIT, self.request(connect_request(app, port, bearer)?))
            .await
            .map_err(|_| Problem::new(Code::UpstreamTimeout))??;
        let response = problem_in(response).await?;
        if !response.status().is_success() {
            let detail = format!("the relay answered CONNECT with {}", response.status().as_u16());
            return Err(Problem::new(Code::Internal).detail(detail));
        }
        let decision = decision_in(response.headers());
        let upgraded =
            hyper::upgrade::on(response).await.map_err(|error| cause::of_exchange(&self.connection, &error))?;
        AppStream::of_upgraded(upgraded)
            .map(|stream| stream.decided(decision))
            .ok_or_else(|| Problem::new(Code::Internal).detail("an upgraded stream has an unknown transport"))
    }

    /// Waits until the connection takes no more requests and tells why. Streams of a relay that has only gone
    /// silent live on, for as long as QUIC hopes to hear of it again.
    pub async fn closed(&self) -> Problem {
        tokio::select! {
            ended = self.connection.closed() => cause::of_connection(&ended),
            () = self.lost.cancelled() => silent(),
        }
    }

    /// Waits until the relay has been told of the end, or does not listen any more.
    pub async fn gone(&self) {
        let _ = tokio::time::timeout(GOODBYE_LIMIT, self.endpoint.wait_idle()).await;
    }

    /// Ends the connection and all of its streams at once.
    pub fn close(&self) {
        self.connection.close(0u32.into(), b"");
    }
}

fn silent() -> Problem {
    Problem::new(Code::RelayUnreachable).detail("it does not answer any more")
}

/// `CONNECT app:port`; its target is in authority form, as RFC 9110 §9.3.6 wants it.
fn connect_request(app: &AppName, port: u16, bearer: &HeaderValue) -> Result<Request<Body>, Problem> {
    let target = format!("{app}:{port}");
    let invalid = |error: http::Error| Problem::new(Code::Internal).detail(error.to_string());
    let uri = Uri::builder().authority(target.as_str()).build().map_err(invalid)?;
    Request::builder()
        .method(Method::CONNECT)
        .uri(uri)
        .header(HOST, target)
        .header(PROXY_AUTHORIZATION, bearer)
        .body(full(""))
        .map_err(invalid)
}

/// A refusal by the relay as the problem it carries; any other answer as it is.
pub async fn problem_in(response: Response<Incoming>) -> Result<Response<Incoming>, Problem> {
    let Some(code) = refusal_code(&response) else { return Ok(response) };
    let document = read_body(response.into_body(), MAX_CONTROL_BYTES).await.unwrap_or_default();
    Err(refusal(code, &document))
}

/// The relay's decision on a request: only the relay sets this header, it drops an upstream's own.
pub fn decision_in(answer: &HeaderMap) -> Option<DecisionId> {
    answer.get(headers::DECISION)?.to_str().ok()?.parse().ok()
}

/// The code of a refusal: only the relay sets this header, it drops an upstream's own.
fn refusal_code(response: &Response<Incoming>) -> Option<Code> {
    let text = response.headers().get(headers::CODE)?.to_str().ok()?;
    Some(Code::ALL.iter().copied().find(|code| code.as_str() == text).unwrap_or(Code::Internal))
}

/// The problem of `code` with what the document says of this case. The words of the table stay this agent's
/// own, and what the relay adds is cut to a length that a person can read.
fn refusal(code: Code, document: &[u8]) -> Problem {
    let own = Problem::new(code);
    let Ok(told) = serde_json::from_slice::<Problem>(document) else { return own };
    let short = |text: Option<String>| text.map(|text| problem::printable(&text).chars().take(1000).collect());
    let step_up = told.step_up.filter(|_| code == Code::StepUpRequired);
    let problem = Problem { detail: short(told.detail), decision: told.decision, step_up, ..own };
    problem.advice(short(told.reason), short(told.fix))
}

/// A whole body of at most `max` bytes.
pub async fn read_body(body: Incoming, max: usize) -> Result<Bytes, Problem> {
    match Limited::new(body, max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(Problem::new(Code::UpstreamInvalid).detail(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
