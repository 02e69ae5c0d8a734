//! A relay in a temporary directory, and devices to call it.

use crate::assemble::assemble;
use crate::clock::{self, Clock};
use crate::config::{self, Config};
use crate::keys::Keys;
use crate::state::Relay;
use crate::transport::{self, ResetKey, Tls};
use crate::{init, server_tls};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use postern_protocol::control::Posture;
use postern_protocol::{ALPN_QUIC, Code, DeviceId, Problem, SessionId};
use postern_relay_core::access::{PostureReport, Snapshot};
use postern_relay_core::certificate::{VerifiedDevice, verify_device};
use postern_relay_core::issuance::check_csr;
use postern_relay_core::policy::Policy;
use postern_relay_core::principal::PrincipalKey;
use postern_relay_core::token::SessionGrant;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use secrecy::ExposeSecret as _;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Join;
use tokio_util::sync::CancellationToken;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(super) type Outgoing = BoxBody<Bytes, BoxError>;
/// One QUIC stream as a byte stream.
pub(super) type Raw = Join<RecvStream, SendStream>;

pub(super) const POLICY: &str = r#"
@id("everyone") @reason("not for everyone") @fix("ask")
permit (principal in Group::"staff", action, resource in AppGroup::"open");
@id("no-secrets") @reason("Secrets are closed.") @fix("Ask the owner.")
forbid (principal, action, resource) when { context has path && context.path like "/secret*" };
"#;

/// A running relay.
pub(super) struct World {
    pub(super) relay: Arc<Relay>,
    pub(super) addr: SocketAddr,
    pub(super) server_ca: CertificateDer<'static>,
    audit: PathBuf,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

/// An app of the test's relay: name, `http://..` or `tcp://..`, and what else its section says.
pub(super) fn app(name: &str, upstream: impl std::fmt::Display, more: &str) -> String {
    let upstream = upstream.to_string();
    let kind = if upstream.starts_with("tcp:") { "tcp" } else { "http" };
    format!("[[app]]\nname = \"{name}\"\nkind = \"{kind}\"\nupstream = \"{upstream}\"\ngroups = [\"open\"]\n{more}\n")
}

impl World {
    /// A relay in front of these apps.
    pub(super) async fn new(apps: &[String]) -> Self {
        Self::with(apps, "").await
    }

    /// The same, with more of `[limits]`.
    pub(super) async fn with(apps: &[String], limits: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("relay");
        init::init(&home, &Clock::new()).unwrap();
        let apps = apps.concat();
        let text = format!(
            "organisation = \"Test\"\ntrust_domain = \"corp.example\"\n\
             [listen]\nquic = \"127.0.0.1:0\"\npublic = \"127.0.0.1:0\"\n\
             [provider]\nissuer = \"https://login.corp.example\"\nclient_id = \"postern\"\n\
             [limits]\n{limits}\n{apps}[[app]]\nname = \"closed\"\nkind = \"http\"\nupstream = \"http://127.0.0.1:1\"\n\
             [[app]]\nname = \"hidden\"\nkind = \"http\"\nupstream = \"http://127.0.0.1:1\"\nhidden = true\n\
             [[app]]\nname = \"other\"\nkind = \"http\"\nupstream = \"http://127.0.0.1:1\"\ngroups = [\"open\"]\n"
        );
        std::fs::write(home.join("relay.toml"), text).unwrap();
        std::fs::write(home.join("policy.cedar"), POLICY).unwrap();
        std::fs::DirBuilder::new().mode(0o700).create(home.join("state")).unwrap();
        let loaded = config::load(&home.join("relay.toml"), None);
        let (config, keys) =
            loaded.unwrap_or_else(|faults| panic!("{}", faults.iter().map(|f| format!("{f}\n")).collect::<String>()));
        Self::start(config, keys, dir).await
    }

    async fn start(config: Config, keys: Keys, dir: tempfile::TempDir) -> Self {
        let clock = Clock::new();
        let own = server_tls::issue(&keys.server_ca.issuer, &["postern.relay".to_owned()], &clock).unwrap();
        let tls = Tls { certificate: server_tls::Certificate::new(own), device_ca: keys.device_ca.certificate.clone() };
        let bound = transport::bind(config.listen.quic, tls, &ResetKey::new().unwrap(), &config.limits).unwrap();
        let addr = bound.local_addr();
        let issuer = "https://relay.corp.example".to_owned();
        let (relay, server_ca) = assemble(config, keys, issuer).await.unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(bound.serve(relay.clone(), stop.clone()));
        let audit = relay.config.audit_file.clone();
        Self { relay, addr, server_ca: server_ca.certificate, audit, stop, _dir: dir }
    }

