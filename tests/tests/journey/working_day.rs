//! A day with Postern: sign in once, use a web app, a database and a stream, meet a refusal, sign out.

use crate::Office;
use http::{Request, Version};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use postern_tests::nginx::Nginx;
use postern_tests::postgres::{Postgres, psql};
use postern_tests::wait::{SHORT, within};
use postern_tests::{Agent, App, Browser, Keyring, Provider, Relay, Settings, Upstream, World, secrets};
use serde_json::Value;
use std::convert::Infallible;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Sign-in over the browser's real redirect, then nginx: small and large, in and out, one connection for many requests.
#[tokio::test]
async fn a_person_signs_in_and_uses_a_web_app() {
    let world = World::new();
    let (provider, keyring, nginx) =
        (Provider::start(&world).await, Keyring::unlocked(&world).await, Nginx::start(&world).await);
    let relay = Relay::start(&world, Settings::new(&provider.issuer).app(App::http("wiki", nginx.address))).await;
    let agent = Agent::start(&world, "agent", Some(&keyring)).await;
    assert_eq!(agent.status().await["state"], "signed_out");

    let mut login = agent.login_begun(&relay, &[]);
    let url = login.first_line().await;
    assert!(url.starts_with(provider.issuer.as_str()), "the first line is the address to open: {url}");
    let page = Browser::of("ada").sign_in(&url).await;
    assert_eq!((page.url.host_str(), page.reply.status.as_u16()), (Some("127.0.0.1"), 200), "{page:?}");
    let output = login.output().await.ok();
    assert!(output.stdout.lines().next() == Some(url.as_str()));

    let status = agent.status().await;
    assert_eq!(status["state"], "online", "{status}");
    assert_eq!(status["organisation"], "Example Corp");
    assert_eq!(status["principal"]["subject"], "ada");
    assert_eq!(status["principal"]["groups"], serde_json::json!(["staff"]));
    assert_eq!(status["device"]["key_storage"], "keyring");
    let device = status["device"]["id"].as_str().unwrap();
    assert_eq!(status["device"]["spiffe_id"], format!("spiffe://corp.example/device/{device}"));

    let hello = agent.get("wiki", "/").await;
    assert_eq!((hello.status.as_u16(), hello.text().starts_with("hello from nginx")), (200, true), "{hello:?}");
    let missing = agent.get("wiki", "/files/nothing").await;
    assert_eq!((missing.status.as_u16(), missing.header("postern-code")), (404, ""), "the app's own 404 is the app's");

    bodies_stream_both_ways(&agent, &nginx).await;
    connections_are_kept(&agent).await;

    for directory in [&agent.state, &relay.dir.join("state"), &world.logs()] {
        assert_eq!(secrets::find(directory, &[]), [""; 0], "secrets in {}", directory.display());
    }
}

/// 20 MB up in chunks of unknown total length, and down again.
async fn bodies_stream_both_ways(agent: &Agent, nginx: &Nginx) {
    let chunk = |n: u32| bytes::Bytes::from(n.to_le_bytes().repeat(16 * 1024));
    let (count, socket) = (320, TcpStream::connect(agent.http()).await.unwrap());
    let frames = numbered_chunks(count, chunk);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
    let driver = tokio::spawn(connection);
    let upload =
        Request::put("/upload/big").header("host", agent.authority("wiki")).body(StreamBody::new(frames)).unwrap();
    let reply = within(SHORT * 6, "an upload of 20 MB", sender.send_request(upload)).await.unwrap();
    assert_eq!(reply.status(), 201);
    driver.abort();
    let expected: Vec<u8> = (0..count).flat_map(chunk).collect();
    assert!(std::fs::read(nginx.files.join("big")).unwrap() == expected, "what was stored is what was sent");
    let reply = within(SHORT * 6, "a download of 20 MB", agent.get("wiki", "/files/big")).await;
    assert!(reply.status == 200 && reply.body == expected, "what came back is what was stored");
}

fn numbered_chunks(
    count: u32,
    chunk: impl Fn(u32) -> bytes::Bytes + Send + 'static,
) -> impl futures_util::Stream<Item = Result<Frame<bytes::Bytes>, Infallible>> + Send + 'static {
    futures_util::stream::iter((0..count).map(move |n| Ok(Frame::data(chunk(n)))))
}

