//! The listener of `http` apps over real sockets, in front of a mock relay.

use super::*;
use crate::mock_relay::{MockEngine, MockRelay, Stream, access, entry, on_stream, refusal as refused};
use crate::testing::stranger;
use crate::uplink::{Notice, Uplink};
use ::http::header::{AUTHORIZATION, LOCATION, PROXY_AUTHORIZATION};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;
use postern_client::user::User;
use postern_protocol::control::AppKind;
use postern_protocol::local::DenialKind;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::AsyncRead;

/// The listener under test.
struct Local {
    address: SocketAddr,
}

impl Local {
    async fn serve(access: Access) -> Self {
        Self::serve_for(User::own(), access).await
    }

    async fn serve_for(user: User, access: Access) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let wiki = LocalApp { entry: entry("wiki", AppKind::Http), local: String::new(), command: None, problem: None };
        let apps = watch::channel(Arc::from([wiki])).1;
        tokio::spawn(serve(Arc::new(listener), user, Arc::new(Site { port: address.port(), access, apps })));
        Self { address }
    }

    fn host(&self) -> String {
        format!("wiki.localhost:{}", self.address.port())
    }

    fn get(&self, path: &str) -> ::http::request::Builder {
        Request::get(path).header(HOST, self.host())
    }

    async fn send<B>(&self, request: Request<B>) -> Response<Incoming>
    where
        B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.unwrap()
    }

    /// The code of the refusal of a request.
    async fn code_of(&self, request: ::http::request::Builder) -> Option<String> {
        let response = self.send(request.body(nothing()).unwrap()).await;
        response.headers().get(headers::CODE).map(|code| code.to_str().unwrap().to_owned())
    }
}

fn nothing() -> Full<Bytes> {
    Full::default()
}

fn code_and_status(response: &Response<Incoming>) -> (String, u16) {
    (response.headers()[headers::CODE].to_str().unwrap().to_owned(), response.status().as_u16())
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// A mock relay that counts and otherwise answers `ok`.
fn counting() -> (MockRelay, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let relay = MockRelay::start(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Response::new(full("ok")) }
    });
    (relay, count)
}

/// A44: what passes for Postern's own is dropped, in whatever spelling, and what holds for one hop stays there.
#[tokio::test]
async fn a44_the_relay_sees_the_request_and_nothing_that_passes_for_ours() {
    let seen = Arc::new(Mutex::new(None));
    let keep = seen.clone();
    let relay = MockRelay::start(move |request: Request<Incoming>| {
        *keep.lock() = Some((request.uri().clone(), request.headers().clone()));
        async { Response::new(full("ok")) }
    });
    let local = Local::serve(access(relay.uplink("real-token").await)).await;
    let request = local
        .get("/a//b?q=%2e#f")
        .header("authorization", "Basic app")
        .header("cookie", "c=1")
        .header("x-postern-identity", "forged")
        .header("X_Postern_Identity", "forged")
        .header("postern-local-authority", "forged")
        .header("proxy-authorization", "Bearer stolen")
        .header("connection", "x-hop, host, authorization-not")
        .header("x-hop", "1")
        .header("te", "trailers")
        .body(nothing());
    assert_eq!(local.send(request.unwrap()).await.status(), 200);
    let (uri, headers) = seen.lock().take().unwrap();
    assert_eq!(uri, "/a//b?q=%2e");
    let mut names: Vec<_> = headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["authorization", "cookie", "host", "postern-local-authority", "proxy-authorization"]);
    assert_eq!(headers[HOST], "wiki");
    assert_eq!(headers[AUTHORIZATION], "Basic app");
    assert_eq!(headers[PROXY_AUTHORIZATION], "Bearer real-token");
    assert_eq!(headers[headers::LOCAL_AUTHORITY], local.host());
}

#[tokio::test]
async fn an_answer_comes_back_as_the_app_gave_it() {
    let relay = MockRelay::start(|_| async {
        let answer = Response::builder().status(404).header("etag", "1").header("x-postern-x", "forged");
        answer.header("connection", "x-hop").header("x-hop", "1").body(full("not here")).unwrap()
    });
    let local = Local::serve(access(relay.uplink("t").await)).await;
    let answer = local.send(local.get("/").body(nothing()).unwrap()).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["etag"]), (404, &HeaderValue::from_static("1")));
    assert!(!answer.headers().contains_key("x-postern-x") && !answer.headers().contains_key("x-hop"));
    assert_eq!(text(answer).await, "not here");
}

