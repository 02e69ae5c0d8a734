//! A43: bytes that two readers could cut into different requests.

use crate::Site;
use postern_tests::client::status_of;
use postern_tests::upstream::ok;
use postern_tests::{App, Device, Upstream};

/// What every probe hides: should it ever be read as a request, it shows.
const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nhost: wiki\r\n\r\n";

/// A43: of an ambiguous request the app sees exactly one request or none, and never the one hidden inside.
#[tokio::test]
async fn a43_the_app_sees_one_request_or_none() {
    let mut site = Site::new().await;
    let (device, quic) = site.signed_in("ada").await;
    let length = HIDDEN.len();
    let chunked = format!("0\r\n\r\n{HIDDEN}");
    let all = [
        ("CL.TE", format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", chunked.len()), chunked.clone()),
        (
            "TE.CL",
            "transfer-encoding: chunked\r\ncontent-length: 4\r\n".into(),
            format!("{length:x}\r\n{HIDDEN}\r\n0\r\n\r\n"),
        ),
        ("TE.TE", "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n".into(), chunked.clone()),
        ("TE: x, chunked", "transfer-encoding: x, chunked\r\n".into(), chunked.clone()),
        ("TE: chunked, x", "transfer-encoding: chunked, x\r\n".into(), chunked.clone()),
        (
            "TE with a space",
            format!("transfer-encoding : chunked\r\ncontent-length: {}\r\n", chunked.len()),
            chunked.clone(),
        ),
        (
            "TE with a tab",
            format!("transfer-encoding:\tchunked\r\ncontent-length: {}\r\n", chunked.len()),
            chunked.clone(),
        ),
        (
            "TE with VT",
            format!("transfer-encoding: \x0bchunked\r\ncontent-length: {}\r\n", chunked.len()),
            chunked.clone(),
        ),
        (
            "TE folded",
            format!("transfer-encoding:\r\n chunked\r\ncontent-length: {}\r\n", chunked.len()),
            chunked.clone(),
        ),
        ("two lengths", format!("content-length: 0\r\ncontent-length: {length}\r\n"), HIDDEN.into()),
        ("a list of lengths", format!("content-length: 0, {length}\r\n"), HIDDEN.into()),
        ("a signed length", format!("content-length: +{length}\r\n"), HIDDEN.into()),
        ("a negative length", "content-length: -1\r\n".into(), HIDDEN.into()),
        ("a hexadecimal length", "content-length: 0x0\r\n".into(), HIDDEN.into()),
        ("a length with a space", format!("content-length: 0 {length}\r\n"), HIDDEN.into()),
        ("a huge length", "content-length: 18446744073709551617\r\n".into(), HIDDEN.into()),
        ("obs-fold", "x-a: b\r\n c: d\r\n".into(), String::new()),
        ("obs-fold that hides a length", format!("x-a: b\r\n content-length: {length}\r\n"), HIDDEN.into()),
        ("a bare CR in a value", "x-a: b\rc: d\r\n".into(), String::new()),
        ("a bare LF in a value", "x-a: b\nx-smuggled: d\r\n".into(), String::new()),
        ("NUL in a value", "x-a: b\0c\r\n".into(), String::new()),
        ("NUL in a name", "x-\0a: b\r\n".into(), String::new()),
        ("a space in a name", "x a: b\r\n".into(), String::new()),
        ("no name", ": b\r\n".into(), String::new()),
        ("no colon", "x-a\r\n".into(), String::new()),
        ("a chunk that lies", "transfer-encoding: chunked\r\n".into(), format!("ffffffffffffffff1\r\n{HIDDEN}")),
        ("a chunk with a sign", "transfer-encoding: chunked\r\n".into(), format!("-1\r\n{HIDDEN}")),
        ("a chunk without CR LF", "transfer-encoding: chunked\r\n".into(), format!("1\r\nxx0\r\n\r\n{HIDDEN}")),
        (
            "a chunk extension with LF",
            "transfer-encoding: chunked\r\n".into(),
            format!("1;a=\n\r\nx\r\n0\r\n\r\n{HIDDEN}"),
        ),
        ("chunks ended by LF", "transfer-encoding: chunked\r\n".into(), format!("1\nx\n0\n\n{HIDDEN}")),
    ];
    for (what, lines, body) in all {
        let before = site.wiki.requests().len();
        let mut bytes = device.head("POST /outer HTTP/1.1", "wiki", &lines);
        bytes.extend_from_slice(body.as_bytes());
        let answer = quic.raw(&bytes).await;
        let seen = &site.wiki.requests()[before..];
        // Whatever follows a complete request on the stream is a second request, and gets a decision of its own: the
        // hidden one carries no session token, so it cannot have passed.
        assert!(seen.len() <= 1, "{what}: {seen:?}");
        assert!(seen.iter().all(|one| one.target == "/outer"), "{what}: {seen:?}");
        assert!(
            seen.iter().all(|one| one.header("x-smuggled").is_none() && one.header("c").is_none()),
            "{what}: {seen:?}"
        );
        if let Some(one) = seen.first() {
            // What goes on is said in one way only.
            let framed = (one.count("content-length"), one.count("transfer-encoding"));
            assert!(framed == (1, 0) || framed == (0, 1) || framed == (0, 0), "{what}: {:?}", one.headers);
            assert_eq!(status_of(&answer), Some(200), "{what}");
        }
    }
    site.is_sound().await;
}

/// A43: the same in the request line and in names that go upstream.
#[tokio::test]
async fn a43_no_byte_of_the_request_line_starts_a_second_request() {
    let mut site = Site::new().await;
    let (device, quic) = site.signed_in("ada").await;
    for line in [
        "GET /a HTTP/1.1\r\nGET /smuggled HTTP/1.1",
        "GET /a\rGET /smuggled HTTP/1.1",
        "GET /a\nGET /smuggled HTTP/1.1",
        "GET /a\0 HTTP/1.1",
        "GET /a HTTP/1.1 HTTP/1.1",
        "GET  /a HTTP/1.1",
        "GET\t/a HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /a HTTP/0.9",
        "GET /a HTTP/2.0",
        "GET /a HTTP/1.9",
        "GET /a",
        "G\u{e9}T /a HTTP/1.1",
        "PRI * HTTP/2.0\r\n\r\nSM",
        "GET * HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        " GET /a HTTP/1.1",
    ] {
        let before = site.wiki.requests().len();
        quic.raw(&device.head(line, "wiki", "")).await;
        let seen = &site.wiki.requests()[before..];
        assert!(seen.len() <= 1 && seen.iter().all(|one| one.target == "/a"), "{line:?}: {seen:?}");
    }
    site.is_sound().await;
}

/// A43: bytes sent before the app has agreed to switch protocols are not a second request, agreed or not.
#[tokio::test]
async fn a43_bytes_before_101_reach_no_app_as_a_request() {
    let refusing = Upstream::http(|seen| ok(&seen.target)).await;
    let address = refusing.address;
    let site = Site::with(|settings| settings.app(App::http("chat", address))).await;
    let (device, quic) = site.signed_in("ada").await;
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let mut bytes = device.head("GET /chat HTTP/1.1", "chat", upgrade);
    bytes.extend_from_slice(HIDDEN.replace("wiki", "chat").as_bytes());
    quic.raw(&bytes).await;
    let seen: Vec<_> = refusing.requests().into_iter().map(|one| one.target).collect();
    assert!(!seen.contains(&"/smuggled".to_owned()), "{seen:?}");
    assert!(seen.len() <= 1, "{seen:?}");
}

/// A43: an app cannot answer twice and so poison what the next request on its connection gets.
#[tokio::test]
async fn a43_an_answer_too_many_is_given_to_nobody() {
    let double = Upstream::http(|seen| {
        let mut bytes = ok("first");
        if seen.target == "/twice" {
            bytes.extend_from_slice(&ok("poison"));
        }
        bytes
    })
    .await;
    let address = double.address;
    let mut site = Site::with(|settings| settings.app(App::http("odd", address))).await;
    let (ada, ada_quic) = site.signed_in("ada").await;
    let (bob, bob_quic) = Device::signed_in(&site.relay, &site.provider, "bob").await;
    for _ in 0..5 {
        assert_eq!(ada.get(&ada_quic, "odd", "/twice").await.text(), "first");
        let next = bob.get(&bob_quic, "odd", "/once").await;
        assert!(next.status != 200 || next.text() == "first", "somebody else's answer: {next:?}");
    }
    site.is_sound().await;
}
