//! `http` apps: what is allowed gets through, as it should look; what is not, does not.

use super::upstreams::{Generated, Upstream, settled};
use super::world::{World, app, assert_refused, full, none, text};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use postern_protocol::Code;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

const MB: usize = 1_000_000;

#[tokio::test]
async fn an_allowed_request_reaches_the_upstream_with_our_word_for_it() {
    let upstream = Upstream::echo().await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    let request = ada.request("GET", "wiki", "/page?x=1").header("postern-local-authority", "wiki.localhost:7070");
    let request = request.header("authorization", "Basic app").header("origin", "http://wiki.localhost:7070");
    let response = ada.call(request.body(none()).unwrap()).await;
    assert_eq!(response.status(), 200);
    let seen = text(response).await;
    assert!(seen.starts_with("GET /page?x=1\n"), "{seen}");
    let value = |name: &str| seen.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
    assert_eq!(value("host"), Some(upstream.addr.to_string()));
    assert_eq!(value("authorization").as_deref(), Some("Basic app"), "the app's own credential passes");
    assert_eq!(value("origin"), Some(upstream.http_url()), "an app that compares it with the host finds them the same");
    assert_eq!(value("proxy-authorization"), None, "the relay's credential ends here");
    assert_eq!(value("x-forwarded-host").as_deref(), Some("wiki.localhost:7070"));
    assert_eq!(value("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(value("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    let assertion = value("x-postern-identity").unwrap();
    let claims = URL_SAFE_NO_PAD.decode(assertion.split('.').nth(1).unwrap()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!((claims["sub"].as_str(), claims["aud"].as_str()), (Some("ada"), Some("wiki")));
    assert_eq!(claims["dev"], ada.id().as_str());
    let allowed = world.audit().into_iter().find(|line| line["path"] == "/page").unwrap();
    assert_eq!((allowed["result"].as_str(), allowed["app"].as_str()), (Some("allow"), Some("wiki")));
}

#[tokio::test]
async fn requests_share_streams_and_upstream_connections() {
    let upstream = Upstream::echo().await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    let mut stream = ada.http().await;
    for number in 0..20 {
        stream.ready().await.unwrap();
        let request = ada.request("GET", "wiki", &format!("/{number}")).body(none()).unwrap();
        assert_eq!(
            text(stream.send_request(request).await.unwrap()).await.lines().next(),
            Some(&*format!("GET /{number}"))
        );
    }
    assert_eq!(text(ada.get("wiki", "/last").await).await.lines().next(), Some("GET /last"));
    assert_eq!(upstream.connections(), 1);
    assert!(world.relay.streams.is_empty(), "nothing that ended stays filed");
}

#[tokio::test]
async fn refusals_say_why_and_what_to_do() {
    let upstream = Upstream::echo().await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    let denied = assert_refused(ada.get("wiki", "/secret/1").await, Code::PolicyDenied).await;
    assert_eq!(
        (denied.reason.as_deref(), denied.fix.as_deref()),
        (Some("Secrets are closed."), Some("Ask the owner."))
    );
    let record = world.audited(&denied);
    assert_eq!((record["result"].as_str(), record["code"].as_str()), (Some("deny"), Some("policy_denied")));
    assert_eq!(record["policies"][0], "no-secrets");
    assert_refused(ada.get("closed", "/").await, Code::PolicyDenied).await;

    let mut stranger = world.device("eve").await;
    stranger.token = world.token(&stranger, &[], std::time::Duration::from_secs(60));
    assert_refused(stranger.get("wiki", "/").await, Code::PolicyDenied).await;

    world.relay.postures.invalidate(&ada.session);
    assert_refused(ada.get("wiki", "/").await, Code::PostureStale).await;

    let no_token = Request::builder().uri("/").header("host", "wiki").body(none()).unwrap();
    assert_refused(ada.call(no_token).await, Code::TokenMissing).await;
    let bad_token = Request::builder().uri("/").header("host", "wiki").header("proxy-authorization", "Bearer x.y.z");
    assert_refused(ada.call(bad_token.body(none()).unwrap()).await, Code::TokenInvalid).await;
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn a_hidden_app_looks_like_no_app() {
    let world = World::new(&[]).await;
    let ada = world.device("ada").await;
    let hidden = assert_refused(ada.get("hidden", "/").await, Code::AppUnknown).await;
    let unknown = assert_refused(ada.get("nowhere", "/").await, Code::AppUnknown).await;
    assert_eq!(world.audited(&hidden)["code"], "policy_denied", "the audit log knows better");
    let bare = |mut problem: postern_protocol::Problem| {
        problem.decision = None;
        problem
    };
    assert_eq!(bare(hidden), bare(unknown));
}

#[tokio::test]
async fn fifty_megabytes_up_stream_with_back_pressure() {
    let release = Arc::new(Notify::new());
    let gate = release.clone();
    let upstream = Upstream::http(move |request: Request<Incoming>| {
        let gate = gate.clone();
        async move {
            gate.notified().await;
            let mut body = request.into_body();
            let mut got = 0;
            while let Some(frame) = body.frame().await {
                got += frame.unwrap().into_data().unwrap().len();
            }
            Response::new(full(got.to_string()))
        }
    });
    let world = World::new(&[app("wiki", upstream.await.http_url(), "")]).await;
    let ada = world.device("ada").await;
    let (body, made) = Generated::new(50 * MB);
    let request = ada.request("POST", "wiki", "/").body(body.boxed()).unwrap();
    let mut stream = ada.http().await;
    let answer = tokio::spawn(async move { text(stream.send_request(request).await.unwrap()).await });
    let waiting = settled(&made).await;
    assert!(waiting < 25 * MB, "{waiting} bytes were taken although the app reads none");
    release.notify_one();
    assert_eq!(answer.await.unwrap(), (50 * MB).to_string());
}

#[tokio::test]
async fn fifty_megabytes_down_stream_with_back_pressure() {
    let (body, made) = Generated::new(50 * MB);
    let body = std::sync::Mutex::new(Some(body));
    let upstream = Upstream::http(move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async move { Response::new(body.boxed()) }
    });
    let world = World::new(&[app("wiki", upstream.await.http_url(), "")]).await;
    let ada = world.device("ada").await;
    let mut response = ada.get("wiki", "/").await;
    assert_eq!(response.headers()["content-length"], (50 * MB).to_string());
    let waiting = settled(&made).await;
    assert!(waiting < 25 * MB, "{waiting} bytes were fetched although the device reads none");
    let mut got = 0;
    while let Some(frame) = response.body_mut().frame().await {
        got += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!((got, made.load(Ordering::SeqCst)), (50 * MB, 50 * MB));
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let upstream = Upstream::tcp(|mut stream| async move {
        let mut buffer = [0; 4096];
        while let Ok(1..) = stream.read(&mut buffer).await {
            let answer: &[u8] = match &buffer[..8] {
                b"HEAD /he" => b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\netag: \"1\"\r\n\r\n",
                b"GET /204" => b"HTTP/1.1 204 No Content\r\n\r\n",
                b"GET /304" => b"HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\ncontent-length: 1234\r\n\r\n",
                _ => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\n\r\n2\r\nok\r\n0\r\nx-end: 1\r\n\r\n",
            };
            stream.write_all(answer).await.unwrap();
        }
    });
    let world = World::new(&[app("wiki", upstream.await.http_url(), "")]).await;
    let ada = world.device("ada").await;
    let mut stream = ada.http().await;
    // All on one stream: a wrong length of one would spoil the next.
    for (method, path, status, length, body) in [
        ("HEAD", "/head", 200, Some("1234"), ""),
        ("GET", "/204", 204, None, ""),
        ("GET", "/304", 304, None, ""),
        ("GET", "/chunked", 200, None, "ok"),
        ("HEAD", "/head", 200, Some("1234"), ""),
    ] {
        stream.ready().await.unwrap();
        let request = ada.request(method, "wiki", path).body(none()).unwrap();
        let response = stream.send_request(request).await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
        if let Some(length) = length {
            assert_eq!(response.headers()["content-length"], length);
        }
        assert_eq!(text(response).await, body, "{method} {path}");
    }
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_is_asked_when_allowed_only() {
    let upstream = Upstream::http(|request: Request<Incoming>| async move {
        assert!(!request.headers().contains_key("expect"));
        Response::new(full(request.into_body().collect().await.unwrap().to_bytes()))
    });
    let world = World::new(&[app("wiki", upstream.await.http_url(), "")]).await;
    let ada = world.device("ada").await;
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: wiki\r\nproxy-authorization: Bearer {}\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n",
            ada.token
        )
    };
    let mut allowed = ada.raw().await;
    allowed.write_all(head("/").as_bytes()).await.unwrap();
    let mut asked = [0; 25];
    allowed.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    allowed.write_all(b"body").await.unwrap();
    allowed.shutdown().await.unwrap();
    let mut answer = String::new();
    allowed.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("body"), "{answer}");

    let mut denied = ada.raw().await;
    denied.write_all(head("/secret").as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    denied.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 403");
}

#[tokio::test]
async fn a_refusal_arrives_although_nobody_reads_the_upload() {
    let world = World::new(&[]).await;
    let ada = world.device("ada").await;
    let (body, made) = Generated::new(50 * MB);
    let response = ada.call(ada.request("POST", "closed", "/").body(body.boxed()).unwrap()).await;
    assert_refused(response, Code::PolicyDenied).await;
    assert!(settled(&made).await < 25 * MB);
}

/// A19: the relay follows no redirect; only the app's own address is rewritten to where the browser finds it.
#[tokio::test]
async fn a19_redirects_are_passed_on_and_never_followed() {
    let foreign = Upstream::echo().await;
    let foreign_url = foreign.http_url();
    let upstream = Upstream::http(move |request: Request<Incoming>| {
        let location = match request.uri().path() {
            "/own" => format!("http://{}/login?next=%2F", request.headers()["host"].to_str().unwrap()),
            _ => format!("{foreign_url}/steal"),
        };
        async move { Response::builder().status(302).header("location", location).body(none()).unwrap() }
    })
    .await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    let away = ada.get("wiki", "/away").await;
    assert_eq!(away.status(), 302);
    assert_eq!(away.headers()["location"], format!("{}/steal", foreign.http_url()));
    assert_eq!(foreign.connections(), 0);
    let request = ada.request("GET", "wiki", "/own").header("postern-local-authority", "wiki.localhost:7070");
    let own = ada.call(request.body(none()).unwrap()).await;
    assert_eq!(own.headers()["location"], "http://wiki.localhost:7070/login?next=%2F");
    assert_eq!(ada.get("wiki", "/own").await.headers()["location"], "/login?next=%2F");
}

#[tokio::test]
async fn an_upstream_that_fails_is_named_as_such() {
    let broken = Upstream::tcp(|mut stream| async move {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.unwrap();
        let answer: &[u8] = if buffer[..read].starts_with(b"GET /short") {
            b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this"
        } else {
            b"SMTP ready\r\n\r\n"
        };
        stream.write_all(answer).await.unwrap();
    })
    .await;
    let world = World::new(&[app("wiki", broken.http_url(), ""), app("gone", "http://127.0.0.1:1", "")]).await;
    let ada = world.device("ada").await;
    assert_refused(ada.get("gone", "/").await, Code::UpstreamUnreachable).await;
    assert_refused(ada.get("wiki", "/garbage").await, Code::UpstreamInvalid).await;

    // The head is out, so only a reset can tell that the answer is not whole.
    let (mut send, mut recv) = ada.connection.open_bi().await.unwrap();
    let request = format!("GET /short HTTP/1.1\r\nhost: wiki\r\nproxy-authorization: Bearer {}\r\n\r\n", ada.token);
    send.write_all(request.as_bytes()).await.unwrap();
    let failure = recv.read_to_end(1 << 16).await.unwrap_err();
    let number = quinn::VarInt::from_u32(Code::UpstreamInvalid.number());
    assert_eq!(failure, quinn::ReadToEndError::Read(quinn::ReadError::Reset(number)));
}

#[tokio::test]
async fn a_stale_pooled_connection_costs_a_safe_request_nothing() {
    let upstream = Upstream::tcp(|mut stream| async move {
        // One answer to a connection, which then breaks at the next request.
        let mut buffer = [0; 4096];
        let _request = stream.read(&mut buffer).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        let _next_request = stream.read(&mut buffer).await;
    })
    .await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    for _ in 0..5 {
        assert_eq!(text(ada.get("wiki", "/").await).await, "ok");
    }
    let post = ada.call(ada.request("POST", "wiki", "/").body(full("buy")).unwrap()).await;
    assert_refused(post, Code::UpstreamUnreachable).await;
    assert_eq!(upstream.connections(), 5, "what may have had an effect is not sent twice");
}
