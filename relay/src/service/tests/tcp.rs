//! `tcp` apps: bytes both ways, ends and breaks carried over.

use super::upstreams::Upstream;
use super::world::{World, app, idle, none, soon};
use crate::service::{self, Peer};
use crate::transport::Cut;
use hyper_util::rt::TokioIo;
use postern_protocol::Code;
use quinn::{ReadError, VarInt};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

#[tokio::test]
async fn bytes_pass_and_each_direction_ends_for_itself() {
    let upstream = Upstream::tcp(|mut stream| async move {
        // Speaks first, then echoes to the end, then says goodbye: after the device has ended its direction.
        stream.write_all(b"hello ").await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        stream.write_all(&all).await.unwrap();
        stream.write_all(b" bye").await.unwrap();
    })
    .await;
    let world = World::new(&[app("db", upstream.tcp_url(), "")]).await;
    let ada = world.device("ada").await;
    let mut stream = ada.open(&format!("db:{}", upstream.addr.port())).await.unwrap();
    let mut greeting = [0; 6];
    stream.read_exact(&mut greeting).await.unwrap();
    stream.write_all(b"data").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!((&greeting, rest.as_str()), (b"hello ", "data bye"));
}

#[tokio::test]
async fn the_app_may_end_first() {
    let upstream = Upstream::tcp(|mut stream| async move {
        stream.shutdown().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"still listening");
        // Only a device that got this far sees its stream end in order.
        assert!(stream.set_zero_linger().is_ok() || all.is_empty());
    })
    .await;
    let world = World::new(&[app("db", upstream.tcp_url(), "")]).await;
    let ada = world.device("ada").await;
    let mut stream = ada.open(&format!("db:{}", upstream.addr.port())).await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    stream.write_all(b"still listening").await.unwrap();
    stream.shutdown().await.unwrap();
    idle(&world).await;
}

#[tokio::test]
async fn ten_megabytes_there_and_back_are_the_same() {
    let upstream = Upstream::tcp_echo().await;
    let world = World::new(&[app("db", upstream.tcp_url(), "")]).await;
    let ada = world.device("ada").await;
    let stream = ada.open(&format!("db:{}", upstream.addr.port())).await.unwrap();
    let sent: Vec<u8> = (0..10_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (mut read, mut write) = tokio::io::split(stream);
    let expected = sent.clone();
    let sender = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    read.read_to_end(&mut got).await.unwrap();
    sender.await.unwrap();
    assert!(got == expected, "{} bytes came back", got.len());
}

#[tokio::test]
async fn early_bytes_are_not_lost() {
    let upstream = Upstream::tcp_echo().await;
    let world = World::new(&[app("db", upstream.tcp_url(), "")]).await;
    let ada = world.device("ada").await;
    let target = format!("db:{}", upstream.addr.port());
    // Sent with the request, before the answer, and the end as well.
    let answer = ada
        .send_raw(&format!(
            "CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nproxy-authorization: Bearer {{token}}\r\n\r\nearly"
        ))
        .await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, "early");
}

