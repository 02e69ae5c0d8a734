//! Reaching the relay: addresses raced as RFC 8305 says, TLS 1.3 with the device's certificate, QUIC's knobs.

use super::{TlsIdentity, cause};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use postern_protocol::discovery::RelayEndpoint;
use postern_protocol::{ALPN_QUIC, Code, Problem};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, TokioRuntime, TransportConfig, VarInt};
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Longest time from the first packet to a connection.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// Head start of each address before the next is tried beside it (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);
/// A hostile resolver cannot make the agent knock on more doors than this.
const MAX_ADDRESSES: usize = 8;
/// Silence after which the connection counts as dead; pings come three times as often.
const IDLE_LIMIT: VarInt = VarInt::from_u32(30_000);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Measured: twice the bulk throughput of the kernel's default at 16 streams and more.
const UDP_BUFFER: usize = 4 * 1024 * 1024;
/// quinn's own stream window measured best; the connection's would be unlimited.
const STREAM_WINDOW: VarInt = VarInt::from_u32(1_250_000);
const CONNECTION_WINDOW: VarInt = VarInt::from_u32(32 * 1024 * 1024);
const SEND_WINDOW: u64 = 16 * 1024 * 1024;

/// Connects to the first of the relay's addresses that answers as that relay. Without an identity the relay takes no
/// request, but has shown who it is.
pub(super) async fn connect(
    endpoint: &RelayEndpoint,
    identity: Option<TlsIdentity>,
) -> Result<(Endpoint, Connection), Problem> {
    let config = client_config(endpoint, identity)?;
    let attempt = async {
        let addresses = resolve(&endpoint.quic).await?;
        race(&addresses, &config, &endpoint.server_name).await
    };
    let silent = || {
        let detail = format!("no answer from {} within {} s; UDP may be blocked", endpoint.quic, DIAL_LIMIT.as_secs());
        Problem::new(Code::RelayUnreachable).detail(detail)
    };
    tokio::time::timeout(DIAL_LIMIT, attempt).await.unwrap_or_else(|_| Err(silent()))
}

async fn resolve(authority: &str) -> Result<Vec<SocketAddr>, Problem> {
    let unreachable =
        |why: String| Problem::new(Code::RelayUnreachable).detail(format!("cannot resolve {authority}: {why}"));
    let found = tokio::net::lookup_host(authority).await.map_err(|error| unreachable(error.to_string()))?;
    let addresses = interleave(found.collect());
    if addresses.is_empty() { Err(unreachable("it has no address".into())) } else { Ok(addresses) }
}

/// Families in turn, beginning with the one the system prefers, so that one broken family costs one head start.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv6) else { return addresses };
    let (preferred, others): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == first);
    let mut others = others.into_iter();
    let mut ordered = Vec::new();
    for address in preferred {
        ordered.push(address);
        ordered.extend(others.next());
    }
    ordered.extend(others);
    ordered.truncate(MAX_ADDRESSES);
    ordered
}

async fn race(
    addresses: &[SocketAddr],
    config: &ClientConfig,
    server_name: &str,
) -> Result<(Endpoint, Connection), Problem> {
    let mut waiting = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure: Option<Problem> = None;
    loop {
        if let Some(&address) = waiting.next() {
            attempts.push(handshake(address, config.clone(), server_name));
        }
        let more = waiting.len() > 0;
        tokio::select! {
            Some(result) = attempts.next() => match result {
                Ok(reached) => return Ok(reached),
                // What an address says of certificates or versions tells more than another's silence.
                Err(problem) => failure = match failure {
                    Some(told) if told.code != Code::RelayUnreachable => Some(told),
                    _ => Some(problem),
                },
            },
            () = tokio::time::sleep(STAGGER), if more => {}
            else => return Err(failure.unwrap_or_else(|| Problem::new(Code::RelayUnreachable))),
        }
    }
}

async fn handshake(
    address: SocketAddr,
    config: ClientConfig,
    server_name: &str,
) -> Result<(Endpoint, Connection), Problem> {
    let local = |error: io::Error| Problem::new(Code::RelayUnreachable).detail(format!("{address}: {error}"));
    let socket = udp_socket(address.is_ipv6()).map_err(local)?;
    let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime)).map_err(local)?;
    let connecting = endpoint.connect_with(config, address, server_name).map_err(|error| {
        Problem::new(Code::DiscoveryInvalid).detail(format!("the relay's endpoint is not usable: {error}"))
    })?;
    let connection = connecting.await.map_err(|error| cause::of_handshake(&error))?;
    Ok((endpoint, connection))
}

fn udp_socket(ipv6: bool) -> io::Result<std::net::UdpSocket> {
    let (domain, any): (_, SocketAddr) = if ipv6 {
        (Domain::IPV6, (Ipv6Addr::UNSPECIFIED, 0).into())
    } else {
        (Domain::IPV4, (Ipv4Addr::UNSPECIFIED, 0).into())
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    // The kernel grants what its limits allow; less is slower, not wrong.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER);
    let _ = socket.set_send_buffer_size(UDP_BUFFER);
    socket.bind(&any.into())?;
    Ok(socket.into())
}

fn client_config(endpoint: &RelayEndpoint, identity: Option<TlsIdentity>) -> Result<ClientConfig, Problem> {
    let invalid = |why: String| Problem::new(Code::DiscoveryInvalid).detail(why);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(endpoint.ca_pem.as_bytes()) {
        let certificate = certificate.map_err(|error| invalid(format!("its authority is not PEM: {error}")))?;
        roots.add(certificate).map_err(|error| invalid(format!("its authority is not usable: {error}")))?;
    }
    if roots.is_empty() {
        return Err(invalid("it names no authority for its certificate".into()));
    }
    let internal = |error: rustls::Error| Problem::new(Code::Internal).detail(error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(internal)?
        .with_root_certificates(roots);
    let mut tls = match identity {
        Some(TlsIdentity { chain, key }) => {
            tls.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))))
        }
        None => tls.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![ALPN_QUIC.to_vec()];
    // A resumed handshake would not show the certificate again; 0-RTT could be replayed.
    tls.resumption = Resumption::disabled();
    tls.enable_early_data = false;
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| invalid(error.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IDLE_LIMIT.into()))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .stream_receive_window(STREAM_WINDOW)
        .receive_window(CONNECTION_WINDOW)
        .send_window(SEND_WINDOW)
        // The relay never opens a stream towards the agent.
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    transport
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_a_flood_of_addresses_is_cut() {
        let (v4, v6) = (SocketAddr::from(([192, 0, 2, 1], 1)), SocketAddr::from((Ipv6Addr::LOCALHOST, 1)));
        assert_eq!(interleave(vec![v6, v6, v6, v4]), [v6, v4, v6, v6]);
        assert_eq!(interleave(vec![v4, v6]), [v4, v6]);
        assert_eq!(interleave(vec![v4; 100]).len(), MAX_ADDRESSES);
        assert!(interleave(vec![]).is_empty());
    }
}
