//! For tests: a relay in a temporary directory, a provider that signs what it is told, devices that call the handlers.

use crate::assemble::assemble;
use crate::clock::{Clock, random};
use crate::service::Peer;
use crate::state::Relay;
use crate::transport::Cut;
use crate::{config, control, init, public};
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use parking_lot::Mutex;
use postern_protocol::binding::{self, Salt};
use postern_protocol::control::{GRANT_TOKEN_EXCHANGE, TYPE_ID_TOKEN};
use postern_protocol::discovery::Discovery;
use postern_protocol::{Code, Problem, SessionId};
use postern_relay_core::certificate::{VerifiedDevice, verify_device};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tower_service::Service as _;

/// A provider on loopback. What it answers can be changed; what it was asked is counted.
pub(crate) struct Idp {
    pub(crate) issuer: String,
    pub(crate) key: EncodingKey,
    answers: Arc<Mutex<Answers>>,
    asked: Arc<AtomicUsize>,
}

/// Path, status, extra headers and body.
type Answers = Vec<(String, u16, Vec<(&'static str, String)>, Vec<u8>)>;

impl Idp {
    /// With one ES256 key named `k1`.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let (answers, asked) = (Arc::new(Mutex::new(Answers::new())), Arc::new(AtomicUsize::new(0)));
        let key = ec_key();
        let idp = Self { issuer: issuer.clone(), key, answers: answers.clone(), asked: asked.clone() };
        idp.publish(&idp.key, "k1");
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (answers, asked) = (answers.clone(), asked.clone());
                let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                    asked.fetch_add(1, Ordering::SeqCst);
                    let path = request.uri().path().to_owned();
                    let found = answers.lock().iter().rev().find(|answer| answer.0 == path).cloned();
                    let (_, status, headers, body) = found.unwrap_or((path, 404, vec![], vec![]));
                    let mut response = http::Response::builder().status(status);
                    for (name, value) in headers {
                        response = response.header(name, value);
                    }
                    async move { Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).unwrap()) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service),
                );
            }
        });
        idp
    }

    /// Publishes `key` under the name `kid` and no other.
    pub(crate) fn publish(&self, key: &EncodingKey, kid: &str) {
        let mut jwk = Jwk::from_encoding_key(key, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some(kid.to_owned());
        let issuer = &self.issuer;
        self.answer(
            "/.well-known/openid-configuration",
            200,
            json!({"issuer": issuer, "jwks_uri": format!("{issuer}/jwks")}).to_string(),
        );
        self.answer("/jwks", 200, json!({"keys": [jwk]}).to_string());
    }

    pub(crate) fn answer(&self, path: &str, status: u16, body: impl Into<Vec<u8>>) {
        self.answer_with(path, status, vec![], body);
    }

    pub(crate) fn answer_with(
        &self,
        path: &str,
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: impl Into<Vec<u8>>,
    ) {
        self.answers.lock().push((path.to_owned(), status, headers, body.into()));
    }

    /// How many requests it has had.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// The claims of a good ID token for `subject`, issued now.
    pub(crate) fn claims(&self, subject: &str) -> Value {
        let now = Clock::new().now().seconds();
        json!({
            "iss": self.issuer, "aud": "postern", "sub": subject, "iat": now, "exp": now + 600,
            "email": format!("{subject}@corp.example"), "email_verified": true, "groups": ["staff"],
            "jti": hex(random::<16>().unwrap()),
        })
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        sign(&self.key, &header("k1", Some("JWT")), claims)
    }

    /// A good ID token bound to this device.
    pub(crate) fn id_token(&self, subject: &str, device: &TestDevice) -> String {
        let mut claims = self.claims(subject);
        claims["nonce"] = device.nonce().into();
        self.sign(&claims)
    }

    /// A good RFC 9068 access token of a service account.
    pub(crate) fn access_token(&self, subject: &str) -> String {
        let mut claims = self.claims(subject);
        claims["aud"] = RESOURCE.into();
        claims["client_id"] = subject.into();
        sign(&self.key, &header("k1", Some("at+jwt")), &claims)
    }
}

/// `aud` of access tokens for the relay.
pub(crate) const RESOURCE: &str = "urn:test:relay";

pub(crate) fn ec_key() -> EncodingKey {
    EncodingKey::from_ec_der(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_der())
}