/// A19: the agent follows no redirect, so nothing goes to another host.
#[tokio::test]
async fn a19_a_redirect_is_the_browsers_to_follow() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let relay = MockRelay::start(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Response::builder().status(302).header(LOCATION, "http://evil.example/").body(full("")).unwrap() }
    });
    let local = Local::serve(access(relay.uplink("secret-token").await)).await;
    let answer = local.send(local.get("/").body(nothing()).unwrap()).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()[LOCATION]),
        (302, &HeaderValue::from_static("http://evil.example/"))
    );
    assert!(!format!("{:?}", answer.headers()).contains("secret-token"));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn bodies_stream_both_ways_and_a_slow_reader_holds_the_sender_back() {
    let may_read = Arc::new(Semaphore::new(0));
    let gate = may_read.clone();
    let relay = MockRelay::start(move |request: Request<Incoming>| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            // The answer is the request's own body, as it comes.
            Response::new(Body::Right(request.into_body()))
        }
    });
    let local = Local::serve(access(relay.uplink("t").await)).await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    const CHUNK: usize = 64 * 1024;
    const CHUNKS: usize = 480;
    let chunks = futures_util::stream::iter(0..CHUNKS).map(move |_| {
        counter.fetch_add(CHUNK, Ordering::SeqCst);
        Ok::<_, Infallible>(Frame::data(Bytes::from(vec![7; CHUNK])))
    });
    let request = Request::post("/").header(HOST, local.host()).body(StreamBody::new(chunks)).unwrap();
    let exchange = tokio::spawn(async move { local.send(request).await });
    // Nobody reads: buffers and windows fill, and then it stops.
    let mut before = usize::MAX;
    while before != sent.load(Ordering::SeqCst) {
        before = sent.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(before < CHUNK * CHUNKS * 3 / 4, "{before} bytes were taken though nobody read them");
    may_read.add_permits(1);
    let mut body = exchange.await.unwrap().into_body();
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        received += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    assert_eq!(received, CHUNK * CHUNKS);
}

/// What was cut is told, be it the body of an answer or a WebSocket.
#[tokio::test]
async fn a_cut_answer_is_told_with_the_cause_it_was_cut_for() {
    for switches in [false, true] {
        let relay = MockRelay::start(move |request: Request<Incoming>| async move {
            let first = Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"half an ans")));
            let frames = futures_util::stream::iter([first]).chain(futures_util::stream::pending());
            let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
            if switches {
                answer = websocket(request, |_| std::future::pending()).map(|_| nothing().boxed_unsync());
            }
            answer
        });
        let uplink = relay.uplink("t").await;
        let local = Local::serve(access(uplink.clone())).await;
        let mut request = local.get("/");
        if switches {
            request = request.header("connection", "Upgrade").header("upgrade", "websocket");
        }
        let mut answer = local.send(request.body(nothing()).unwrap()).await;
        let mut told = uplink.subscribe();
        if switches {
            let mut stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
            stream.write_all(b"hello").await.unwrap();
            relay.close(Code::SessionRevoked);
            assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
        } else {
            answer.body_mut().frame().await.unwrap().unwrap();
            relay.close(Code::SessionRevoked);
            assert!(answer.body_mut().frame().await.unwrap().is_err(), "cut, not ended");
        }
        let told = tokio::time::timeout(Duration::from_secs(10), told.recv()).await.expect("it is told").unwrap();
        let Notice::Denied(told) = told else { panic!("{told:?}") };
        assert_eq!((told.kind, told.app.as_str(), told.problem.code), (DenialKind::Cut, "wiki", Code::SessionRevoked));
    }
}

/// A relay that wants a newer token than `old`, and an engine that gets one.
async fn renewing(seen: Arc<AtomicUsize>) -> (MockRelay, Access) {
    let relay = MockRelay::start(move |request: Request<Incoming>| {
        seen.fetch_add(1, Ordering::SeqCst);
        let fresh = request.headers()[PROXY_AUTHORIZATION] == "Bearer new";
        async move { if fresh { Response::new(full("ok")) } else { refused(&Problem::new(Code::TokenExpired)) } }
    });
    let uplink = relay.uplink("old").await;
    let (later, link) = (uplink.clone(), relay.dial().await);
    let renew = move |_| {
        later.set(Some((link.clone(), "new".to_owned().into())), Problem::new(Code::Internal));
        Ok(())
    };
    (relay, Access::new(uplink, Arc::new(MockEngine(renew))))
}