    /// A device of its own for `subject`, who is in the group `staff`, with its connection and a session token.
    pub(super) async fn device(&self, subject: &str) -> Device {
        let identity = self.identity().await;
        let connection = self.connect_as(Some(&identity), "postern.relay").await.unwrap();
        let session = SessionId::from_random(u128::from_be_bytes(clock::random().unwrap()));
        let mut device = Device { identity, connection, session, subject: subject.into(), token: String::new() };
        device.token = self.token(&device, &["staff"], Duration::from_secs(300));
        self.report_posture(&device.session);
        device
    }

    /// A fresh key with a certificate of the relay's authority.
    pub(super) async fn identity(&self) -> Identity {
        self.identity_of(Arc::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())).await
    }

    /// A certificate for this key.
    pub(super) async fn identity_of(&self, key: Arc<KeyPair>) -> Identity {
        let csr = CertificateParams::default().serialize_request(&*key).unwrap().pem().unwrap();
        let now = self.relay.clock.now();
        let issued = self.relay.ca.issue(&check_csr(&csr).unwrap(), now).await.unwrap();
        let leaf = CertificateDer::from_pem_slice(issued.chain_pem.as_bytes()).unwrap();
        let device = verify_device(&leaf, &self.relay.config.trust_domain, now).unwrap();
        Identity { leaf, key, device }
    }

    /// A session token for `device`, as the relay signs it.
    pub(super) fn token(&self, device: &Device, groups: &[&str], lifetime: Duration) -> String {
        let grant = SessionGrant {
            session: device.session.clone(),
            principal: PrincipalKey::new("https://login.corp.example", &device.subject).unwrap(),
            device: device.identity.device.id().clone(),
            certificate: device.identity.device.thumbprint().into(),
            client_id: "postern".into(),
            email: Some(format!("{}@corp.example", device.subject)),
            name: None,
            groups: groups.iter().map(|&group| group.into()).collect(),
            acr: None,
            amr: vec![],
            auth_time: None,
        };
        let jti = u128::from_be_bytes(clock::random().unwrap());
        self.relay.signer.sign(&grant, self.relay.clock.now(), lifetime, jti).unwrap().expose_secret().to_owned()
    }