pub(crate) fn header(kid: &str, typ: Option<&str>) -> Header {
    let mut header = Header::new(Algorithm::ES256);
    (header.kid, header.typ) = (Some(kid.to_owned()), typ.map(str::to_owned));
    header
}

pub(crate) fn sign(key: &EncodingKey, header: &Header, claims: &Value) -> String {
    encode(header, claims, key).unwrap()
}

fn hex<const N: usize>(bytes: [u8; N]) -> String {
    postern_protocol::id::hex(&bytes)
}

/// A relay whose handlers are called directly.
pub(crate) struct TestRelay {
    pub(crate) relay: Arc<Relay>,
    pub(crate) idp: Idp,
    pub(crate) home: PathBuf,
    _dir: tempfile::TempDir,
}

/// The configuration of a test's relay; `more` goes to the end.
pub(crate) fn configuration(issuer: &str, more: &str) -> String {
    format!(
        "organisation = \"Test\"\ntrust_domain = \"corp.example\"\n\
         [listen]\nquic = \"127.0.0.1:0\"\npublic = \"127.0.0.1:0\"\n\
         [provider]\nissuer = \"{issuer}\"\nclient_id = \"postern\"\nresource = \"{RESOURCE}\"\n\
         [limits]\nenrolments_per_minute = 10000\n\
         [[app]]\nname = \"wiki\"\nkind = \"http\"\nupstream = \"http://127.0.0.1:1\"\ngroups = [\"internal\"]\n{more}\n"
    )
}

impl TestRelay {
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// With more in its configuration.
    pub(crate) async fn with(more: &str) -> Self {
        let idp = Idp::start().await;
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("relay");
        init::init(&home, &Clock::new()).unwrap();
        let (more, of_provider) = match more.strip_prefix("[provider]\n") {
            Some(of_provider) => ("", of_provider),
            None => (more, ""),
        };
        let text = configuration(&idp.issuer, more);
        let text = text.replacen("[limits]\n", &format!("{of_provider}\n[limits]\n"), 1);
        std::fs::write(home.join("relay.toml"), text).unwrap();
        let relay = Self::assembled(&home).await;
        Self { relay, idp, home, _dir: dir }
    }

    /// With more in the section of the provider.
    pub(crate) async fn with_provider(more: &str) -> Self {
        Self::with(&format!("[provider]\n{more}")).await
    }

