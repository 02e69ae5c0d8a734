//! Handshakes and what comes right after them: A28, A33, A34, A35, A36, A42.

use crate::Site;
use postern_tests::certificate::{authority, device_certificate, identity, uri};
use postern_tests::client::{raw, status_of};
use postern_tests::odd::{Dribble, Tickets, TrustAnyone};
use postern_tests::quic::{Quic, endpoint, tls};
use postern_tests::wait::{SHORT, within};
use postern_tests::world::set_mode;
use postern_tests::{Device, Settings, World};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// A28: an authority's certificate is no device; a device is no authority.
#[tokio::test]
async fn a28_authorities_and_nested_chains_presented_as_leaves_are_rejected() {
    let mut site = Site::new().await;
    let (device, _) = site.signed_in("ada").await;

    // A device signs a certificate for somebody else with its own key, and shows the whole chain.
    let parent = Issuer::from_ca_cert_der(&device.chain[0], &device.key).unwrap();
    let (nested, key) = device_certificate(&parent, |_| ());
    let mut chain = vec![nested];
    chain.extend(device.chain.iter().cloned());
    assert!(!served(&site, &chain, &key).await, "a certificate issued by a device was accepted");
    assert!(!served(&site, &chain[..1], &key).await, "a certificate issued by a device was accepted without its chain");

    // The authority itself, should its key be misused for connections, is not a device either.
    let (certificate, authority_key) = authority(&site.relay.dir.join("keys/device-ca"));
    assert!(
        !served(&site, std::slice::from_ref(&certificate), &authority_key).await,
        "an authority was taken for a device"
    );

    // Nor is what the authority might be tricked into signing, unless it reads as the template does.
    type Change = fn(&mut CertificateParams);
    let issuer = Issuer::from_ca_cert_der(&certificate, &authority_key).unwrap();
    let (certificate, key) = device_certificate(&issuer, |_| ());
    assert!(served(&site, &[certificate], &key).await, "what reads as the template does is accepted, so faults tell");
    let faults: &[(&str, Change)] = &[
        ("a subordinate authority", |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ("a server", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ("any purpose", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]),
        ("no identity", |params| params.subject_alt_names.clear()),
        ("a foreign trust domain", |params| {
            params.subject_alt_names = vec![uri("spiffe://evil.example/device/00112233445566778899aabbccddeeff")];
        }),
        ("two identities", |params| {
            params.subject_alt_names.push(uri("spiffe://corp.example/device/00112233445566778899aabbccddeeff"));
        }),
        ("a name beside the identity", |params| {
            params.subject_alt_names.push(SanType::DnsName("postern.relay".try_into().unwrap()));
        }),
    ];
    for (what, change) in faults {
        let (certificate, key) = device_certificate(&issuer, *change);
        assert!(!served(&site, &[certificate], &key).await, "accepted: {what}");
    }
    // The server authority vouches for servers only.
    let (certificate, authority_key) = authority(&site.relay.dir.join("keys/server-ca"));
    let issuer = Issuer::from_ca_cert_der(&certificate, &authority_key).unwrap();
    let (certificate, key) = device_certificate(&issuer, |_| ());
    assert!(!served(&site, &[certificate], &key).await, "the server authority vouched for a device");
    site.is_sound().await;
}

/// A33: a resumed handshake cannot carry an identity past a revocation: the relay gives out nothing to resume with, and
/// the next handshake of a revoked device ends in its refusal.
#[tokio::test]
async fn a33_resumption_does_not_outlive_the_device() {
    let site = Site::new().await;
    let (device, _) = site.signed_in("ada").await;
    let mut config = tls(&site.relay, Some(device.identity()));
    let tickets = Tickets::store();
    config.resumption = Resumption::store(tickets.clone());
    let endpoint = endpoint(config);
    let connect = async || {
        let connecting = endpoint.connect(site.relay.quic, &site.relay.server_name).unwrap();
        within(SHORT, "a handshake", connecting).await.map_err(|error| error.to_string())
    };
    let first = connect().await.unwrap();
    assert_eq!(exchange_on(&first, &device).await, Some(200));
    first.close(0u32.into(), b"");
    assert_eq!(tickets.count(), 0, "the relay gave out tickets");

    site.relay.revoke("device", &device.id()).await.ok();
    for _ in 0..3 {
        let second = connect().await.unwrap();
        let quinn::ConnectionError::ApplicationClosed(close) = within(SHORT, "a refusal", second.closed()).await else {
            panic!("not refused with a reason")
        };
        assert_eq!(&close.reason[..], b"device_revoked");
        assert_eq!(exchange_on(&second, &device).await, None);
    }
    assert_eq!(site.wiki.requests().len(), 1);
}

/// A34: the relay offers no 0-RTT, so there is nothing to replay.
#[tokio::test]
async fn a34_early_data_is_never_processed() {
    let site = Site::new().await;
    let (device, _) = site.signed_in("ada").await;
    let mut config = tls(&site.relay, Some(device.identity()));
    config.resumption = Resumption::in_memory_sessions(16);
    config.enable_early_data = true;
    let endpoint = endpoint(config);
    for round in 0..3 {
        let connecting = endpoint.connect(site.relay.quic, &site.relay.server_name).unwrap();
        match connecting.into_0rtt() {
            Ok((early, accepted)) => {
                let (mut send, _receive) = early.open_bi().await.unwrap();
                send.write_all(&device.head("POST /early HTTP/1.1", "wiki", "content-length: 0\r\n")).await.unwrap();
                assert!(!accepted.await, "round {round}: early data was accepted");
            }
            Err(connecting) => {
                let connection = within(SHORT, "a handshake", connecting).await.unwrap();
                // One exchange, so that tickets, were there any, have arrived.
                assert_eq!(exchange_on(&connection, &device).await, Some(200));
            }
        }
    }
    assert!(site.wiki.requests().iter().all(|seen| seen.target != "/early"), "early data reached the app");
}

/// A35: whatever name a client asks for and however it cuts its first message, without a certificate there is no way in.
#[tokio::test]
async fn a35_no_server_name_leads_past_the_client_certificate() {
    let site = Site::new().await;
    for name in ["postern.relay", "POSTERN.RELAY", "wiki", "localhost", "a.postern.relay", "127.0.0.1"] {
        let mut config = tls(&site.relay, None);
        config.dangerous().set_certificate_verifier(TrustAnyone::verifier());
        let reached = match Quic::connect_as(&site.relay, config, name).await {
            Ok(quic) => quic.is_served().await,
            Err(_) => false,
        };
        assert!(!reached, "{name}: served without a client certificate");
    }
    for alpn in [&[&b"h3"[..]][..], &[b"h2", b"http/1.1"], &[b"postern/2"], &[]] {
        let mut config = tls(&site.relay, None);
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let reached = match Quic::connect_as(&site.relay, config, &site.relay.server_name).await {
            Ok(quic) => quic.is_served().await,
            Err(_) => false,
        };
        assert!(!reached, "{alpn:?}: served without a client certificate");
    }
}

/// A35: the public listener, which asks for no certificate, gives no way to an app or to the control side, even to a
/// client that sends its first message byte by byte.
#[tokio::test]
async fn a35_the_public_listener_leads_nowhere_even_for_a_fragmented_hello() {
    let site = Site::new().await;
    let (device, _) = site.signed_in("ada").await;
    let socket = TcpStream::connect(site.relay.public).await.unwrap();
    socket.set_nodelay(true).unwrap();
    // Served or dropped, both are sound; what counts is what is behind it.
    if let Ok(mut stream) = site.relay.tls_over(Dribble(socket)).await {
        for (host, line) in [
            ("wiki", "GET / HTTP/1.1"),
            ("postern.relay", "GET /apps HTTP/1.1"),
            ("postern.relay", "POST /session HTTP/1.1"),
            ("wiki", "CONNECT wiki:80 HTTP/1.1"),
            ("wiki", "GET http://wiki/ HTTP/1.1"),
        ] {
            let answer = raw(&mut stream, &device.head(line, host, "content-length: 0\r\n")).await;
            let status = status_of(&answer);
            assert!(status.is_none_or(|status| (400..500).contains(&status)), "{line}: {status:?}");
        }
    }
    assert_eq!(site.wiki.requests().len(), 0);
}

/// A36: a relay whose authority is missing, empty or mangled does not start, and says which file it is.
#[tokio::test]
async fn a36_without_its_authority_the_relay_does_not_start() {
    let world = World::new();
    let dir = world.path("relay");
    world.postern_relay(&["init", dir.to_str().unwrap()]).await.ok();
    postern_tests::relay::configure(&dir, &Settings::new("http://127.0.0.1:1"));
    let config = dir.join("relay.toml");
    let serve = ["serve", "--config", config.to_str().unwrap()];
    for name in
        ["device-ca.crt", "device-ca.key", "server-ca.crt", "server-ca.key", "session.key", "identity.key", "audit.key"]
    {
        let file = dir.join("keys").join(name);
        let whole = std::fs::read(&file).unwrap();
        let mangled = [
            whole[..whole.len() / 2].to_vec(),
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(),
        ];
        for content in [None, Some(Vec::new()), Some(mangled[0].clone()), Some(mangled[1].clone())] {
            match &content {
                None => std::fs::remove_file(&file).unwrap(),
                Some(bytes) => std::fs::write(&file, bytes).unwrap(),
            }
            let output = world.postern_relay(&serve).await;
            assert_eq!(output.code, 1, "{name} with {content:?}: {output:?}");
            assert!(output.stderr.contains(name), "{name} is not named: {}", output.stderr);
            assert!(!output.stderr.contains("panicked") && !output.stdout.contains("ready"), "{output:?}");
        }
        std::fs::write(&file, whole).unwrap();
        set_mode(&file, 0o600);
    }
}

/// A42: a header section stops being read at 64 KiB, trailers included, and the relay lives on.
#[tokio::test]
async fn a42_header_bombs_stop_at_64_kib() {
    let mut site = Site::new().await;
    let (device, quic) = site.signed_in("ada").await;
    let many: String = (0..20_000).map(|n| format!("a{n}: b\r\n")).collect();
    let one = format!("a: {}\r\n", "b".repeat(1024 * 1024));
    let folded = format!("cookie: {}\r\n", "c".repeat(70 * 1024));
    for lines in [many.as_str(), &one, &folded] {
        let answer = quic.raw(&device.head("GET / HTTP/1.1", "wiki", lines)).await;
        assert!(matches!(status_of(&answer), Some(431 | 400) | None), "{:?}", status_of(&answer));
    }
    assert_eq!(site.wiki.requests().len(), 0, "a bomb reached the app");
    let fits = format!("cookie: {}\r\n", "c".repeat(30 * 1024));
    assert_eq!(status_of(&quic.raw(&device.head("GET / HTTP/1.1", "wiki", &fits)).await), Some(200));

    // Trailers: what arrives upstream of a bomb, if anything, has none of it.
    let mut bomb = device.head("POST /trailers HTTP/1.1", "wiki", "transfer-encoding: chunked\r\n");
    bomb.extend_from_slice(b"1\r\nx\r\n0\r\n");
    bomb.extend_from_slice(many.as_bytes());
    bomb.extend_from_slice(b"\r\n");
    quic.raw(&bomb).await;
    assert!(site.wiki.log().connections.iter().all(|bytes| bytes.len() < 64 * 1024), "the bomb went on upstream");
    site.is_sound().await;
}

async fn exchange_on(connection: &quinn::Connection, device: &Device) -> Option<u16> {
    let (mut send, mut receive) = connection.open_bi().await.ok()?;
    send.write_all(&device.head("GET / HTTP/1.1", "wiki", "")).await.ok()?;
    let mut answer = vec![0; 4096];
    let read = within(SHORT, "an answer", AsyncReadExt::read(&mut receive, &mut answer)).await.ok()?;
    status_of(&answer[..read])
}

async fn served(site: &Site, chain: &[CertificateDer<'static>], key: &KeyPair) -> bool {
    match Quic::connect(&site.relay, Some(identity(chain, key))).await {
        Ok(quic) => quic.is_served().await,
        Err(_) => false,
    }
}
