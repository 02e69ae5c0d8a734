//! The transport under abuse: who gets in at all, and how much of it.

use super::upstreams::Upstream;
use super::world::{Device, World, app, assert_refused, quic, soon, text};
use crate::revoke;
use futures_util::FutureExt as _;
use postern_protocol::Code;
use postern_relay_core::audit::Event;
use postern_relay_core::revocation::Target;
use quinn::{ConnectionError, Endpoint, VarInt};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::NamedGroup;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Counts the tickets a server sends.
#[derive(Debug)]
struct Tickets(ClientSessionMemoryCache, AtomicUsize);

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(name, group);
    }
    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(name)
    }
    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(name, value);
    }
    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(name)
    }
    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.0.remove_tls12_session(name);
    }
    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.insert_tls13_ticket(name, value);
    }
    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(name)
    }
}

/// A33: there is nothing to resume with, and a revoked device is told so at its next handshake. A34: nor is there
/// anything to send early data with.
#[tokio::test]
async fn a33_a34_no_resumption_and_no_early_data() {
    let upstream = Upstream::echo().await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let ada = world.device("ada").await;
    let tickets = Arc::new(Tickets(ClientSessionMemoryCache::new(16), AtomicUsize::new(0)));
    let mut tls = world.client_tls(Some(&ada.identity));
    tls.resumption = Resumption::store(tickets.clone());
    tls.enable_early_data = true;
    let config = quic(tls);
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let dial = || endpoint.connect_with(config.clone(), world.addr, "postern.relay").unwrap();

    let first = Device { connection: dial().await.unwrap(), ..device_of(&world, &ada) };
    assert_eq!(text(first.get("wiki", "/").await).await.lines().next(), Some("GET /"));
    assert_eq!(tickets.1.load(Ordering::SeqCst), 0, "A33: no ticket, nothing to resume");
    assert!(dial().into_0rtt().is_err(), "A34: no early data");

    let target = Target::Device(ada.id().clone());
    revoke::revoke(&world.relay, target, Event::Revocation, "test").await.unwrap();
    let again = dial().await.unwrap();
    let ConnectionError::ApplicationClosed(close) = soon(again.closed()).await else { panic!("closed with a code") };
    assert_eq!(close.error_code, VarInt::from_u32(Code::DeviceRevoked.number()));
    assert_eq!(&close.reason[..], b"device_revoked");
}

fn device_of(world: &World, device: &Device) -> Device {
    let identity = super::world::Identity {
        leaf: device.identity.leaf.clone(),
        key: device.identity.key.clone(),
        device: device.identity.device.clone(),
    };
    let (session, subject) = (device.session.clone(), device.subject.clone());
    let token = world.token(device, &["staff"], Duration::from_secs(60));
    Device { identity, connection: device.connection.clone(), session, subject, token }
}

/// A35: whatever name is asked for and however it is spelled, nothing is served without a certificate of the device
/// authority. (A TLS 1.3 client learns of the refusal after its own side of the handshake.)
#[tokio::test]
async fn a35_no_service_without_a_device_certificate() {
    let world = World::new(&[]).await;
    let stranger = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let self_signed = CertificateParams::new(["spiffe".into()]).unwrap().self_signed(&stranger).unwrap();
    let real = world.identity().await;
    let forged = super::world::Identity {
        leaf: self_signed.der().clone(),
        key: Arc::new(stranger),
        device: real.device.clone(),
    };
    for (identity, name) in
        [(None, "postern.relay"), (None, "POSTERN.Relay"), (None, "postern.relay."), (Some(&forged), "postern.relay")]
    {
        let served = async {
            let connection = world.connect_as(identity, name).await.ok()?;
            let (mut send, mut recv) = connection.open_bi().await.ok()?;
            send.write_all(b"GET /events HTTP/1.1\r\nhost: postern.relay\r\n\r\n").await.ok()?;
            recv.read_chunk(1, true).await.ok()?
        };
        assert!(served.await.is_none(), "{name}");
    }
    let mut other_protocol = world.client_tls(Some(&real));
    other_protocol.alpn_protocols = vec![b"h3".to_vec()];
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    assert!(endpoint.connect_with(quic(other_protocol), world.addr, "postern.relay").unwrap().await.is_err());
    assert!(world.connect_as(Some(&real), "postern.relay").await.is_ok());
}

