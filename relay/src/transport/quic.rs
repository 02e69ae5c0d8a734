//! The QUIC transport: each bidirectional stream carries HTTP/1.1, or an app's bytes after a `CONNECT`.

use super::stream::QuicStream;
use super::{Cut, ResetKey, Tls, TlsError, tls};
use crate::config::Limits;
use crate::reverify;
use crate::service::{self, Peer};
use crate::state::Relay;
use postern_protocol::control::RelayEvent;
use postern_protocol::{ALPN_QUIC, Code, DeviceId};
use postern_relay_core::audit::{Event, Record};
use postern_relay_core::certificate::{VerifiedDevice, named_device, verify_device};
use quinn::TransportErrorCode;
use quinn::{Connection, ConnectionError, Endpoint, Incoming, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// A connection that brings nothing for this long is dead; agents send keep-alives more often.
const IDLE: Duration = Duration::from_secs(30);
/// The relay's own keep-alive: also keeps address translators on the way from forgetting.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way above which a source must prove its address first (Retry).
const RETRY_ABOVE: u32 = 64;
/// Handshakes under way above which none is begun.
const REFUSE_ABOVE: u32 = 2048;
/// Streams a connection may open at first; each permitted stream costs memory whether it is used or not.
const FIRST_STREAMS: u32 = 100;
/// Bytes a connection may have in flight towards the relay over all streams: bounds what a device can pin
/// with streams nobody reads, at 25 full stream windows.
const RECEIVE_WINDOW: u32 = 32 * 1024 * 1024;
/// Kernel buffers of the UDP socket: the default of 200 KB overflows between two turns of a busy loop.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// How long live streams may go on once the relay stops.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken or not ours.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// Keys or certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// An endpoint that listens and does not yet serve.
#[derive(Debug)]
pub struct Bound {
    endpoint: Endpoint,
    local_addr: SocketAddr,
    connections: usize,
    streams: u32,
}

/// Opens the endpoint. To be called within a tokio runtime.
pub fn bind(addr: SocketAddr, tls: Tls, reset: &ResetKey, limits: &Limits) -> Result<Bound, BindError> {
    let mut server = ServerConfig::with_crypto(Arc::new(tls::quic(tls, ALPN_QUIC)?));
    server.transport_config(Arc::new(transport(limits))).max_incoming(4096).incoming_buffer_size_total(16 << 20);
    let endpoint = Endpoint::new(reset.endpoint(), Some(server), socket(addr)?, Arc::new(TokioRuntime))?;
    let local_addr = endpoint.local_addr()?;
    let connections = usize::try_from(limits.connections).unwrap_or(usize::MAX);
    Ok(Bound { endpoint, local_addr, connections, streams: limits.streams_per_connection })
}

/// What is not set here is quinn's default on purpose: stream windows of 1.25 MB, MTU discovery, segmentation offload.
fn transport(limits: &Limits) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(permit(FIRST_STREAMS, limits.streams_per_connection)))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(IDLE.try_into().ok());
    transport
}