    /// A connection of an endpoint of its own. What the relay thinks of the certificate shows later.
    pub(super) async fn connect_as(&self, identity: Option<&Identity>, name: &str) -> Result<Connection, BoxError> {
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap())?;
        let config = self.client_tls(identity);
        Ok(endpoint.connect_with(quic(config), self.addr, name)?.await?)
    }

    /// A server certificate like the relay's.
    pub(super) fn own_certificate(&self) -> rustls::sign::CertifiedKey {
        let keys = Keys::load(&self.relay.config.keys_dir).unwrap_or_else(|_| panic!("the keys load"));
        server_tls::issue(&keys.server_ca.issuer, &["postern.relay".to_owned()], &self.relay.clock).unwrap()
    }

    /// A client's TLS that trusts this relay.
    pub(super) fn client_tls(&self, identity: Option<&Identity>) -> rustls::ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.server_ca.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            Some(identity) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.serialize_der()));
                builder.with_client_auth_cert(vec![identity.leaf.clone()], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN_QUIC.to_vec()];
        config
    }

    /// The audit log's lines so far, as JSON.
    pub(super) fn audit(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&self.audit).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The audit records of the decision in a refusal.
    pub(super) fn audited(&self, problem: &Problem) -> serde_json::Value {
        let decision = problem.decision.as_ref().expect("a refusal names its decision").as_str();
        let found = self.audit().into_iter().find(|line| line["decision"] == decision);
        found.expect("a refusal is in the audit log")
    }

    /// Says that a session's device is in order.
    pub(super) fn report_posture(&self, session: &SessionId) {
        let report = PostureReport { posture: Posture::default(), at: self.relay.clock.now() };
        self.relay.postures.insert(session.clone(), Arc::new(report));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// QUIC with this TLS.
pub(super) fn quic(tls: rustls::ClientConfig) -> ClientConfig {
    ClientConfig::new(Arc::new(quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap()))
}

/// A device's key and certificate.
pub(super) struct Identity {
    pub(super) leaf: CertificateDer<'static>,
    pub(super) key: Arc<KeyPair>,
    pub(super) device: VerifiedDevice,
}

/// A device that is connected and signed in.
pub(super) struct Device {
    pub(super) identity: Identity,
    pub(super) connection: Connection,
    pub(super) session: SessionId,
    pub(super) subject: String,
    pub(super) token: String,
}

impl Device {
    pub(super) fn id(&self) -> &DeviceId {
        self.identity.device.id()
    }

    /// A new stream, as it is.
    pub(super) async fn raw(&self) -> Raw {
        let (send, recv) = self.connection.open_bi().await.unwrap();
        tokio::io::join(recv, send)
    }

    /// A new stream that speaks HTTP.
    pub(super) async fn http(&self) -> SendRequest<Outgoing> {
        let (sender, connection) = handshake(TokioIo::new(self.raw().await)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    /// A request with this device's token.
    pub(super) fn request(&self, method: &str, host: &str, path: &str) -> http::request::Builder {
        let bearer = format!("Bearer {}", self.token);
        Request::builder().method(method).uri(path).header("host", host).header("proxy-authorization", bearer)
    }

    /// Makes a request on a stream of its own.
    pub(super) async fn call(&self, request: Request<Outgoing>) -> Response<Incoming> {
        self.http().await.send_request(request).await.unwrap()
    }

    /// `GET` on a stream of its own.
    pub(super) async fn get(&self, host: &str, path: &str) -> Response<Incoming> {
        self.call(self.request("GET", host, path).body(none()).unwrap()).await
    }

    /// Sends raw bytes on a stream of their own, ends the direction, and returns all that comes back. `{token}` is
    /// replaced.
    pub(super) async fn send_raw(&self, bytes: &str) -> String {
        let (mut send, mut recv) = self.connection.open_bi().await.unwrap();
        // A refusal may come, and end the stream, before all was sent.
        let _refused_early = send.write_all(bytes.replace("{token}", &self.token).as_bytes()).await;
        let _refused_early = send.finish();
        let answer = recv.read_to_end(1 << 20).await.unwrap_or_default();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Opens a stream to a `tcp` app.
    pub(super) async fn open(&self, target: &str) -> Result<TokioIo<hyper::upgrade::Upgraded>, Problem> {
        let request = self.request("CONNECT", target, target).body(none()).unwrap();
        let mut response = self.call(request).await;
        if response.status() != 200 {
            return Err(problem(response).await);
        }
        Ok(TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap()))
    }
}

/// Another policy, as a reload puts it in place; what lives is not looked at yet.
pub(super) fn set_policy(world: &World, text: &str) {
    let old = world.relay.snapshot.load_full();
    let policy = Policy::load(text, old.policy.apps().clone()).unwrap();
    let new = Snapshot { policy: Arc::new(policy), generation: old.generation + 1, ..(*old).clone() };
    world.relay.snapshot.store(Arc::new(new));
}

/// No body.
pub(super) fn none() -> Outgoing {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// A body that is all there.
pub(super) fn full(bytes: impl Into<Bytes>) -> Outgoing {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A whole body.
pub(super) async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// The problem in a refusal, whose headers say the same.
pub(super) async fn problem(response: Response<Incoming>) -> Problem {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let problem: Problem = serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("{head:?} {bytes:?}"));
    assert_eq!(head.status.as_u16(), problem.code.status());
    assert_eq!(head.headers["postern-code"], problem.code.as_str());
    assert_eq!(head.headers["postern-decision"], problem.decision.as_ref().unwrap().as_str());
    assert!(head.headers["proxy-status"].to_str().unwrap().starts_with("postern-relay; "), "{head:?}");
    problem
}

/// Asserts that `response` is a refusal with this code.
pub(super) async fn assert_refused(response: Response<Incoming>, code: Code) -> Problem {
    let problem = problem(response).await;
    assert_eq!(problem.code, code, "{problem:?}");
    problem
}

/// What `future` comes to, which must be soon: a test whose defence is gone fails and does not hang.
pub(super) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it happens in good time")
}

/// Waits until no stream lives.
pub(super) async fn idle(world: &World) {
    soon(async {
        while !world.relay.streams.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
