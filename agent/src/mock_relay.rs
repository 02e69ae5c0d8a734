//! A mock of the relay for tests: real QUIC with mutual TLS and real HTTP, answered by the test's own function.

use crate::link::{Body, Link, TlsIdentity};
use crate::uplink::{Access, Renewals, Uplink};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use postern_protocol::control::{AppEntry, AppKind};
use postern_protocol::discovery::RelayEndpoint;
use postern_protocol::{ALPN_QUIC, Code, DeviceId, Problem, StepUp, headers};
use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData as _, SanType};
use rustls::pki_types::PrivateKeyDer;
use secrecy::SecretString;
use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncWrite, join};

/// The name in the mock's certificate.
const NAME: &str = "relay.test";

pub(crate) struct MockRelay {
    /// What its discovery document would say.
    pub(crate) endpoint: RelayEndpoint,
    /// What it accepts as a device.
    pub(crate) identity: TlsIdentity,
    /// Who vouches for devices.
    pub(crate) device_ca: Arc<Authority>,
    /// Streams that agents opened.
    pub(crate) streams: Arc<AtomicUsize>,
    server_ca: Authority,
    connections: Connections,
    quic: quinn::Endpoint,
}

type Connections = Arc<Mutex<Vec<quinn::Connection>>>;

impl MockRelay {
    /// Starts one that answers every request with `answer`.
    pub(crate) fn start<F, R, B>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<B>> + Send + 'static,
        B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        Self::start_for(Arc::new(Authority::new()), answer)
    }

    /// Permits only so many streams at a time on connections from now on.
    pub(crate) fn permit_streams(&self, most: u32) {
        let mut config = server_config(&self.server_ca, &self.device_ca);
        let mut transport = quinn::TransportConfig::default();
        transport.max_concurrent_bidi_streams(most.into());
        config.transport_config(Arc::new(transport));
        self.quic.set_server_config(Some(config));
    }

    /// The same for devices that this authority vouches for.
    pub(crate) fn start_for<F, R, B>(device_ca: Arc<Authority>, answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<B>> + Send + 'static,
        B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let server_ca = Authority::new();
        let quic = quinn::Endpoint::server(server_config(&server_ca, &device_ca), (Ipv4Addr::LOCALHOST, 0).into());
        let quic = quic.unwrap();
        let streams = Arc::new(AtomicUsize::new(0));
        let connections = Connections::default();
        tokio::spawn(accept(quic.clone(), connections.clone(), streams.clone(), answer));
        let endpoint = RelayEndpoint {
            quic: quic.local_addr().unwrap().to_string(),
            server_name: NAME.into(),
            ca_pem: server_ca.pem.clone(),
        };
        let identity = device_ca.identity("device");
        Self { endpoint, identity, device_ca, streams, server_ca, connections, quic }
    }

    pub(crate) async fn dial(&self) -> Arc<Link> {
        Link::dial(&self.endpoint, self.identity.clone()).await.unwrap()
    }

    /// An uplink to it with this session token.
    pub(crate) async fn uplink(&self, token: &str) -> Arc<Uplink> {
        let uplink = Uplink::new();
        uplink.set(Some((self.dial().await, SecretString::from(token))), Problem::new(Code::NotSignedIn));
        uplink
    }

    /// Breaks every connection; agents may come back.
    pub(crate) fn drop_connections(&self) {
        self.connections.lock().drain(..).for_each(|connection| connection.close(0u32.into(), b""));
    }

    /// Closes every connection for this cause.
    pub(crate) fn close(&self, code: Code) {
        self.quic.close(code.number().into(), b"");
    }
}

async fn accept<F, R, B>(quic: quinn::Endpoint, connections: Connections, streams: Arc<AtomicUsize>, answer: F)
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<B>> + Send + 'static,
    B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    while let Some(incoming) = quic.accept().await {
        let (streams, answer, connections) = (streams.clone(), answer.clone(), connections.clone());
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            connections.lock().push(connection.clone());
            while let Ok((send, recv)) = connection.accept_bi().await {
                streams.fetch_add(1, Ordering::SeqCst);
                let answer = answer.clone();
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let http = hyper::server::conn::http1::Builder::new();
                let exchanges = http.serve_connection(TokioIo::new(join(recv, send)), service);
                tokio::spawn(exchanges.with_upgrades());
            }
        });
    }
}

