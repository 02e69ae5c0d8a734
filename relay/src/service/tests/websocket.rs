//! WebSocket: switched to when both sides agree, cut like any stream.

use super::upstreams::Upstream;
use super::world::{World, app, assert_refused, full, none, set_policy};
use crate::reverify::reverify;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use postern_protocol::Code;
use postern_relay_core::registry::Scope;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Switches to an echo, unless asked at `/plain`.
async fn upstream() -> Upstream {
    Upstream::http(|mut request: Request<Incoming>| async move {
        if request.uri().path() == "/plain" {
            return Response::new(full("no websocket here"));
        }
        assert_eq!(request.headers()["upgrade"], "websocket");
        assert_eq!(request.headers()["sec-websocket-key"], "key");
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
            let _either_side_may_go = tokio::io::copy(&mut read, &mut write).await;
        });
        let switch = Response::builder().status(101).header("connection", "Upgrade").header("upgrade", "WebSocket");
        switch.header("sec-websocket-accept", "accept").body(none()).unwrap()
    })
    .await
}

#[tokio::test]
async fn a_websocket_echoes_and_is_cut() {
    let upstream = upstream().await;
    let world = World::new(&[app("chat", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    let request = ada.request("GET", "chat", "/ws").header("connection", "keep-alive, Upgrade");
    let request = request.header("upgrade", "websocket").header("sec-websocket-key", "key").body(none()).unwrap();
    let mut response = ada.call(request).await;
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-accept"], "accept");
    let mut socket = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    socket.write_all(b"ping").await.unwrap();
    let mut echo = [0; 4];
    socket.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"ping");
    set_policy(&world, "");
    assert_eq!(reverify(&world.relay, &Scope::Session(ada.session.clone())).await.cut, 1);
    assert!(socket.read(&mut echo).await.is_err());
}

#[tokio::test]
async fn an_app_that_does_not_switch_answers_as_usual() {
    let upstream = upstream().await;
    let world = World::new(&[app("chat", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    for upgrade in ["websocket", "h2c"] {
        let request = ada.request("GET", "chat", "/plain").header("connection", "upgrade").header("upgrade", upgrade);
        let response = ada.call(request.body(none()).unwrap()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["connection"], "close");
        assert_eq!(super::world::text(response).await, "no websocket here");
    }
    let denied = ada.request("GET", "chat", "/secret").header("connection", "upgrade").header("upgrade", "websocket");
    assert_refused(ada.call(denied.body(none()).unwrap()).await, Code::PolicyDenied).await;
}

/// A43: what a client sends before the 101 is not taken for the app's, and an upstream does not switch unasked.
#[tokio::test]
async fn a43_nothing_passes_before_both_sides_have_switched() {
    let (saw, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let unasked = Upstream::tcp(move |mut stream| {
        let saw = saw.clone();
        async move {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                saw.send(String::from_utf8(buffer[..read].to_vec()).unwrap()).unwrap();
                let answer: &[u8] = if buffer.starts_with(b"GET /switch") {
                    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n"
                } else {
                    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno"
                };
                stream.write_all(answer).await.unwrap();
            }
        }
    })
    .await;
    let world = World::new(&[app("chat", unasked.http_url(), "")]).await;
    let ada = world.device("ada").await;
    assert_refused(ada.get("chat", "/switch").await, Code::UpstreamInvalid).await;
    assert!(seen.recv().await.unwrap().starts_with("GET /switch"));
    let smuggled = "GET /refuses HTTP/1.1\r\nhost: chat\r\nproxy-authorization: Bearer {token}\r\nconnection: upgrade\r\n\
                    upgrade: websocket\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: chat\r\n\r\n";
    let answer = ada.send_raw(smuggled).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
    let request = seen.recv().await.unwrap();
    assert!(request.starts_with("GET /refuses") && !request.contains("smuggled"), "{request}");
    assert!(seen.try_recv().is_err(), "the app sees one request");
}
