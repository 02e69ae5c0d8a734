//! TLS of the mTLS endpoint: version 1.3 alone, a client certificate of the device authority or no handshake.

use quinn::crypto::rustls::QuicServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;

/// What the mTLS endpoint presents and whom it trusts.
pub struct Tls {
    /// The relay's own certificate, which may be renewed while the endpoint runs.
    pub certificate: Arc<dyn ResolvesServerCert>,
    /// The authority of device certificates; nothing else is trusted.
    pub device_ca: CertificateDer<'static>,
}

/// Why the keys and certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The device authority's certificate is no authority.
    #[error("the device authority's certificate cannot be used: {0}")]
    DeviceAuthority(String),
    /// The cryptographic library lacks what TLS 1.3 and QUIC need.
    #[error("the cryptographic library cannot do TLS 1.3 for QUIC")]
    Provider,
}

/// The configuration for `alpn`. There is no resumption and no 0-RTT: rustls would restore a client's identity
/// from a ticket without asking the verifier (A33), and early data can be replayed (A34).
pub(super) fn quic(tls: Tls, alpn: &[u8]) -> Result<QuicServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(tls.device_ca).map_err(|why| TlsError::DeviceAuthority(why.to_string()))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|why| TlsError::DeviceAuthority(why.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| TlsError::Provider)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(tls.certificate);
    config.alpn_protocols = vec![alpn.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    QuicServerConfig::try_from(config).map_err(|_| TlsError::Provider)
}
