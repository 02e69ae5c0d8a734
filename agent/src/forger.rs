//! An attacker on the path to the relay, for tests: passes packets on, or answers in the relay's name.
//!
//! The keys of Initial packets follow from the connection id that the first of them shows (RFC 9001 §5.2), so whoever sees
//! it can write packets that the agent opens.

use parking_lot::Mutex;
use rustls::Side;
use rustls::quic::{Suite, Version};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::net::UdpSocket;

/// Tells that the connection is over: the transport's frame, and the application's, which no Initial may hold.
pub(crate) const CLOSE: u8 = 0x1c;
pub(crate) const APPLICATION_CLOSE: u8 = 0x1d;

/// Stands between agents and a relay.
pub(crate) struct Forger {
    /// Where agents think the relay is.
    pub(crate) address: String,
    path: Arc<Path>,
}

struct Path {
    near: UdpSocket,
    relay: SocketAddr,
    forges: AtomicBool,
    forged: AtomicUsize,
    /// The payload of each answer in the relay's name, in turn.
    answers: Vec<Vec<u8>>,
    /// The first Initial of each agent's connection, and the way to the relay for it.
    agents: Mutex<HashMap<SocketAddr, (Ids, Arc<UdpSocket>)>>,
}

/// The connection ids that an agent's first packet shows.
#[derive(Clone)]
struct Ids {
    destination: Vec<u8>,
    source: Vec<u8>,
}

impl Forger {
    /// Honest at first.
    pub(crate) async fn before(relay: &str, answers: Vec<Vec<u8>>) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = near.local_addr().unwrap().to_string();
        let (forges, forged) = (AtomicBool::new(false), AtomicUsize::new(0));
        let relay = relay.parse().unwrap();
        let path = Arc::new(Path { near, relay, forges, forged, answers, agents: Mutex::default() });
        tokio::spawn(Arc::clone(&path).run());
        Self { address, path }
    }

    /// From now on answers in the relay's name, and the relay hears nothing; or lets packets pass again.
    pub(crate) fn forge(&self, forges: bool) {
        self.path.forges.store(forges, Ordering::SeqCst);
    }

    /// How many answers it has forged.
    pub(crate) fn forged(&self) -> usize {
        self.path.forged.load(Ordering::SeqCst)
    }

    /// Sends every forgery to every agent, whatever stage its connection is at.
    pub(crate) async fn forge_into_connections(&self) {
        let agents: Vec<_> = self.path.agents.lock().iter().map(|(agent, (ids, _))| (*agent, ids.clone())).collect();
        assert!(!agents.is_empty(), "somebody is connected");
        for (agent, ids) in agents {
            for answer in &self.path.answers {
                self.path.near.send_to(&initial(&ids, answer), agent).await.unwrap();
            }
        }
    }
}

impl Path {
    async fn run(self: Arc<Self>) {
        let mut packet = [0; 2000];
        while let Ok((length, agent)) = self.near.recv_from(&mut packet).await {
            let packet = &packet[..length];
            if self.forges.load(Ordering::SeqCst) {
                if let Some(ids) = ids_of(packet) {
                    let turn = self.forged.fetch_add(1, Ordering::SeqCst) % self.answers.len();
                    self.near.send_to(&initial(&ids, &self.answers[turn]), agent).await.unwrap();
                }
                continue;
            }
            let known = self.agents.lock().get(&agent).map(|(_, far)| Arc::clone(far));
            let far = match (known, ids_of(packet)) {
                (Some(far), _) => far,
                (None, Some(ids)) => self.open(agent, ids).await,
                (None, None) => continue,
            };
            let _ = far.send(packet).await;
        }
    }

    async fn open(self: &Arc<Self>, agent: SocketAddr, ids: Ids) -> Arc<UdpSocket> {
        let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        far.connect(self.relay).await.unwrap();
        self.agents.lock().insert(agent, (ids, Arc::clone(&far)));
        let (path, answers) = (Arc::clone(self), Arc::clone(&far));
        tokio::spawn(async move {
            let mut packet = [0; 2000];
            while let Ok(length) = answers.recv(&mut packet).await {
                if !path.forges.load(Ordering::SeqCst) {
                    let _ = path.near.send_to(&packet[..length], agent).await;
                }
            }
        });
        far
    }
}

/// A frame that closes the connection for `code` (RFC 9000 §19.19).
pub(crate) fn close_frame(kind: u8, code: u32) -> Vec<u8> {
    assert!(code < 1 << 14);
    let mut frame = vec![kind, 0x40 | code.to_be_bytes()[2], code.to_be_bytes()[3]];
    if kind == CLOSE {
        frame.push(0); // the frame type that was at fault: none
    }
    frame.push(0); // no words
    frame
}

/// The connection ids of an Initial packet of QUIC 1 (RFC 9000 §17.2.2).
fn ids_of(packet: &[u8]) -> Option<Ids> {
    let is_initial = packet.first()? & 0xf0 == 0xc0 && packet.get(1..5)? == [0, 0, 0, 1];
    let (length, rest) = packet.get(5..)?.split_first()?;
    let (destination, rest) = rest.split_at_checked(usize::from(*length))?;
    let (length, rest) = rest.split_first()?;
    let source = rest.get(..usize::from(*length))?;
    is_initial.then(|| Ids { destination: destination.to_vec(), source: source.to_vec() })
}

/// The relay's first packet as anybody can write it who has seen the agent's (RFC 9001 §5.2 to §5.4).
fn initial(ids: &Ids, frames: &[u8]) -> Vec<u8> {
    let tls13 = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13().unwrap();
    let suite: Suite = tls13.quic_suite().unwrap();
    let keys = suite.keys(&ids.destination, Side::Server, Version::V1).local;
    let mut payload = frames.to_vec();
    payload.resize(1100, 0); // padding
    let length = u16::try_from(1 + payload.len() + keys.packet.tag_len()).unwrap();
    let mut header = vec![0xc0, 0, 0, 0, 1, u8::try_from(ids.source.len()).unwrap()];
    header.extend_from_slice(&ids.source);
    header.extend_from_slice(&[4, b'e', b'v', b'i', b'l', 0]); // its own id; no token
    header.extend_from_slice(&(0x4000 | length).to_be_bytes());
    header.push(0); // packet number 0, in one byte
    let tag = keys.packet.encrypt_in_place(0, &header, &mut payload).unwrap();
    payload.extend_from_slice(tag.as_ref());
    let (first, number) = header.split_at_mut(1);
    let number = number.last_mut().unwrap();
    // The sample is where a packet number of four bytes would end.
    keys.header.encrypt_in_place(&payload[3..19], &mut first[0], std::slice::from_mut(number)).unwrap();
    header.extend_from_slice(&payload);
    header
}