#[tokio::test]
async fn a_session_has_its_rate_and_a_device_its_connections() {
    let upstream = Upstream::echo().await;
    let limits = "requests_per_second = 1\nburst = 2";
    let world = World::with(&[app("wiki", upstream.http_url(), "")], limits).await;
    let (ada, bob) = (world.device("ada").await, world.device("bob").await);
    assert_eq!(ada.get("wiki", "/").await.status(), 200);
    assert_eq!(ada.get("wiki", "/").await.status(), 200);
    assert_refused(ada.get("wiki", "/").await, Code::RateLimited).await;
    assert_eq!(bob.get("wiki", "/").await.status(), 200, "the rate is each session's own");

    // The newest seventeen connections: the oldest of them has to go.
    let mut connections = Vec::new();
    for _ in 0..17 {
        connections.push(world.connect_as(Some(&bob.identity), "postern.relay").await.unwrap());
    }
    let ConnectionError::ApplicationClosed(close) = soon(connections[0].closed()).await else { panic!() };
    assert_eq!(close.error_code, VarInt::from_u32(Code::RateLimited.number()));
    assert!(connections[16].close_reason().is_none());
}

/// One device may open more streams than the first hundred, as it uses them, up to the configured number.
#[tokio::test]
async fn streams_are_permitted_as_they_are_used() {
    let upstream = Upstream::tcp_echo().await;
    let world = World::with(&[app("db", upstream.tcp_url(), "")], "streams_per_connection = 250").await;
    let ada = world.device("ada").await;
    let target = format!("db:{}", upstream.addr.port());
    let mut unused = Vec::new();
    for _ in 0..100 {
        unused.push(permitted(&ada).expect("100 are permitted at first"));
    }
    assert!(permitted(&ada).is_none(), "and no more, as long as they are not used");
    drop(unused);
    let mut open = Vec::new();
    for _ in 0..250 {
        open.push(soon(ada.open(&target)).await.unwrap());
    }
    assert_eq!(world.relay.streams.len(), 250);
    assert!(permitted(&ada).is_none(), "the configured number is the most");
    // QUIC tells of room that became free in bundles.
    open.truncate(200);
    for _ in 0..20 {
        open.push(soon(ada.open(&target)).await.unwrap());
    }
}

/// A stream, if the relay permits one more now.
fn permitted(device: &Device) -> Option<(quinn::SendStream, quinn::RecvStream)> {
    device.connection.open_bi().now_or_never().map(Result::unwrap)
}

/// Without a word in the configuration a device has room for what a browser and its tools open.
#[tokio::test]
async fn a_connection_has_room_for_many_streams() {
    let upstream = Upstream::tcp_echo().await;
    let world = World::new(&[app("db", upstream.tcp_url(), "")]).await;
    let ada = world.device("ada").await;
    let target = format!("db:{}", upstream.addr.port());
    let mut open = Vec::new();
    for _ in 0..300 {
        open.push(soon(ada.open(&target)).await.unwrap());
    }
    assert_eq!(world.relay.streams.len(), 300);
}

/// A36, the part of it that is the transport's: without a usable device authority it does not listen.
#[tokio::test]
async fn a36_no_endpoint_without_a_device_authority() {
    let world = World::new(&[]).await;
    let issued = crate::server_tls::Certificate::new(world.own_certificate());
    let reset = crate::transport::ResetKey::new().unwrap();
    for authority in [vec![], b"-----BEGIN CERTIFICATE-----".to_vec(), vec![0x30, 0x82]] {
        let tls = crate::transport::Tls { certificate: issued.clone(), device_ca: authority.into() };
        let bound = crate::transport::bind("127.0.0.1:0".parse().unwrap(), tls, &reset, &world.relay.config.limits);
        assert!(bound.unwrap_err().to_string().contains("device authority"));
    }
}

/// Many devices at once: beyond a number of handshakes under way each has to prove its address, and all get in.
#[tokio::test]
async fn a_rush_of_devices_is_let_in() {
    let world = World::new(&[]).await;
    let mut identities = Vec::new();
    for _ in 0..16 {
        identities.push(world.identity().await);
    }
    let dials =
        identities.iter().flat_map(|identity| (0..12).map(|_| world.connect_as(Some(identity), "postern.relay")));
    let connected = soon(futures_util::future::join_all(dials)).await;
    assert_eq!(connected.iter().filter(|connected| connected.is_ok()).count(), 16 * 12);
}