fn server_config(server_ca: &Authority, device_ca: &Authority) -> quinn::ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(device_ca.certificate.clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let (certificate, key) = server_ca.issue(NAME);
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    tls.alpn_protocols = vec![ALPN_QUIC.to_vec()];
    quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()))
}

/// A certificate authority.
pub(crate) struct Authority {
    pub(crate) pem: String,
    certificate: rustls::pki_types::CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let pem = certificate.pem();
        Self { pem, certificate: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str) -> (rustls::pki_types::CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().der().clone(), key)
    }

    /// A device that this authority vouches for.
    pub(crate) fn identity(&self, name: &str) -> TlsIdentity {
        let (certificate, key) = self.issue(name);
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        TlsIdentity {
            chain: vec![certificate],
            key: rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap(),
        }
    }
}

impl Authority {
    /// A device certificate for the key in this certificate request, as enrolment issues it.
    pub(crate) fn certify(&self, csr_pem: &str, trust_domain: &str) -> (String, DeviceId) {
        let csr = rcgen::CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
        let spki = csr.public_key.subject_public_key_info();
        let device = DeviceId::from_key_hash(&postern_protocol::binding::sha256(&spki));
        let mut params = CertificateParams::default();
        let uri = format!("spiffe://{trust_domain}/device/{device}");
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        let now = time::OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = (now - time::Duration::minutes(1), now + time::Duration::hours(24));
        (params.signed_by(&csr.public_key, &self.issuer).unwrap().pem(), device)
    }
}

/// A refusal as the relay words it.
pub(crate) fn refusal(problem: &Problem) -> Response<Body> {
    Response::builder()
        .status(problem.status)
        .header(headers::CODE, problem.code.as_str())
        .body(crate::link::full(serde_json::to_vec(problem).unwrap()))
        .unwrap()
}

/// Turns a `CONNECT` into an echo of the app's bytes.
pub(crate) fn echo(request: Request<Incoming>) -> Response<Body> {
    on_stream(request, |stream| async move {
        let (mut recv, mut send) = tokio::io::split(stream);
        let _ = tokio::io::copy(&mut recv, &mut send).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut send).await;
    })
}

/// Turns a `CONNECT` into a stream that the test drives.
pub(crate) fn on_stream<F, R>(request: Request<Incoming>, app: F) -> Response<Body>
where
    F: FnOnce(Box<dyn Stream>) -> R + Send + 'static,
    R: Future<Output = ()> + Send,
{
    tokio::spawn(async move {
        let upgraded = hyper::upgrade::on(request).await.unwrap();
        app(Box::new(TokioIo::new(upgraded))).await;
    });
    Response::new(crate::link::full(""))
}

/// Either kind of byte stream.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An engine that renews as the test says.
pub(crate) struct MockEngine<F>(pub(crate) F);

impl<F: Fn(Code) -> Result<(), Problem> + Send + Sync> Renewals for MockEngine<F> {
    fn renew(&self, code: Code) -> BoxFuture<'_, Result<(), Problem>> {
        Box::pin(std::future::ready((self.0)(code)))
    }

    fn step_up(&self, _: StepUp, _waits: bool) -> BoxFuture<'static, Result<(), Problem>> {
        let result = (self.0)(Code::StepUpRequired);
        Box::pin(std::future::ready(result))
    }

    fn refused(&self, _: Code) {}
}

/// Access by `uplink` with an engine that cannot renew.
pub(crate) fn access(uplink: Arc<Uplink>) -> Access {
    Access::new(uplink, Arc::new(MockEngine(|code| Err(Problem::new(code)))))
}

/// An app of the list.
pub(crate) fn entry(name: &str, kind: AppKind) -> AppEntry {
    let port = (kind == AppKind::Tcp).then_some(5432);
    let name = name.parse().unwrap();
    AppEntry { name, kind, description: String::new(), port, allowed: true, reason: None, fix: None, step_up: None }
}