fn socket(addr: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // The kernel caps these at its own limits: less speed, no failure.
    let _capped = (socket.set_recv_buffer_size(SOCKET_BUFFER), socket.set_send_buffer_size(SOCKET_BUFFER));
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

impl Bound {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown`, then lets live streams end within ten seconds.
    pub async fn serve(self, relay: Arc<Relay>, shutdown: CancellationToken) {
        let (handshakes, tasks) = (Arc::new(AtomicU32::new(0)), TaskTracker::new());
        // A task of its own: a round of re-checks must not keep new connections waiting.
        let watched = relay.clone();
        let watching = tokio::spawn(async move { reverify::watch_deadlines(&watched).await });
        let mut deadlines = AbortOnDropHandle::new(watching);
        loop {
            let incoming = tokio::select! {
                () = shutdown.cancelled() => break,
                _ = &mut deadlines => break,
                incoming = self.endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { break };
            match self.admit(incoming, handshakes.load(Ordering::Relaxed)) {
                Ok(incoming) => {
                    let slot = Handshake::begin(&handshakes);
                    tasks.spawn(connection(relay.clone(), incoming, slot, self.streams));
                }
                Err(Some(code)) => {
                    // An address that nobody has proved is neither believed nor remembered.
                    let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                    if relay.limiters.refusals.record_public(nowhere, code) {
                        let record = Record::event(Event::Connection, relay.clock.now()).refused(code);
                        let relay = relay.clone();
                        tasks.spawn(async move {
                            let _unavailable =
                                relay.audit.record(record.detail("no room for another connection")).await;
                        });
                    }
                }
                Err(None) => {}
            }
        }
        tokio::select! {
            () = self.drain(&relay, &tasks) => {}
            _ = deadlines => {}
        }
    }

    /// Turns away, with a code, what there is no room for, and under load makes the source prove its address first.
    fn admit(&self, incoming: Incoming, handshakes: u32) -> Result<Incoming, Option<Code>> {
        if self.endpoint.open_connections() >= self.connections || handshakes >= REFUSE_ABOVE {
            incoming.refuse();
            return Err(Some(Code::RateLimited));
        }
        if handshakes >= RETRY_ABOVE && !incoming.remote_address_validated() && incoming.may_retry() {
            let _an_unvalidated_source_may_always = incoming.retry();
            return Err(None);
        }
        Ok(incoming)
    }

    async fn drain(&self, relay: &Relay, tasks: &TaskTracker) {
        self.endpoint.set_server_config(None);
        relay.draining.cancel();
        relay.events.send_all(&RelayEvent::Draining);
        let deadline = Instant::now() + DRAIN;
        while !relay.streams.is_empty() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.endpoint.close(VarInt::from_u32(Code::Draining.number()), Code::Draining.as_str().as_bytes());
        tasks.close();
        let _tell_the_devices = timeout(Duration::from_secs(1), async {
            tasks.wait().await;
            self.endpoint.wait_idle().await;
        })
        .await;
    }
}

/// Counts a handshake under way.
struct Handshake(Arc<AtomicU32>);

impl Handshake {
    fn begin(under_way: &Arc<AtomicU32>) -> Self {
        under_way.fetch_add(1, Ordering::Relaxed);
        Self(under_way.clone())
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(relay: Arc<Relay>, incoming: Incoming, handshake: Handshake, most_streams: u32) {
    let source = incoming.remote_address();
    let connection = match timeout(HANDSHAKE, async { incoming.accept()?.await }).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(why)) => {
            tracing::debug!(%source, %why, "handshake failed");
            // Whoever gives up or falls silent was not refused.
            if let ConnectionError::TransportError(error) = why
                && let Some(code) = refusal(error.code)
            {
                record_unknown(&relay, source, code).await;
            }
            return;
        }
        Err(_) => return tracing::debug!(%source, "handshake took too long"),
    };
    drop(handshake);
    match identify(&relay, &connection) {
        Ok(device) => serve(relay, connection, device, most_streams).await,
        Err(code) => {
            tracing::info!(%source, %code, "device refused");
            close(&connection, code);
            match named(&relay, &connection) {
                Some(device) => record_refused(&relay, &device, source, code).await,
                None => record_unknown(&relay, source, code).await,
            }
        }
    }
}

/// The code for a certificate that our side of TLS refused, by its alert (RFC 8446 §6, RFC 9001 §4.8). It comes late
/// enough that the source has proved its address.
fn refusal(error: TransportErrorCode) -> Option<Code> {
    match u64::from(error).checked_sub(0x100)? {
        45 => Some(Code::CertificateExpired),
        42..=44 | 46 | 48 | 51 | 116 => Some(Code::CertificateInvalid),
        _ => None,
    }
}

/// Records that a device's connection was refused or ended, within what its refusals may take.
async fn record_refused(relay: &Relay, device: &DeviceId, source: SocketAddr, code: Code) {
    if relay.limiters.refusals.record_of(device) {
        let record = Record::event(Event::Connection, relay.clock.now()).of_device(device).from(source.ip());
        // It stands refused whether or not that can be recorded.
        let _unavailable = relay.audit.record(record.refused(code)).await;
    }
}

/// The same for somebody who could not be identified, within what the public may take.
async fn record_unknown(relay: &Relay, source: SocketAddr, code: Code) {
    if relay.limiters.refusals.record_public(source.ip(), code) {
        let record = Record::event(Event::Connection, relay.clock.now()).from(source.ip());
        let _unavailable = relay.audit.record(record.refused(code)).await;
    }
}

/// Whom the certificate of a refused device names.
fn named(relay: &Relay, connection: &Connection) -> Option<DeviceId> {
    let identity = connection.peer_identity()?.downcast::<Vec<CertificateDer<'_>>>().ok()?;
    named_device(identity.first()?, &relay.config.trust_domain)
}

/// Who this is. After every handshake: a device that was revoked gets no further.
fn identify(relay: &Relay, connection: &Connection) -> Result<Arc<VerifiedDevice>, Code> {
    let identity = connection.peer_identity().and_then(|identity| identity.downcast::<Vec<CertificateDer<'_>>>().ok());
    let leaf = identity.as_ref().and_then(|chain| chain.first()).ok_or(Code::CertificateInvalid)?;
    let device = verify_device(leaf, &relay.config.trust_domain, relay.clock.now())?;
    if relay.snapshot.load().revocations.is_device(device.id()) {
        return Err(Code::DeviceRevoked);
    }
    Ok(Arc::new(device))
}

fn close(connection: &Connection, code: Code) {
    connection.close(VarInt::from_u32(code.number()), code.as_str().as_bytes());
}

async fn serve(relay: Arc<Relay>, connection: Connection, device: Arc<VerifiedDevice>, most_streams: u32) {
    let cut = Arc::new(Cut::new());
    let filed = relay.streams.connections().open(device.clone(), cut.clone());
    // Filed first, then looked at again: a revocation in between finds either the file or this.
    if relay.snapshot.load().revocations.is_device(device.id()) {
        close(&connection, Code::DeviceRevoked);
        return record_refused(&relay, device.id(), connection.remote_address(), Code::DeviceRevoked).await;
    }
    let peer = Arc::new(Peer { relay, device, source: connection.remote_address(), connection: cut.clone() });
    let mut room =
        Room { most: most_streams, permitted: permit(FIRST_STREAMS, most_streams), tasks: TaskTracker::new() };
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept_bi() => accepted,
            code = cut.wait() => {
                close(&connection, code);
                // It no longer counts among the device's connections.
                drop(filed);
                return record_refused(&peer.relay, peer.device.id(), peer.source, code).await;
            }
        };
        match accepted {
            Ok((send, recv)) => {
                room.grow(&connection);
                room.tasks.spawn(stream(peer.clone(), send, recv));
            }
            Err(why) => return tracing::debug!(device = %peer.device.id(), %why, "connection ended"),
        }
    }
}

/// The streams a connection may have.
struct Room {
    most: u32,
    permitted: u32,
    tasks: TaskTracker,
}

impl Room {
    /// Permits twice as many once three quarters are in use.
    fn grow(&mut self, connection: &Connection) {
        let used = u32::try_from(self.tasks.len()).unwrap_or(u32::MAX).saturating_add(1);
        if self.permitted < self.most && used >= self.permitted / 4 * 3 {
            self.permitted = permit(self.permitted.saturating_mul(2), self.most);
            connection.set_max_concurrent_bi_streams(VarInt::from_u32(self.permitted));
        }
    }
}

/// How many streams to permit where `wanted` would do. All, if little is left to the most: quinn does not announce a
/// raise by less than an eighth.
fn permit(wanted: u32, most: u32) -> u32 {
    if wanted >= most / 4 * 3 { most } else { wanted }
}

async fn stream(peer: Arc<Peer>, send: quinn::SendStream, recv: quinn::RecvStream) {
    let cut = Arc::new(Cut::new());
    let io = QuicStream::new(send, recv, cut.clone());
    let abandoned = io.send.abandoned();
    tokio::select! {
        () = service::serve(peer, io, cut) => {}
        // The device no longer wants the answer: nothing of it is worth finishing.
        () = abandoned => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_raise_is_large_enough_to_be_announced() {
        for most in 1..=20_000 {
            let mut permitted = permit(FIRST_STREAMS, most);
            assert!(permitted <= FIRST_STREAMS * 4 / 3 + 4, "{most}");
            while permitted < most {
                let raised = permit(permitted * 2, most);
                assert!(raised - permitted > raised / 8 && raised <= most, "{permitted} to {raised} of {most}");
                permitted = raised;
            }
        }
    }
}