    /// The relay of this directory, as `serve` puts it together.
    async fn assembled(home: &std::path::Path) -> Arc<Relay> {
        std::fs::create_dir_all(home.join("state")).unwrap();
        std::fs::set_permissions(home.join("state"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let loaded = config::load(&home.join("relay.toml"), None);
        let (config, keys) = loaded.unwrap_or_else(|faults| panic!("{faults:?}"));
        assemble(config, keys, "https://relay.corp.example".to_owned()).await.unwrap().0
    }

    /// Closes it and opens it again, as a restart does.
    pub(crate) async fn restart(&mut self) {
        self.relay.audit.close().await;
        self.relay.store.close().await;
        self.relay = Self::assembled(&self.home).await;
    }

    pub(crate) fn discovery(&self) -> Discovery {
        let issuer = "https://relay.corp.example".parse().unwrap();
        public::discovery(&self.relay, issuer, "relay.corp.example:4433".to_owned(), "postern.relay", String::new())
    }

    /// One request to the public listener's router.
    pub(crate) async fn public(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Reply {
        self.public_with(method, path, &[], body).await
    }

    /// The same with these headers.
    pub(crate) async fn public_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let mut request = Request::new(Full::new(body.into()));
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        (*request.method_mut(), *request.uri_mut()) = (method, path.parse().unwrap());
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 5))));
        let mut router = public::router(self.relay.clone(), self.discovery());
        let (parts, body) = router.call(request).await.unwrap().into_parts();
        Reply { status: parts.status, body: body.collect().await.unwrap().to_bytes() }
    }

    /// `POST /enroll` on the public listener.
    pub(crate) async fn enrol(&self, body: &Value) -> Reply {
        self.public(Method::POST, "/enroll", body.to_string()).await
    }

    /// One control request over a connection of `device`.
    pub(crate) async fn control(
        &self,
        device: &TestDevice,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Reply {
        self.control_as(device, device.token.as_deref(), method, path, body).await
    }

    /// The same with another session token.
    pub(crate) async fn control_as(
        &self,
        device: &TestDevice,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Reply {
        let response = self.open(device, token, method, path, body).await;
        let status = response.status();
        Reply { status, body: response.into_body().collect().await.unwrap().to_bytes() }
    }

    /// The same, the body not read yet.
    pub(crate) async fn open(
        &self,
        device: &TestDevice,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> http::Response<hyper::body::Incoming> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (relay, verified) = (self.relay.clone(), device.verified());
        let service = hyper::service::service_fn(move |request| {
            let (relay, verified) = (relay.clone(), verified.clone());
            let source = SocketAddr::from(([192, 0, 2, 1], 5));
            let peer = Peer { relay, device: verified, source, connection: Arc::new(Cut::new()) };
            async move { Ok::<_, Infallible>(control::handle(Arc::new(peer), request).await) }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "postern.relay");
        if let Some(token) = token {
            request = request.header("proxy-authorization", format!("Bearer {token}"));
        }
        sender.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap()
    }

    /// A device of `subject` that has enrolled and has a session token.
    pub(crate) async fn signed_in(&self, subject: &str) -> TestDevice {
        let mut device = TestDevice::new();
        let token = self.idp.id_token(subject, &device);
        let reply = self.enrol(&device.enrolment(&token)).await.ok();
        device.take(&reply);
        self.renew(&mut device, &self.idp.sign(&self.idp.claims(subject))).await.ok();
        device
    }

    /// `POST /session` with this provider token; keeps the session token.
    pub(crate) async fn renew(&self, device: &mut TestDevice, token: &str) -> Reply {
        let form = device.exchange(token, TYPE_ID_TOKEN);
        let reply = self.control(device, Method::POST, "/session", form).await;
        if reply.status == StatusCode::OK {
            device.token = reply.json()["access_token"].as_str().map(str::to_owned);
        }
        reply
    }

    /// The audit log's records so far.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.relay.config.audit_file).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A device: a key, and what the relay gave it.
pub(crate) struct TestDevice {
    pub(crate) key: KeyPair,
    pub(crate) salt: Salt,
    pub(crate) certificate: Option<CertificateDer<'static>>,
    pub(crate) session: Option<SessionId>,
    pub(crate) token: Option<String>,
}

impl TestDevice {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self { key, salt: Salt::new(random().unwrap()), certificate: None, session: None, token: None }
    }

    pub(crate) fn csr(&self) -> String {
        CertificateParams::default().serialize_request(&self.key).unwrap().pem().unwrap()
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        self.key.subject_public_key_info()
    }

    pub(crate) fn nonce(&self) -> String {
        binding::nonce(&self.spki(), &self.salt)
    }

    /// The body of an enrolment with this ID token.
    pub(crate) fn enrolment(&self, token: &str) -> Value {
        json!({
            "csr": self.csr(), "token": token, "token_type": TYPE_ID_TOKEN,
            "salt": String::from(self.salt.clone()), "device_name": "laptop",
        })
    }

    /// The form of a session renewal with this token.
    pub(crate) fn exchange(&self, token: &str, kind: &str) -> String {
        form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", GRANT_TOKEN_EXCHANGE)
            .append_pair("subject_token", token)
            .append_pair("subject_token_type", kind)
            .append_pair("session", self.session.as_ref().unwrap().as_str())
            .append_pair("posture", r#"{"os":"linux","os_version":"12","agent_version":"1","key_storage":"keyring"}"#)
            .finish()
    }

    /// Keeps what an enrolment gave.
    pub(crate) fn take(&mut self, reply: &Value) {
        self.certificate =
            Some(CertificateDer::from_pem_slice(reply["certificate"].as_str().unwrap().as_bytes()).unwrap());
        self.session = Some(reply["session"].as_str().unwrap().parse().unwrap());
    }

    /// As the transport hands it over.
    pub(crate) fn verified(&self) -> Arc<VerifiedDevice> {
        let leaf = self.certificate.as_ref().unwrap();
        Arc::new(verify_device(leaf, &"corp.example".parse().unwrap(), Clock::new().now()).unwrap())
    }
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Reply {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}: {:?}", self.status, self.body))
    }

    /// The JSON of a success.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{:?}", self.body);
        self.json()
    }

    /// The problem of a refusal.
    #[track_caller]
    pub(crate) fn problem(&self) -> Problem {
        let problem: Problem =
            serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}: {:?}", self.status, self.body));
        assert_eq!(self.status.as_u16(), problem.status);
        problem
    }

    #[track_caller]
    pub(crate) fn code(&self) -> Code {
        self.problem().code
    }
}
