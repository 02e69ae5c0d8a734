//! The loopback redirect (RFC 8252 §7.3): listens for one answer, to one sign-in, and believes nothing else.

use super::page::Page;
use crate::peer;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use postern_client::user::User;
use postern_protocol::problem::printable;
use postern_protocol::{Code, Problem};
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

const PATH: &str = "/callback";
/// Browsers open a few connections ahead; more at once are not a browser's.
const MAX_CONNECTIONS: usize = 16;
const MAX_HEAD: usize = 32 * 1024;
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How long the browser's page waits for the sign-in to be completed.
const PAGE_LIMIT: Duration = Duration::from_secs(40);
const MAX_CODE: usize = 8 * 1024;

/// A bound listener for one sign-in.
pub(super) struct Redirect {
    listener: TcpListener,
    port: u16,
    /// Whose browser it is.
    user: User,
}

/// What the answer must carry.
#[derive(Clone)]
pub(super) struct Expected {
    pub(super) state: String,
    /// The provider's `iss`, where it says that it sends one (RFC 9207).
    pub(super) issuer: Option<String>,
    /// The same, to compare with one that it sends without saying so.
    pub(super) known_issuer: String,
}

/// An answer that belongs to this sign-in. The browser waits for [`Callback::finish`].
pub(super) struct Callback {
    /// The code, or why there is none.
    pub(super) outcome: Result<String, Problem>,
    page: oneshot::Sender<Page>,
}

impl Callback {
    /// Shows the person how it went.
    pub(super) fn finish(self, problem: Option<&Problem>) {
        let page = problem.map_or(Page::SignedIn, |problem| Page::Failed(Box::new(problem.clone())));
        // A person who closed the tab misses nothing.
        let _ = self.page.send(page);
    }
}

impl Redirect {
    /// Binds 127.0.0.1, on a free port or on the one that the provider insists on.
    pub(super) async fn bind(fixed: Option<u16>) -> Result<Self, Problem> {
        let port = fixed.unwrap_or(0);
        let taken = |error: std::io::Error| Problem::new(Code::PortInUse).detail(format!("127.0.0.1:{port}: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(taken)?;
        let port = listener.local_addr().map_err(taken)?.port();
        Ok(Self { listener, port, user: User::own() })
    }

    pub(super) fn uri(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.port)
    }

    /// Waits for the answer. After it nobody listens any more.
    pub(super) async fn wait(self, expected: Expected) -> Result<Callback, Problem> {
        let judge = Arc::new(Judge { expected, port: self.port });
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let (sender, mut answers) = mpsc::channel(1);
        loop {
            let accept = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (self.listener.accept().await, slot)
            };
            tokio::select! {
                biased;
                Some(callback) = answers.recv() => return Ok(callback),
                (accepted, slot) = accept => match (accepted, slot) {
                    // Others on this machine can read the address off a command line, and answer it as themselves.
                    (Ok((stream, _)), Ok(_)) if peer::check(&self.user, &stream).is_err() => drop(stream),
                    (Ok((stream, _)), Ok(slot)) => {
                        tokio::spawn(serve(stream, Arc::clone(&judge), sender.clone(), slot));
                    }
                    // A client that went away before it was accepted is no reason to stop waiting.
                    (Err(_), _) => tokio::time::sleep(Duration::from_millis(100)).await,
                    (_, Err(_)) => return Err(Problem::new(Code::Internal)),
                },
            }
        }
    }
}