/// Many requests share one connection on both sides of the relay.
async fn connections_are_kept(agent: &Agent) {
    let socket = TcpStream::connect(agent.http()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut upstream_connections = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let request =
            Request::get("/").header("host", agent.authority("wiki")).body(Full::<bytes::Bytes>::default()).unwrap();
        let reply = within(SHORT, "a request on a kept connection", sender.send_request(request)).await.unwrap();
        assert_eq!((reply.status().as_u16(), reply.version()), (200, Version::HTTP_11));
        let text = String::from_utf8(reply.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
        upstream_connections.insert(text.split(' ').nth(4).unwrap().to_owned());
    }
    driver.abort();
    assert!(upstream_connections.len() < 20, "each request made a new connection upstream");
}

/// The app gets to know who asks, in a form that only the relay can have made.
#[tokio::test]
async fn the_app_receives_an_identity_it_can_verify() {
    let office = Office::open().await;
    office.sign_in().await;
    assert_eq!(office.agent.get("wiki", "/page?x=1").await.text(), "GET /page?x=1");
    let seen = office.wiki.last();
    let assertion = seen.header("x-postern-identity").unwrap();
    let keys: JwkSet = serde_json::from_slice(&office.relay.get("/.well-known/jwks.json").await.body).unwrap();
    let header = jsonwebtoken::decode_header(assertion).unwrap();
    let key = DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut rules = Validation::new(Algorithm::ES256);
    rules.set_audience(&["wiki"]);
    rules.set_issuer(&[&office.relay.issuer]);
    let identity = jsonwebtoken::decode::<Value>(assertion, &key, &rules).unwrap().claims;
    assert_eq!(identity["sub"], "ada");
    assert_eq!(
        identity["idp"].as_str().unwrap().trim_end_matches('/'),
        office.provider.issuer.as_str().trim_end_matches('/')
    );
    assert_eq!(identity["email"], "ada@corp.example");
    assert_eq!(identity["groups"], serde_json::json!(["staff"]));
    assert_eq!(identity["dev"], office.agent.status().await["device"]["id"]);
    assert!(identity["exp"].as_u64().unwrap() <= postern_tests::forge::now() + 60, "an assertion is short-lived");
    // The app learns the name the person used; the credential of the request stays between agent and relay.
    assert_eq!(seen.header("x-forwarded-host"), Some(office.agent.authority("wiki").as_str()));
    assert_eq!(seen.count("proxy-authorization"), 0);
    let own = Request::get("/").header("authorization", "Basic dXNlcjpwYXNz").body("").unwrap();
    assert_eq!(office.agent.send("wiki", own).await.status, 200);
    assert_eq!(office.wiki.last().header("authorization"), Some("Basic dXNlcjpwYXNz"), "the app's own is the app's");
}

/// A WebSocket: once app and client have agreed, bytes flow both ways until one of them leaves.
#[tokio::test]
async fn a_web_socket_passes_both_ways() {
    let chat = Upstream::switching().await;
    let address = chat.address;
    let office = Office::with(|settings| settings.app(App::http("chat", address))).await;
    office.sign_in().await;
    let mut socket = TcpStream::connect(office.agent.http()).await.unwrap();
    let head = format!(
        "GET /room HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        office.agent.authority("chat")
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let switched = async {
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(socket.read_u8().await.unwrap());
        }
    };
    within(SHORT, "the app switches", switched).await;
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    for message in [&b"\x81\x05hello"[..], &[7; 100_000]] {
        socket.write_all(message).await.unwrap();
        let mut back = vec![0; message.len()];
        within(SHORT, "the message comes back", socket.read_exact(&mut back)).await.unwrap();
        assert!(back == message);
    }
    let seen = String::from_utf8_lossy(&chat.log().connections.concat()).into_owned();
    assert!(seen.contains("x-postern-identity"), "the app knows who talks");
}

/// A real database through the local port of a TCP app: 10 MB in, 10 MB out.
#[tokio::test]
async fn a_database_is_used_through_its_local_port() {
    let world = World::new();
    let (provider, keyring, server) =
        (Provider::start(&world).await, Keyring::unlocked(&world).await, Postgres::start(&world).await);
    let relay = Relay::start(&world, Settings::new(&provider.issuer).app(App::tcp("db", server.address))).await;
    let agent = Agent::start(&world, "agent", Some(&keyring)).await;
    agent.login(&relay, &mut Browser::of("ada")).await;
    let port = agent.port("db").await;
    assert_ne!(port, server.address.port());

    assert_eq!(psql(port, "select 6 * 7", b"").await.ok().stdout, "42\n");
    psql(port, "create table t (n int, text text)", b"").await.ok();
    let rows: String = (0..100_000).map(|n| format!("{n}\t{}\n", "x".repeat(97))).collect();
    assert!(rows.len() > 10_000_000);
    psql(port, "copy t from stdin", rows.as_bytes()).await.ok();
    let back = psql(port, "copy (select * from t order by n) to stdout", b"").await.ok();
    assert!(back.stdout == rows, "{} bytes came back of {}", back.stdout.len(), rows.len());
    // An error of the app is the app's, and the port lives on.
    assert_ne!(psql(port, "select broken", b"").await.code, 0);
    assert_eq!(psql(port, "select count(*) from t", b"").await.ok().stdout, "100000\n");
}

/// `postern connect` on stdio, as ssh's ProxyCommand uses it.
#[tokio::test]
async fn connect_carries_a_stream_on_stdio() {
    let office = Office::open().await;
    office.sign_in().await;
    let payload = postern_tests::forge::random(300_000);
    let echoed =
        postern_tests::process::run_with(&mut office.agent.command(&["connect", "echo"]), payload.as_bytes()).await;
    assert_eq!(echoed.code, 0, "{}", echoed.stderr);
    assert!(echoed.stdout == payload, "{} bytes came back of {}", echoed.stdout.len(), payload.len());

    let refused = office.agent.run(&["connect", "nosuch"]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{refused:?}");
    assert!(refused.stderr.contains("app_unknown"), "{refused:?}");
    let wrong = office.agent.run(&["connect", "wiki"]).await;
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.stderr.contains("app_kind_mismatch"), "{wrong:?}");
}

/// A refusal tells reason, fix and decision, to people and to programs, and the audit log has the same decision.
#[tokio::test]
async fn a_refusal_says_why_and_what_to_do() {
    let office = Office::open().await;
    office.sign_in().await;
    let reply = office.agent.get("vault", "/gold").await;
    assert_eq!(reply.refusal(), (403, "policy_denied"));
    let problem = reply.problem();
    assert_eq!(problem.reason.as_deref(), Some("The vault is for its keepers only."));
    assert_eq!(problem.fix.as_deref(), Some("Ask security@corp.example to make you a keeper."));
    assert!(reply.header("proxy-status").contains("http_request_denied"), "{:?}", reply.headers);
    assert_eq!(reply.header("postern-code"), "policy_denied");
    let decision = problem.decision.unwrap().to_string();
    assert_eq!(reply.header("postern-decision"), decision);

    let record = office.relay.audited("the refusal", |record| record["decision"] == decision.as_str()).await;
    assert_eq!(record["code"], "policy_denied", "{record}");
    assert_eq!(record["app"], "vault");
    assert!(record.to_string().contains("vault-closed"), "the determining policy is on record: {record}");
    assert!(record.to_string().contains("ada"), "{record}");
    assert!(!reply.text().contains("vault-closed") && !reply.text().contains("forbid"), "no policy text goes out");

    let page = Request::get("/gold").header("accept", "text/html,*/*;q=0.8").body("").unwrap();
    let page = office.agent.send("vault", page).await;
    assert_eq!(page.status, 403);
    assert!(page.header("content-type").starts_with("text/html"), "{page:?}");
    for text in ["The vault is for its keepers only.", "Ask security@corp.example", "policy_denied"] {
        assert!(page.text().contains(text), "{text} is not on the page: {}", page.text());
    }
    let unknown = office.agent.get("nosuch", "/").await;
    assert!([404, 421].contains(&unknown.status.as_u16()), "{unknown:?}");
}

/// What `apps` and `status` say, for people and for programs.
#[tokio::test]
async fn apps_and_status_tell_where_things_are() {
    let office = Office::open().await;
    office.sign_in().await;
    let apps = office.agent.run(&["apps", "--json"]).await.ok().json();
    let apps = apps["apps"].as_array().unwrap();
    let names: Vec<_> = apps.iter().map(|app| app["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["echo", "vault", "wiki"]);
    let local: Vec<_> = apps.iter().map(|app| app["local"].as_str().unwrap()).collect();
    assert!(local[0].starts_with("127.0.0.1:"), "{local:?}");
    assert_eq!(local[2], format!("http://{}/", office.agent.authority("wiki")));
    let allowed: Vec<_> = apps.iter().map(|app| app["allowed"].as_bool().unwrap()).collect();
    assert_eq!(allowed, [true, false, true]);
    assert_eq!(apps[1]["reason"], "The vault is for its keepers only.");

    let table = office.agent.run(&["apps"]).await.ok().stdout;
    for text in ["wiki", local[2], "echo", local[0], "vault"] {
        assert!(table.contains(text), "{text} is not in: {table}");
    }
    let status = office.agent.run(&["status"]).await.ok().stdout;
    for text in ["Ada Lovelace", "Example Corp"] {
        assert!(status.contains(text), "{text} is not in: {status}");
    }
    let health = office.relay.get("/health").await;
    assert_eq!(health.status, 200, "{health:?}");
}

/// Sign-out ends the session at the relay, forgets every secret, and the next sign-in starts anew.
#[tokio::test]
async fn logout_ends_the_session_everywhere() {
    let office = Office::open().await;
    office.sign_in().await;
    let first = office.agent.status().await;
    assert_eq!(office.agent.get("wiki", "/").await.status, 200);
    office.agent.run(&["logout"]).await.ok();
    assert_eq!(office.agent.status().await["state"], "signed_out");
    let refused = office.agent.get("wiki", "/").await;
    assert_eq!(refused.refusal().1, "not_signed_in", "{refused:?}");
    let session = first["session"]["id"].as_str().unwrap().to_owned();
    office
        .relay
        .audited("the end of the session", |record| {
            record["session"] == session.as_str() && record.to_string().contains("sign_out")
        })
        .await;

    office.sign_in().await;
    let second = office.agent.status().await;
    assert_ne!(second["session"]["id"], first["session"]["id"]);
    assert_ne!(second["device"]["key_thumbprint"], first["device"]["key_thumbprint"], "a new sign-in, a new key");
    assert_eq!(office.agent.get("wiki", "/").await.status, 200);
    let again = office.agent.run(&["logout"]).await.ok();
    assert_eq!(office.agent.run(&["logout"]).await.code, 0, "signing out twice is no error: {again:?}");
}

/// Signing out where nobody can be told: what was here is gone, and the person learns what that leaves, and from whom to
/// ask the rest. It is done, so the exit status is 0.
#[tokio::test]
async fn a_sign_out_that_nobody_hears_says_so_and_what_to_do() {
    for arguments in [&["logout"][..], &["logout", "--json"]] {
        let mut office = Office::open().await;
        office.sign_in().await;
        let session = office.agent.status().await["session"]["id"].as_str().unwrap().to_owned();
        office.relay.kill().await;
        office.provider.stop().await;
        let output = office.agent.run(arguments).await.ok();
        let command = format!("postern-relay revoke session {session}");
        if arguments.len() == 1 {
            assert_eq!(output.stdout, "Signed out on this device.\n");
            for text in ["The relay could not be told.", "The identity provider could not be told.", &command] {
                assert!(output.stderr.contains(text), "{text:?} is not in: {}", output.stderr);
            }
        } else {
            let (told, who) = (output.json(), |party: &Value| party["who"].as_str().unwrap().to_owned());
            assert_eq!(told["untold"].as_array().unwrap().iter().map(who).collect::<Vec<_>>(), ["relay", "provider"]);
            assert_eq!((&told["state"], output.stderr.as_str()), (&Value::from("signed_out"), ""));
            let relay = &told["untold"][0];
            assert!(relay["problem"]["fix"].as_str().unwrap().contains(&command), "{relay}");
            assert!(relay["token_ends"].is_string() || relay["token_ends"].is_number(), "{relay}");
        }
        assert_eq!(office.agent.status().await["state"], "signed_out");
    }
}
