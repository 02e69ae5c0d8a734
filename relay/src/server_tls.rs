//! The relay's server certificates: from files or from its own authority, replaced in good time without a restart.

use crate::aside::aside;
use crate::ca::{SERVER_LIFETIME, server_certificate};
use crate::clock::Clock;
use crate::config::TlsFiles;
use crate::keys;
use arc_swap::ArcSwap;
use rcgen::{Issuer, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::time::Duration;

/// How often certificate files are looked at.
const LOOK: Duration = Duration::from_secs(600);

/// A certificate that can be replaced while connections are made with it.
#[derive(Debug)]
pub struct Certificate(ArcSwap<CertifiedKey>);

impl Certificate {
    /// With this to begin with.
    pub fn new(key: CertifiedKey) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(key)))
    }
}

impl ResolvesServerCert for Certificate {
    /// The same for every client: no name it sends selects anything.
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// The public listener's TLS: version 1.3, no client certificates, and no resumption, so that nothing of a session
/// here can mean anything at the mTLS endpoint.
pub fn public_config(certificate: Arc<Certificate>) -> Result<rustls::ServerConfig, rustls::Error> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

/// A certificate of the relay's own authority for these names.
pub fn issue(authority: &Issuer<'static, KeyPair>, names: &[String], clock: &Clock) -> Result<CertifiedKey, String> {
    let made = server_certificate(authority, names, clock.now()).map_err(|problem| problem.to_string())?;
    certified(made.chain, made.key)
}

/// The certificate in these files.
pub fn from_files(files: &TlsFiles) -> Result<CertifiedKey, String> {
    let chain_text = keys::read_text(&files.certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain_text.as_bytes()).collect();
    let chain = chain.map_err(|error| format!("the chain is not PEM: {error}"))?;
    let key_text = zeroize::Zeroizing::new(keys::read_text(&files.key)?);
    let key =
        PrivateKeyDer::from_pem_slice(key_text.as_bytes()).map_err(|error| format!("the key is not PEM: {error}"))?;
    if chain.is_empty() {
        return Err("the chain holds no certificate".to_owned());
    }
    certified(chain, key)
}

/// Replaces the certificate at half of its life, for as long as the future is polled.
pub async fn keep_issued(
    certificate: &Certificate,
    authority: &Issuer<'static, KeyPair>,
    names: &[String],
    clock: &Clock,
) {
    loop {
        tokio::time::sleep(SERVER_LIFETIME / 2).await;
        match issue(authority, names, clock) {
            Ok(key) => certificate.0.store(Arc::new(key)),
            Err(why) => tracing::error!(%why, "no new server certificate could be issued"),
        }
    }
}

/// Takes up a new certificate when the files change, for as long as the future is polled.
pub async fn keep_loaded(certificate: &Certificate, files: &TlsFiles) {
    loop {
        tokio::time::sleep(LOOK).await;
        let from = files.clone();
        let Some(found) = aside("reading the public listener's certificate", move || from_files(&from)).await else {
            continue;
        };
        match found {
            Ok(key) if key.cert != certificate.0.load().cert => {
                certificate.0.store(Arc::new(key));
                tracing::info!(file = %files.certificate.display(), "the public listener has a new certificate");
            }
            Ok(_) => {}
            Err(why) => tracing::error!(%why, "the public listener's certificate cannot be read; the old one stays"),
        }
    }
}

fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, String> {
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "the private key does not belong to the certificate".to_owned(),
        other => other.to_string(),
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
