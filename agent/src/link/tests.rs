//! The link against a mock relay that speaks real QUIC, TLS and HTTP.

use super::*;
use crate::forger::{APPLICATION_CLOSE, CLOSE, Forger, close_frame};
use crate::mock_relay::{Authority, MockRelay, echo, on_stream, refusal};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;

fn get(path: &str) -> Request<Body> {
    Request::builder().uri(path).header(HOST, "wiki").body(full("")).unwrap()
}

fn bearer() -> HeaderValue {
    HeaderValue::from_static("Bearer token")
}

fn db() -> AppName {
    "db".parse().unwrap()
}

async fn ok(_: Request<Incoming>) -> Response<Body> {
    Response::new(full("answer"))
}

#[tokio::test]
async fn streams_are_used_again_one_request_at_a_time() {
    let relay = MockRelay::start(ok);
    let link = relay.dial().await;
    for _ in 0..10 {
        let answer = link.request(get("/")).await.unwrap();
        assert_eq!(read_body(answer.into_body(), 100).await.unwrap(), "answer");
        tokio::task::yield_now().await;
    }
    assert_eq!(relay.streams.load(Ordering::SeqCst), 1);
    let (one, two) = tokio::join!(link.request(get("/1")), link.request(get("/2")));
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(relay.streams.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_stream_that_the_relay_closed_is_not_used_again() {
    let relay =
        MockRelay::start(|_| async { Response::builder().header("connection", "close").body(full("answer")).unwrap() });
    let link = relay.dial().await;
    for _ in 0..5 {
        read_body(link.request(get("/")).await.unwrap().into_body(), 100).await.unwrap();
    }
    assert_eq!(relay.streams.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn only_the_authority_of_the_discovery_document_is_trusted() {
    let relay = MockRelay::start(ok);
    let endpoint = RelayEndpoint { ca_pem: Authority::new().pem, ..relay.endpoint.clone() };
    let problem = Link::dial(&endpoint, relay.identity.clone()).await.err().unwrap();
    assert_eq!(problem.code, Code::RelayUntrusted);
    let endpoint = RelayEndpoint { server_name: "other.test".into(), ..relay.endpoint.clone() };
    let problem = Link::dial(&endpoint, relay.identity.clone()).await.err().unwrap();
    assert_eq!(problem.code, Code::RelayUntrusted);
}

/// A17: what a hostile discovery document holds ends in a problem, not a panic.
#[tokio::test]
async fn a17_an_unusable_endpoint_is_a_problem() {
    let relay = MockRelay::start(ok);
    for (quic, server_name, ca_pem) in [
        ("127.0.0.1:1", "relay.test", "no pem"),
        ("127.0.0.1:1", "relay.test", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        (&relay.endpoint.quic, "not a name!", &relay.endpoint.ca_pem),
        ("no port", "relay.test", &relay.endpoint.ca_pem),
        ("", "relay.test", &relay.endpoint.ca_pem),
    ] {
        let endpoint = RelayEndpoint { quic: quic.into(), server_name: server_name.into(), ca_pem: ca_pem.into() };
        let problem = Link::dial(&endpoint, relay.identity.clone()).await.err().unwrap();
        assert!(matches!(problem.code, Code::DiscoveryInvalid | Code::RelayUnreachable), "{problem:?}");
    }
}

#[tokio::test]
async fn a_device_that_the_relay_does_not_accept_is_told_so() {
    let relay = MockRelay::start(ok);
    let stranger = Authority::new().identity("stranger");
    let refused = match Link::dial(&relay.endpoint, stranger).await {
        Ok(link) => link.request(get("/")).await.err().unwrap(),
        Err(problem) => problem,
    };
    assert_eq!(refused.code, Code::CertificateInvalid);
}

#[tokio::test]
async fn the_relays_cause_of_closing_arrives() {
    let relay = MockRelay::start(ok);
    let link = relay.dial().await;
    link.request(get("/")).await.unwrap();
    relay.close(Code::DeviceRevoked);
    assert_eq!(link.closed().await.code, Code::DeviceRevoked);
    assert_eq!(link.request(get("/")).await.err().unwrap().code, Code::DeviceRevoked);
}

/// Else the relay would hold the session's streams until it notices the silence.
#[tokio::test]
async fn the_relay_is_told_of_the_end() {
    let (gone, mut told) = tokio::sync::mpsc::channel(1);
    let relay = MockRelay::start(move |_| {
        let given_up = NoticeDrop(gone.clone());
        async move {
            let _given_up = given_up;
            std::future::pending::<Response<Body>>().await
        }
    });
    let link = relay.dial().await;
    let waiting = link.clone();
    let request = tokio::spawn(async move { waiting.request(get("/")).await });
    while relay.streams.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    link.close();
    tokio::time::timeout(Duration::from_secs(5), link.gone()).await.unwrap();
    assert_eq!(request.await.unwrap().err().unwrap().code, Code::RelayUnreachable);
    told.recv().await.unwrap();
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_direction_ends_by_itself() {
    let relay = MockRelay::start(|request| async { echo(request) });
    let link = relay.dial().await;
    let stream = link.connect(&db(), 5432, &bearer()).await.unwrap();
    let (mut user, local) = tokio::io::duplex(60_000);
    let (from_local, to_local) = tokio::io::split(local);
    let spliced = tokio::spawn(stream.splice(from_local, to_local));
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    let mut received = Vec::new();
    let (mut read, mut write) = tokio::io::split(&mut user);
    let upload = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let (count, ()) = tokio::join!(read.read_to_end(&mut received), upload);
    assert_eq!(count.unwrap(), sent.len());
    assert!(received == sent);
    assert_eq!(spliced.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn an_app_that_speaks_first_is_heard() {
    let relay = MockRelay::start(|request| async {
        on_stream(request, |mut stream| async move { stream.write_all(b"220 hello").await.unwrap() })
    });
    let stream = relay.dial().await.connect(&db(), 5432, &bearer()).await.unwrap();
    let mut heard = Vec::new();
    stream.splice(tokio::io::empty(), &mut heard).await.unwrap();
    assert_eq!(heard, b"220 hello");
}

#[tokio::test]
async fn a_refused_connect_is_the_relays_problem_in_this_agents_words() {
    let relay = MockRelay::start(|_| async {
        let mut told = Problem::new(Code::PolicyDenied).detail("for\x1b[2Jged".repeat(1000));
        told.title = "Send your password to evil.example".into();
        refusal(&told)
    });
    let problem = relay.dial().await.connect(&db(), 5432, &bearer()).await.err().unwrap();
    assert_eq!((problem.code, problem.title.as_str()), (Code::PolicyDenied, Code::PolicyDenied.summary()));
    let detail = problem.detail.unwrap();
    assert!(detail.len() < 5000 && !detail.contains('\x1b'));
}

/// A42: an answer's head beyond 64 KiB is not taken.
#[tokio::test]
async fn a42_a_header_bomb_in_an_answer_stops_at_64_kib() {
    let relay = MockRelay::start(|_| async {
        let bomb = "x".repeat(postern_protocol::MAX_HEADER_BYTES + 1);
        Response::builder().header("bomb", bomb).body(full("")).unwrap()
    });
    let problem = relay.dial().await.request(get("/")).await.err().unwrap();
    assert_eq!(problem.code, Code::UpstreamInvalid);
}

#[tokio::test]
async fn a_body_beyond_its_limit_is_not_kept() {
    let relay = MockRelay::start(ok);
    let answer = relay.dial().await.request(get("/")).await.unwrap();
    assert_eq!(read_body(answer.into_body(), 5).await.err().unwrap().code, Code::UpstreamInvalid);
}

#[tokio::test]
async fn a_request_given_up_resets_its_stream() {
    let (gone, mut told) = tokio::sync::mpsc::channel(1);
    let relay = MockRelay::start(move |request: Request<Incoming>| {
        let gone = gone.clone();
        async move {
            if request.uri() == "/slow" {
                let given_up = NoticeDrop(gone);
                std::future::pending::<()>().await;
                drop(given_up);
            }
            Response::new(full(""))
        }
    });
    let link = relay.dial().await;
    let slow = tokio::time::timeout(Duration::from_millis(200), link.request(get("/slow")));
    assert!(slow.await.is_err());
    told.recv().await.unwrap();
    assert!(link.request(get("/")).await.unwrap().into_body().collect().await.is_ok());
}

struct NoticeDrop(tokio::sync::mpsc::Sender<()>);
impl Drop for NoticeDrop {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

/// New requests need not wait for a relay that has gone silent, and streams get over it.
#[tokio::test]
async fn a_silent_relay_fails_requests_soon_and_its_streams_survive() {
    let relay = MockRelay::start(|request: Request<Incoming>| async {
        if request.method() == Method::CONNECT { echo(request) } else { std::future::pending().await }
    });
    let road = Road::to(&relay.endpoint.quic).await;
    let endpoint = RelayEndpoint { quic: road.address.clone(), ..relay.endpoint.clone() };
    let link = Link::dial(&endpoint, relay.identity.clone()).await.unwrap();
    let stream = link.connect(&db(), 5432, &bearer()).await.unwrap();
    let (mut user, local) = tokio::io::duplex(100);
    let (from_local, to_local) = tokio::io::split(local);
    let spliced = tokio::spawn(stream.splice(from_local, to_local));
    road.open.store(false, Ordering::SeqCst);
    user.write_all(b"still there?").await.unwrap();
    let began = std::time::Instant::now();
    let problem = link.request(get("/")).await.err().unwrap();
    assert_eq!(problem.code, Code::RelayUnreachable);
    assert_eq!(link.closed().await.code, Code::RelayUnreachable);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    drop(link);
    road.open.store(true, Ordering::SeqCst);
    let mut answer = [0; 12];
    user.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"still there?");
    drop(user);
    spliced.await.unwrap().unwrap();
}

/// A way to the relay that can be shut without anybody being told.
struct Road {
    address: String,
    open: Arc<AtomicBool>,
}

impl Road {
    async fn to(relay: &str) -> Self {
        let (near, far) = (local_udp().await, local_udp().await);
        far.connect(relay).await.unwrap();
        let (address, open) = (near.local_addr().unwrap().to_string(), Arc::new(AtomicBool::new(true)));
        let passes = open.clone();
        tokio::spawn(async move {
            let (mut up, mut down, mut agent) = ([0; 2000], [0; 2000], None);
            loop {
                tokio::select! {
                    Ok((length, from)) = near.recv_from(&mut up) => {
                        agent = Some(from);
                        if passes.load(Ordering::SeqCst) {
                            far.send(&up[..length]).await.unwrap();
                        }
                    }
                    Ok(length) = far.recv(&mut down) => {
                        if let Some(agent) = agent.filter(|_| passes.load(Ordering::SeqCst)) {
                            near.send_to(&down[..length], agent).await.unwrap();
                        }
                    }
                }
            }
        });
        Self { address, open }
    }
}

async fn local_udp() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

/// However many streams apps hold, what keeps the session alive gets one; and it gives back what it took.
#[tokio::test]
async fn apps_cannot_take_the_last_streams_from_control() {
    let relay = MockRelay::start(|request: Request<Incoming>| async {
        if request.method() == Method::CONNECT { echo(request) } else { Response::new(full("answer")) }
    });
    relay.permit_streams(10);
    let link = relay.dial().await;
    let (db, bearer) = (db(), bearer());
    let hungry = futures_util::future::join_all((0..20).map(|_| link.connect(&db, 5432, &bearer)));
    let control = async {
        // More often than streams are kept back: each is free again after its answer.
        for _ in 0..20 {
            let answer = link.control(get("/session")).await.unwrap();
            assert_eq!(read_body(answer.into_body(), 100).await.unwrap(), "answer");
        }
        // Several at once, too.
        let asked = (0..4).map(|_| link.control(get("/session")));
        assert!(futures_util::future::join_all(asked).await.iter().all(Result::is_ok));
    };
    tokio::select! {
        biased;
        _ = hungry => panic!("more streams than the relay permits"),
        () = control => {}
    }
    assert_eq!(link.request(get("/")).await.unwrap().status(), 200, "an app goes on as soon as another ends");
}

/// What anybody on the path can say is nobody's word: such an attempt has merely failed.
#[tokio::test]
async fn a_forged_close_says_nothing_but_that_no_connection_was_made() {
    let relay = MockRelay::start(ok);
    for (kind, code) in [(APPLICATION_CLOSE, Code::SessionRevoked.number()), (CLOSE, 0x100 + 44), (CLOSE, 0x100 + 120)]
    {
        let path = Forger::before(&relay.endpoint.quic, vec![close_frame(kind, code)]).await;
        path.forge(true);
        let endpoint = RelayEndpoint { quic: path.address.clone(), ..relay.endpoint.clone() };
        let problem = Link::dial(&endpoint, relay.identity.clone()).await.err().unwrap();
        assert_eq!(problem.code, Code::RelayUnreachable);
        let detail = problem.detail.unwrap();
        assert!(detail.starts_with("no connection was made: "), "the packet was opened and believed no word: {detail}");
    }
}