#[tokio::test]
async fn an_ended_token_is_renewed_and_the_request_sent_once_more() {
    let seen = Arc::new(AtomicUsize::new(0));
    let (_relay, access) = renewing(seen.clone()).await;
    let local = Local::serve(access).await;
    let answer = local.send(local.get("/").body(nothing()).unwrap()).await;
    assert_eq!((answer.status().as_u16(), text(answer).await.as_str()), (200, "ok"));
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

/// A body exists once: its sender must decide whether to send it again.
#[tokio::test]
async fn a_request_with_a_body_is_not_sent_twice() {
    let seen = Arc::new(AtomicUsize::new(0));
    let (_relay, access) = renewing(seen.clone()).await;
    let local = Local::serve(access).await;
    let post = || Request::post("/").header(HOST, local.host()).body(Full::new(Bytes::from_static(b"once"))).unwrap();
    let answer = local.send(post()).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()[headers::CODE]),
        (407, &HeaderValue::from_static("token_expired"))
    );
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    assert_eq!(local.send(post()).await.status(), 200, "the token was renewed meanwhile");
}

/// A18: whatever a page of another site tries, no request of it reaches the relay.
#[tokio::test]
async fn a18_no_request_of_another_site_reaches_the_relay() {
    let (relay, asked) = counting();
    let local = Local::serve(access(relay.uplink("t").await)).await;
    let port = local.address.port();
    let cross_site = Some("cross_site".to_owned());
    let evil = "https://evil.example";
    assert_eq!(local.code_of(local.get("/").header("origin", evil)).await, cross_site);
    assert_eq!(local.code_of(local.get("/").header("sec-fetch-site", "cross-site")).await, cross_site);
    assert_eq!(local.code_of(local.get("/").header("sec-fetch-site", "same-site")).await, cross_site);
    let websocket = local.get("/").header("connection", "upgrade").header("upgrade", "websocket");
    assert_eq!(local.code_of(websocket.header("origin", evil)).await, cross_site);
    let preflight = local.get("/").method("OPTIONS").header("access-control-request-method", "PUT");
    assert_eq!(local.code_of(preflight.header("origin", evil)).await, cross_site);
    for host in [format!("evil.example:{port}"), format!("127.0.0.1:{port}"), "wiki.localhost".into()] {
        let code = local.code_of(Request::get("/").header(HOST, host)).await;
        assert_eq!(code.as_deref(), Some("host_refused"));
    }
    let twice = local.get("/").header(HOST, "crm.localhost");
    assert_eq!(local.code_of(twice).await.as_deref(), Some("request_invalid"));
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

/// A18: a link from another site shows a page that asks, and its link leads to this app and nowhere else.
#[tokio::test]
async fn a18_a_link_from_another_site_asks_the_user_first() {
    let (relay, asked) = counting();
    let local = Local::serve(access(relay.uplink("t").await)).await;
    let followed = local.get("//evil.example/'onload='x\"y?a=1&b=2").header("sec-fetch-site", "cross-site");
    let followed = followed.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document");
    let answer = local.send(followed.body(nothing()).unwrap()).await;
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.headers()["cross-origin-opener-policy"], "same-origin");
    let page = text(answer).await;
    assert!(!page.contains("'onload") && !page.contains("x\"y"), "{page}");
    let address = format!("href=\"http://{}//evil.example/", local.host());
    assert!(page.contains(&address), "{page}");
    assert!(page.contains("a=1&amp;b=2"), "{page}");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

/// A18: another user of the machine. The listener expects a user who is not the one that asks.
#[tokio::test]
async fn a18_another_user_is_turned_away_unread() {
    let (relay, asked) = counting();
    let local = Local::serve_for(stranger(), access(relay.uplink("t").await)).await;
    let answer = local.send(local.get("/").body(nothing()).unwrap()).await;
    assert_eq!(answer.status(), 403);
    assert!(text(answer).await.contains("peer_refused"));
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn offline_and_refused_are_told_to_people_and_programs() {
    let told = Problem::new(Code::PolicyDenied).advice(Some("contractors have no access".into()), None);
    let relay = MockRelay::start(move |_| {
        let answer = refused(&told);
        async { answer }
    });
    let uplink = relay.uplink("t").await;
    let local = Local::serve(access(uplink.clone())).await;
    let program = local.send(local.get("/").body(nothing()).unwrap()).await;
    assert_eq!(
        (program.status().as_u16(), &program.headers()[headers::CODE]),
        (403, &HeaderValue::from_static("policy_denied"))
    );
    assert_eq!(program.headers()[CONTENT_TYPE], problem::MEDIA_TYPE);
    assert_eq!(program.headers()["proxy-status"], "postern; error=http_request_denied; details=\"policy_denied\"");
    let document: Problem = serde_json::from_str(&text(program).await).unwrap();
    assert_eq!(document.reason.as_deref(), Some("contractors have no access"));
    let person = local.get("/").header(ACCEPT, "text/html,application/xhtml+xml;q=0.9");
    let person = local.send(person.body(nothing()).unwrap()).await;
    assert_eq!(person.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
    assert!(text(person).await.contains("contractors have no access"));
    uplink.set(None, Problem::new(Code::RelayUnreachable));
    let offline = local.send(local.get("/").body(nothing()).unwrap()).await;
    assert_eq!(code_and_status(&offline), ("relay_unreachable".into(), 503));
    // A browser would take 407 for a proxy's word and show a page of its own.
    uplink.set(None, Problem::new(Code::NotSignedIn));
    for (request, status) in [(local.get("/"), 407), (local.get("/").header("sec-fetch-mode", "cors"), 401)] {
        let answer = local.send(request.body(nothing()).unwrap()).await;
        assert_eq!(code_and_status(&answer), ("not_signed_in".into(), status));
        assert_eq!(answer.headers().contains_key(WWW_AUTHENTICATE), status == 401);
    }
}

#[tokio::test]
async fn the_index_lists_the_apps_to_its_own_user_only() {
    let local = Local::serve(access(Uplink::new())).await;
    let host = format!("localhost:{}", local.address.port());
    let page = local.send(Request::get("/").header(HOST, &host).body(nothing()).unwrap()).await;
    assert_eq!(page.headers()["referrer-policy"], "origin");
    let page = text(page).await;
    assert!(page.contains("wiki") && page.contains(Code::NotSignedIn.summary()), "{page}");
    let foreign = Request::get("/").header(HOST, &host).header("sec-fetch-site", "cross-site");
    assert_eq!(local.code_of(foreign).await.as_deref(), Some("cross_site"));
    assert_eq!(local.code_of(Request::post("/").header(HOST, &host)).await.as_deref(), Some("method_not_allowed"));
    assert_eq!(local.code_of(Request::get("/x").header(HOST, &host)).await.as_deref(), Some("not_found"));
}

/// A42, A43: what is no acceptable head never becomes a request.
#[tokio::test]
async fn a42_a43_a_bad_head_reaches_nobody() {
    let (relay, asked) = counting();
    let local = Local::serve(access(relay.uplink("t").await)).await;
    let host = local.host();
    let bomb = format!("GET / HTTP/1.1\r\nhost: {host}\r\nx: {}\r\n\r\n", "x".repeat(MAX_HEADER_BYTES));
    let two_lengths = format!("POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx");
    let folded = format!("GET / HTTP/1.1\r\nhost: {host}\r\nx: a\r\n b\r\n\r\n");
    let nul = format!("GET / HTTP/1.1\r\nhost: {host}\r\nx: a\0b\r\n\r\n");
    let no_host = "GET / HTTP/1.1\r\n\r\n".to_owned();
    for head in [bomb, two_lengths, folded, nul, no_host] {
        let mut stream = TcpStream::connect(local.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = first_line(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 4") || answer.is_empty(), "{answer}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

async fn first_line(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = vec![0; 100];
    let read = stream.read(&mut answer).await.unwrap_or(0);
    String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_owned()
}

/// Switches to a WebSocket, which is the test's to drive.
fn websocket<F, R>(request: Request<Incoming>, app: F) -> Response<Body>
where
    F: FnOnce(Box<dyn Stream>) -> R + Send + 'static,
    R: Future<Output = ()> + Send,
{
    let mut answer = on_stream(request, app);
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
    answer
}

#[tokio::test]
async fn a_websocket_becomes_a_stream_of_bytes() {
    let relay = MockRelay::start(|request: Request<Incoming>| async {
        assert_eq!(request.headers()["upgrade"], "websocket");
        websocket(request, |mut stream| async move {
            let mut said = [0; 5];
            stream.read_exact(&mut said).await.unwrap();
            stream.write_all(&said).await.unwrap();
        })
    });
    let local = Local::serve(access(relay.uplink("t").await)).await;
    let request = local.get("/chat").header("connection", "Upgrade").header("upgrade", "websocket");
    let answer = local.send(request.body(nothing()).unwrap()).await;
    assert_eq!(answer.status(), 101);
    let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
}