#[tokio::test]
async fn a_broken_upstream_breaks_the_stream_and_the_other_way_round() {
    let (broken, mut upstream_saw) = mpsc::unbounded_channel();
    let upstream = Upstream::tcp(move |mut stream| {
        let broken = broken.clone();
        async move {
            let mut first = [0; 1];
            stream.read_exact(&mut first).await.unwrap();
            if &first == b"x" {
                return stream.set_zero_linger().unwrap();
            }
            stream.write_all(b"!").await.unwrap();
            broken.send(stream.read(&mut first).await.map_err(|why| why.kind())).unwrap();
        }
    })
    .await;
    let world = World::new(&[app("db", upstream.tcp_url(), "")]).await;
    let ada = world.device("ada").await;
    let target = format!("db:{}", upstream.addr.port());
    let request =
        format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nproxy-authorization: Bearer {}\r\n\r\n", ada.token);

    let (mut send, mut recv) = ada.connection.open_bi().await.unwrap();
    send.write_all(request.as_bytes()).await.unwrap();
    send.write_all(b"x").await.unwrap();
    let number = VarInt::from_u32(Code::UpstreamUnreachable.number());
    assert_eq!(soon(recv.read_to_end(4096)).await.unwrap_err(), quinn::ReadToEndError::Read(ReadError::Reset(number)));
    assert_eq!(soon(send.stopped()).await.unwrap(), Some(number));

    let (mut send, mut recv) = ada.connection.open_bi().await.unwrap();
    send.write_all(request.as_bytes()).await.unwrap();
    send.write_all(b"y").await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"!") {
        got.extend_from_slice(&recv.read_chunk(4096, true).await.unwrap().unwrap().bytes);
    }
    send.reset(VarInt::from_u32(0)).unwrap();
    assert_eq!(soon(upstream_saw.recv()).await.unwrap(), Err(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn the_last_words_of_an_app_arrive_although_it_listens_no_more() {
    let upstream = Upstream::tcp(|mut stream| async move {
        stream.read_exact(&mut [0; 1]).await.unwrap();
        // Says why and closes with much unread: what the device still sends is answered by resets.
        stream.write_all(b"no room").await.unwrap();
        stream.shutdown().await.unwrap();
        stream.read_exact(&mut [0; 1]).await.unwrap();
    })
    .await;
    let world = World::new(&[app("db", upstream.tcp_url(), "")]).await;
    let ada = world.device("ada").await;
    let stream = ada.open(&format!("db:{}", upstream.addr.port())).await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let sender = tokio::spawn(async move { while write.write_all(&[0; 4096]).await.is_ok() {} });
    let mut words = String::new();
    soon(read.read_to_string(&mut words)).await.unwrap();
    assert_eq!(words, "no room");
    soon(sender).await.unwrap();
}

#[tokio::test]
async fn an_app_is_reached_by_its_own_kind_and_port_alone() {
    let upstream = Upstream::tcp_echo().await;
    let world = World::new(&[app("db", upstream.tcp_url(), ""), app("wiki", "http://127.0.0.1:1", "")]).await;
    let ada = world.device("ada").await;
    let port = upstream.addr.port();
    for (target, code) in [
        ("db:1".to_owned(), Code::AppKindMismatch),
        ("wiki:1".to_owned(), Code::AppKindMismatch),
        (format!("nowhere:{port}"), Code::AppUnknown),
        (format!("hidden:{port}"), Code::AppUnknown),
        ("db".to_owned(), Code::RequestInvalid),
        ("127.0.0.1:22".to_owned(), Code::Misdirected),
    ] {
        assert_eq!(ada.open(&target).await.unwrap_err().code, code, "{target}");
    }
    super::world::assert_refused(ada.get("db", "/").await, Code::AppKindMismatch).await;
    assert_eq!(upstream.connections(), 0);
}

/// The service does not know its transport: here it is a pipe in memory.
#[tokio::test]
async fn any_byte_stream_will_do_for_a_transport() {
    let upstream = Upstream::tcp_echo().await;
    let world = World::new(&[app("db", upstream.tcp_url(), "")]).await;
    let ada = world.device("ada").await;
    let device = Arc::new(ada.identity.device.clone());
    let peer = Arc::new(Peer {
        relay: world.relay.clone(),
        device,
        source: "192.0.2.1:1".parse().unwrap(),
        connection: Arc::default(),
    });
    let (client, server) = tokio::io::duplex(4096);
    let cut = Arc::new(Cut::new());
    let served = tokio::spawn(service::serve(peer, server, cut));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let refused = sender.send_request(ada.request("GET", "closed", "/").body(none()).unwrap()).await.unwrap();
    let refused = super::world::assert_refused(refused, Code::PolicyDenied).await;
    assert_eq!(world.audited(&refused)["source"], "192.0.2.1");

    sender.ready().await.unwrap();
    let target = format!("db:{}", upstream.addr.port());
    let mut response =
        sender.send_request(ada.request("CONNECT", &target, &target).body(none()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    stream.write_all(b"over and out").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut echo = String::new();
    stream.read_to_string(&mut echo).await.unwrap();
    assert_eq!(echo, "over and out");
    soon(served).await.unwrap();
}
