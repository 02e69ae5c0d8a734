//! A device by hand: makes its key, enrols, connects and talks, each step exposed, so that each can go wrong.

use crate::client::Reply;
use crate::quic::{Identity, Quic};
use crate::relay::Relay;
use crate::stand_in::StandIn;
use bytes::Bytes;
use http::Request;
use postern_protocol::binding::{Salt, nonce, thumbprint};
use postern_protocol::control::{EnrollResponse, GRANT_TOKEN_EXCHANGE, Posture, SessionResponse, TYPE_ID_TOKEN};
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

/// A device: its key and what the relay gave it.
pub struct Device {
    /// Its key.
    pub key: KeyPair,
    /// The salt of its nonce.
    pub salt: Salt,
    /// Its certificate, once enrolled.
    pub chain: Vec<CertificateDer<'static>>,
    /// What enrolment answered.
    pub enrolled: Option<EnrollResponse>,
    /// Its session token, once exchanged.
    pub token: String,
}

impl Default for Device {
    fn default() -> Self {
        Self::new()
    }
}

impl Device {
    /// A device with a new P-256 key and nothing else.
    pub fn new() -> Self {
        let mut salt = [0; 32];
        aws_lc_rs::rand::fill(&mut salt).unwrap();
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        Self { key, salt: Salt::new(salt), chain: Vec::new(), enrolled: None, token: String::new() }
    }

    /// A device of `subject`, enrolled, connected and with a session token: all as an honest agent does it.
    pub async fn signed_in(relay: &Relay, provider: &StandIn, subject: &str) -> (Self, Quic) {
        let mut device = Self::new();
        device.enroll_as(relay, provider, subject, json!({})).await;
        let quic = device.connect(relay).await;
        device.exchange_as(&quic, provider, subject, json!({})).await;
        (device, quic)
    }

    /// SHA-256 thumbprint of its public key.
    pub fn thumbprint(&self) -> String {
        thumbprint(&self.key.subject_public_key_info())
    }

    /// The nonce that binds an ID token to its key.
    pub fn nonce(&self) -> String {
        nonce(&self.key.subject_public_key_info(), &self.salt)
    }

    /// Its certificate request in PEM.
    pub fn csr(&self) -> String {
        CertificateParams::default().serialize_request(&self.key).unwrap().pem().unwrap()
    }

    /// What an honest enrolment with this ID token sends.
    pub fn enrolment(&self, token: &str) -> Value {
        json!({
            "csr": self.csr(), "token": token, "token_type": TYPE_ID_TOKEN,
            "salt": self.salt, "device_name": "test device",
        })
    }

    /// Enrols with a good ID token of `subject` but for `changes`; panics unless the relay agrees.
    pub async fn enroll_as(&mut self, relay: &Relay, provider: &StandIn, subject: &str, changes: Value) {
        let claims = crate::forge::merge(json!({"nonce": self.nonce()}), &changes);
        let reply = relay.post("/enroll", &self.enrolment(&provider.id_token(subject, claims))).await;
        self.accept(&reply);
    }

    /// Takes certificate and session from an answer to an enrolment; panics unless it has them.
    #[track_caller]
    pub fn accept(&mut self, reply: &Reply) {
        assert_eq!(reply.status, 200, "{}", reply.text());
        let answer: EnrollResponse = serde_json::from_slice(&reply.body).unwrap();
        let chain = CertificateDer::pem_slice_iter(answer.certificate.as_bytes());
        self.chain = chain.collect::<Result<_, _>>().unwrap();
        self.enrolled = Some(answer);
    }

    /// Its session.
    pub fn session(&self) -> String {
        self.enrolled.as_ref().unwrap().session.to_string()
    }

    /// Its id.
    pub fn id(&self) -> String {
        self.enrolled.as_ref().unwrap().device.to_string()
    }

    /// What it shows in a handshake.
    pub fn identity(&self) -> Identity {
        Identity { chain: self.chain.clone(), key: private_key(&self.key) }
    }

    /// Connects with its certificate.
    pub async fn connect(&self, relay: &Relay) -> Quic {
        Quic::connect(relay, Some(self.identity())).await.unwrap()
    }

    /// The form of a token exchange.
    pub fn exchange_form(&self, token: &str) -> String {
        exchange_form(token, TYPE_ID_TOKEN, &self.session())
    }

    /// Exchanges a good ID token of `subject` but for `changes`; panics unless the relay agrees.
    pub async fn exchange_as(&mut self, quic: &Quic, provider: &StandIn, subject: &str, changes: Value) {
        let reply = quic.send(exchange(self.exchange_form(&provider.id_token(subject, changes)))).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        self.token = serde_json::from_slice::<SessionResponse>(&reply.body).unwrap().access_token;
    }

    /// A request of `app` with its session token.
    pub fn request(&self, method: &str, app: &str, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", app)
            .header("proxy-authorization", format!("Bearer {}", self.token))
    }

    /// `GET path` of `app`.
    pub async fn get(&self, quic: &Quic, app: &str, path: &str) -> Reply {
        quic.send(self.request("GET", app, path).body("").unwrap()).await.unwrap()
    }

    /// The head of a request of `app` with its session token, to be continued by hand: `lines` each end in CR LF.
    pub fn head(&self, request_line: &str, app: &str, lines: &str) -> Vec<u8> {
        let credential = format!("proxy-authorization: Bearer {}\r\n", self.token);
        format!("{request_line}\r\nhost: {app}\r\n{credential}{lines}\r\n").into_bytes()
    }
}

/// The form body of `POST /session`.
pub fn exchange_form(token: &str, token_type: &str, session: &str) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", GRANT_TOKEN_EXCHANGE)
        .append_pair("subject_token", token)
        .append_pair("subject_token_type", token_type)
        .append_pair("session", session)
        .append_pair("posture", &serde_json::to_string(&posture()).unwrap())
        .finish()
}

/// What an honest agent tells of its device.
fn posture() -> Posture {
    let text = str::to_owned;
    Posture {
        os: text("linux"),
        os_version: text("12"),
        agent_version: text("0.1.0"),
        key_storage: text("keyring"),
        ..Posture::default()
    }
}

/// The request of a token exchange.
pub fn exchange(form: impl Into<Bytes>) -> Request<Bytes> {
    Request::post("/session")
        .header("host", "postern.relay")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.into())
        .unwrap()
}

/// A key for rustls.
pub fn private_key(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()))
}
