//! A small world for tests and benches: an authority, devices, sessions, apps, a policy. All of it is made by the
//! real functions, so that a proof type in a test is a proof there too.

use postern_protocol::control::{AppKind, Posture};
use postern_protocol::{DecisionId, SessionId, Timestamp, TrustDomain, binding};
use postern_relay_core::access::{Action, PostureReport, Request, Snapshot};
use postern_relay_core::app::{App, AppTable};
use postern_relay_core::certificate::{VerifiedDevice, verify_device};
use postern_relay_core::issuance::{check_csr, device_template};
use postern_relay_core::policy::Policy;
use postern_relay_core::principal::PrincipalKey;
use postern_relay_core::revocation::Revocations;
use postern_relay_core::token::{SessionGrant, TokenRules, TokenSigner, VerifiedSession};
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm};
use secrecy::ExposeSecret;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// The present of every test.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_900_000_000);
pub(crate) const ISSUER: &str = "https://relay.corp.example";
pub(crate) const PROVIDER: &str = "https://login.corp.example";
pub(crate) const AUDIENCE: &str = "urn:postern:corp.example";

static AUTHORITY: LazyLock<Issuer<'static, KeyPair>> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    Issuer::new(params, key(&PKCS_ECDSA_P256_SHA256))
});

static SIGNER: LazyLock<TokenSigner> = LazyLock::new(|| signer(&pkcs8(&PKCS_ED25519)));

pub(crate) fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).unwrap()
}

pub(crate) fn pkcs8(algorithm: &'static SignatureAlgorithm) -> Vec<u8> {
    key(algorithm).serialize_der()
}

pub(crate) fn domain() -> TrustDomain {
    "corp.example".parse().unwrap()
}

pub(crate) fn authority() -> &'static Issuer<'static, KeyPair> {
    &AUTHORITY
}

/// The one signer of session tokens here.
pub(crate) fn session_signer() -> &'static TokenSigner {
    &SIGNER
}

pub(crate) fn signer(pkcs8: &[u8]) -> TokenSigner {
    TokenSigner::from_pkcs8(pkcs8, TokenRules { issuer: ISSUER.into(), audience: AUDIENCE.into() }).unwrap()
}

/// A certificate request with this key, asking for nothing.
pub(crate) fn csr(key: &KeyPair) -> String {
    CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
}

/// The certificate the relay would issue to a new key at `now`, in DER.
pub(crate) fn certificate(now: Timestamp, lifetime: Duration) -> Vec<u8> {
    let key = check_csr(&csr(&key(&PKCS_ECDSA_P256_SHA256))).unwrap();
    let template = device_template(&key, &domain(), [0xff; 16], now, lifetime).unwrap();
    template.params.signed_by(&template.public_key, authority()).unwrap().der().to_vec()
}

/// A new device with a certificate of a day.
pub(crate) fn device() -> VerifiedDevice {
    verify_device(&certificate(NOW, Duration::from_secs(86_400)), &domain(), NOW).unwrap()
}

pub(crate) fn grant(device: &VerifiedDevice, subject: &str, groups: &[&str]) -> SessionGrant {
    SessionGrant {
        session: SessionId::from_random(u128::from_be_bytes(
            binding::sha256(subject.as_bytes())[..16].try_into().unwrap(),
        )),
        principal: PrincipalKey::new(PROVIDER, subject).unwrap(),
        device: device.id().clone(),
        certificate: device.thumbprint().into(),
        client_id: "postern".into(),
        email: Some(format!("{subject}@corp.example")),
        name: Some(subject.into()),
        groups: groups.iter().map(|&group| group.into()).collect(),
        acr: None,
        amr: vec!["pwd".into(), "otp".into()],
        auth_time: Some(NOW.minus(Duration::from_secs(600))),
    }
}

/// The bearer token of `grant`, of five minutes.
pub(crate) fn bearer(grant: &SessionGrant) -> String {
    session_signer().sign(grant, NOW, Duration::from_secs(300), 1).unwrap().expose_secret().into()
}

pub(crate) fn session(device: &VerifiedDevice, subject: &str, groups: &[&str]) -> VerifiedSession {
    session_signer().verifier().verify(&bearer(&grant(device, subject, groups))).unwrap()
}

pub(crate) fn app(name: &str, kind: AppKind, groups: &[&str]) -> App {
    let upstream = match kind {
        AppKind::Http => "http://127.0.0.1:8080",
        AppKind::Tcp => "tcp://127.0.0.1:5432",
    };
    App {
        name: name.parse().unwrap(),
        kind,
        upstream: upstream.parse().unwrap(),
        description: String::new(),
        groups: groups.iter().map(|&group| group.into()).collect(),
        hidden: false,
        on_lapse: postern_relay_core::app::OnLapse::Cut,
    }
}

/// `wiki` and `git` (http), `db` (tcp), `vault` (http, hidden); all but `git` are in `internal`.
pub(crate) fn apps() -> Arc<AppTable> {
    let mut vault = app("vault", AppKind::Http, &["internal"]);
    vault.hidden = true;
    let apps = vec![
        app("wiki", AppKind::Http, &["internal"]),
        app("git", AppKind::Http, &[]),
        app("db", AppKind::Tcp, &["internal"]),
        vault,
    ];
    Arc::new(AppTable::new(apps).unwrap())
}

pub(crate) fn policy(text: &str) -> Arc<Policy> {
    Arc::new(Policy::load(text, apps()).unwrap_or_else(|faults| panic!("{faults:#?}")))
}

pub(crate) fn snapshot(policy: Arc<Policy>) -> Snapshot {
    Snapshot { revocations: Arc::new(Revocations::default()), policy, posture_max_age: None, generation: 1 }
}

pub(crate) fn request(app: &str, action: Action) -> Request {
    Request {
        id: DecisionId::new(NOW, 7),
        app: app.parse().unwrap(),
        action,
        host: app.into(),
        source: "192.0.2.7".parse().unwrap(),
        within_rate: true,
        posture: None,
    }
}

pub(crate) fn get(app: &str, path: &str) -> Request {
    request(app, Action::Request { method: "GET".into(), path: path.into() })
}

pub(crate) fn connect(app: &str, port: u16) -> Request {
    request(app, Action::Connect { port })
}

/// A healthy device's report of `age` ago.
pub(crate) fn posture(age: Duration) -> Arc<PostureReport> {
    let posture = Posture {
        os: "linux".into(),
        os_version: "12".into(),
        kernel_version: Some("6.1.0".into()),
        agent_version: "0.1.0".into(),
        key_storage: "keyring".into(),
        disk_encrypted: Some(true),
        firewall: Some(true),
        screen_lock: None,
    };
    Arc::new(PostureReport { posture, at: NOW.minus(age) })
}