async fn serve(stream: TcpStream, judge: Arc<Judge>, answers: mpsc::Sender<Callback>, slot: OwnedSemaphorePermit) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (judge, answers) = (Arc::clone(&judge), answers.clone());
        async move { Ok::<_, Infallible>(answer(&request.into_parts().0, &judge, &answers).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_buf_size(MAX_HEAD).keep_alive(false);
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    drop(slot);
}

async fn answer(head: &Parts, judge: &Judge, answers: &mpsc::Sender<Callback>) -> Response<Full<Bytes>> {
    let outcome = match judge.judge(head) {
        Ok(outcome) => outcome,
        Err((why, status)) => return Page::Rejected(why, status).response(),
    };
    let (page, shown) = oneshot::channel();
    // The channel takes one, and is closed once the flow has it: a second answer finds no room.
    if answers.try_send(Callback { outcome, page }).is_err() {
        return Page::Rejected("The sign-in has its answer already.", StatusCode::GONE).response();
    }
    match tokio::time::timeout(PAGE_LIMIT, shown).await {
        Ok(Ok(page)) => page.response(),
        _ => Page::Failed(Box::new(Problem::new(Code::SignInCancelled))).response(),
    }
}

struct Judge {
    expected: Expected,
    port: u16,
}

type Rejection = (&'static str, StatusCode);

impl Judge {
    /// Is this the browser bringing the answer to this sign-in? Then what is the answer?
    fn judge(&self, head: &Parts) -> Result<Result<String, Problem>, Rejection> {
        self.check_source(head)?;
        if head.uri.path() != PATH {
            return Err(("There is nothing at this address.", StatusCode::NOT_FOUND));
        }
        if head.method != Method::GET {
            return Err(("Only GET is answered here.", StatusCode::METHOD_NOT_ALLOWED));
        }
        let query = Query::parse(head.uri.query().unwrap_or_default())?;
        let state = query.state.as_deref().unwrap_or_default();
        if verify_slices_are_equal(state.as_bytes(), self.expected.state.as_bytes()).is_err() {
            return Err(("Its state is not that of this sign-in.", StatusCode::BAD_REQUEST));
        }
        // Whoever knows the state answers for this sign-in: from here on the answer counts, for better or worse.
        Ok(self.outcome(query))
    }

    /// A page of another origin, or another name that leads here, has no business with the redirect.
    fn check_source(&self, head: &Parts) -> Result<(), Rejection> {
        let mut hosts = head.headers.get_all(HOST).iter();
        let host = hosts.next().map(http::HeaderValue::as_bytes);
        if host != Some(format!("127.0.0.1:{}", self.port).as_bytes()) || hosts.next().is_some() {
            return Err(("It was sent to another host's name.", StatusCode::MISDIRECTED_REQUEST));
        }
        if head.headers.contains_key(ORIGIN) {
            return Err(("It was sent by a script or form of a page.", StatusCode::FORBIDDEN));
        }
        let says = |name: &str, wanted: &str| head.headers.get(name).is_none_or(|value| value == wanted);
        if !says("sec-fetch-mode", "navigate") || !says("sec-fetch-dest", "document") {
            return Err(("It was not opened as a page.", StatusCode::FORBIDDEN));
        }
        Ok(())
    }

    fn outcome(&self, query: Query) -> Result<String, Problem> {
        let issuer = query.issuer.as_deref();
        let wrong = match (&self.expected.issuer, issuer) {
            (Some(expected), issuer) => issuer != Some(expected.as_str()),
            (None, Some(issuer)) => issuer != self.expected.known_issuer,
            (None, None) => false,
        };
        if wrong {
            return Err(
                Problem::new(Code::CallbackRejected).detail("the answer is not from the provider that was asked (iss)")
            );
        }
        if let Some(error) = query.error {
            let code = if error == "access_denied" { Code::SignInCancelled } else { Code::SignInFailed };
            let text: String = printable(&query.description.unwrap_or(error)).chars().take(300).collect();
            return Err(Problem::new(code).detail(format!("the provider says: {text}")));
        }
        match query.code {
            Some(code) if !code.is_empty() && code.len() <= MAX_CODE => Ok(code),
            _ => Err(Problem::new(Code::SignInFailed).detail("the provider's answer has no code")),
        }
    }
}

/// The parameters that count. None may come twice (RFC 6749 §3.1).
#[derive(Default)]
struct Query {
    code: Option<String>,
    state: Option<String>,
    issuer: Option<String>,
    error: Option<String>,
    description: Option<String>,
}

impl Query {
    fn parse(text: &str) -> Result<Self, Rejection> {
        let mut query = Self::default();
        for (key, value) in form_urlencoded::parse(text.as_bytes()) {
            let slot = match &*key {
                "code" => &mut query.code,
                "state" => &mut query.state,
                "iss" => &mut query.issuer,
                "error" => &mut query.error,
                "error_description" => &mut query.description,
                _ => continue,
            };
            if slot.replace(value.into_owned()).is_some() {
                return Err(("A parameter comes twice.", StatusCode::BAD_REQUEST));
            }
        }
        Ok(query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::stranger;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A04: another user of this machine can read the address off a command line. The sign-in is not theirs to answer.
    #[tokio::test]
    async fn a04_another_user_of_the_machine_is_not_answered() {
        let redirect = Redirect { user: stranger(), ..Redirect::bind(None).await.unwrap() };
        let port = redirect.port;
        let expected = Expected { state: "known".into(), issuer: None, known_issuer: "x".into() };
        let waiting = tokio::spawn(redirect.wait(expected));
        for query in ["code=theirs&state=known", "error=access_denied&state=known"] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let request = format!("GET {PATH}?{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
            let _ = stream.write_all(request.as_bytes()).await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            assert!(answer.is_empty());
            assert!(!waiting.is_finished());
        }
        waiting.abort();
    }
}
