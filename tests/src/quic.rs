//! A client of the relay's QUIC endpoint that obeys nobody: any certificate, any bytes.

use crate::client::{Reply, exchange, raw};
use crate::relay::Relay;
use crate::wait::{SHORT, eventually, within};
use bytes::Bytes;
use http::Request;
use postern_protocol::ALPN_QUIC;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{RecvStream, SendStream};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::io::Join;

/// What a client shows in the handshake: a chain and the key of its leaf.
pub struct Identity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key, in PKCS#8.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// One QUIC connection.
pub struct Quic {
    /// The connection, for what this harness does not wrap.
    pub connection: quinn::Connection,
    _endpoint: quinn::Endpoint,
}

/// A stream of it.
pub type Stream = Join<RecvStream, SendStream>;

/// The TLS side of a client: the relay's own authority and nothing else, and `identity` if there is one.
pub fn tls(relay: &Relay, identity: Option<Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(relay.server_authority()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match identity {
        // Not `with_client_auth_cert`: it would look whether the certificate is one, and goes with the key.
        Some(identity) => builder.with_client_cert_resolver(Arc::new(Shown::new(identity))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN_QUIC.to_vec()];
    config
}

/// Shows its one certificate to whoever asks for any.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl Shown {
    fn new(identity: Identity) -> Self {
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&identity.key).unwrap();
        Self(Arc::new(CertifiedKey::new(identity.chain, key)))
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// An endpoint of ours that dials with `config`.
pub fn endpoint(config: ClientConfig) -> quinn::Endpoint {
    let mut endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let crypto = QuicClientConfig::try_from(config).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    endpoint
}

impl Quic {
    /// Connects with `identity`. Success means little yet: in TLS 1.3 the client is done before the server has
    /// looked at its certificate.
    pub async fn connect(relay: &Relay, identity: Option<Identity>) -> Result<Self, String> {
        Self::connect_as(relay, tls(relay, identity), &relay.server_name).await
    }

    /// The same with any TLS configuration and any server name.
    pub async fn connect_as(relay: &Relay, config: ClientConfig, server_name: &str) -> Result<Self, String> {
        let endpoint = endpoint(config);
        let connecting = endpoint.connect(relay.quic, server_name).map_err(|error| error.to_string())?;
        let connection = within(SHORT, "a QUIC handshake", connecting).await.map_err(|error| error.to_string())?;
        Ok(Self { connection, _endpoint: endpoint })
    }

    /// A new stream.
    pub async fn stream(&self) -> Result<Stream, String> {
        let (send, receive) = self.connection.open_bi().await.map_err(|error| error.to_string())?;
        Ok(tokio::io::join(receive, send))
    }

    /// One exchange on a stream of its own.
    pub async fn send(&self, request: Request<impl Into<Bytes>>) -> Result<Reply, String> {
        exchange(self.stream().await?, request).await.map_err(|error| error.to_string())
    }

    /// One exchange with the control side, again after a pause for as long as the relay says that it was too many.
    pub async fn control(&self, request: Request<Bytes>) -> Reply {
        eventually("the relay takes a control message", async || {
            let reply = self.send(request.clone()).await.unwrap();
            (reply.status != 429).then_some(reply)
        })
        .await
    }

    /// Sends `bytes` on a stream of their own and gives back what comes.
    pub async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        match self.stream().await {
            Ok(mut stream) => raw(&mut stream, bytes).await,
            Err(_) => Vec::new(),
        }
    }

    /// Does the relay talk to this client at all? Asks for the list of apps, with no token.
    pub async fn is_served(&self) -> bool {
        self.send(Request::get("/apps").header("host", "postern.relay").body("").unwrap()).await.is_ok()
    }
}
