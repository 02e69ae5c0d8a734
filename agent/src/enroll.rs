//! Getting a device certificate: after a sign-in over the public listener, later over the link.

use crate::device_key::DeviceKey;
use crate::discovery::{public_client, relay_problem};
use crate::link::TlsIdentity;
use postern_protocol::control::{ENROLL, EnrollRequest, EnrollResponse};
use postern_protocol::{Code, DeviceId, Problem, SessionId, SpiffeId, Timestamp, TrustDomain, problem};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::time::Duration;
use url::Url;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A leaf and a few intermediates; more is no chain.
const MAX_CHAIN: usize = 8;
const MAX_DEVICE_NAME: usize = 64;

/// A device certificate that belongs to the device key.
#[derive(Clone)]
pub struct DeviceCertificate {
    /// As the relay sent it, to be kept.
    pub pem: String,
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its one identity.
    pub spiffe_id: SpiffeId,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

impl DeviceCertificate {
    /// Reads a chain and checks that its leaf is for this key.
    pub fn read(pem: &str, key: &DeviceKey) -> Result<Self, Problem> {
        let invalid = |why: &str| Problem::new(Code::CertificateInvalid).detail(format!("the relay issued {why}"));
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).take(MAX_CHAIN + 1).collect();
        let chain = chain.map_err(|_| invalid("a malformed chain"))?;
        let leaf = chain.first().filter(|_| chain.len() <= MAX_CHAIN).ok_or_else(|| invalid("no chain"))?;
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| invalid("a malformed certificate"))?;
        if leaf.public_key().raw != key.spki() {
            return Err(invalid("a certificate for another key"));
        }
        let spiffe_id = spiffe_id(&leaf).ok_or_else(|| invalid("a certificate without a device's identity"))?;
        if spiffe_id.device != DeviceId::from_key_hash(&postern_protocol::binding::sha256(&key.spki())) {
            return Err(invalid("a certificate for another device"));
        }
        let at = |seconds: i64| Timestamp::from_seconds(u64::try_from(seconds).unwrap_or(0));
        let (not_before, not_after) =
            (at(leaf.validity().not_before.timestamp()), at(leaf.validity().not_after.timestamp()));
        Ok(Self { pem: pem.to_owned(), spiffe_id, not_before, not_after, chain })
    }

    /// What TLS presents.
    pub fn identity(&self, key: &DeviceKey) -> TlsIdentity {
        TlsIdentity { chain: self.chain.clone(), key: key.signing_key() }
    }

    /// How long it has been valid and how long it will be, at `now`.
    pub fn validity(&self, now: Timestamp) -> (Duration, Duration) {
        (now.since(self.not_before), self.not_after.since(now))
    }
}

fn spiffe_id(leaf: &X509Certificate) -> Option<SpiffeId> {
    let names = leaf.subject_alternative_name().ok()??;
    match names.value.general_names.as_slice() {
        [GeneralName::URI(uri)] => uri.parse().ok(),
        _ => None,
    }
}

/// What enrolment gave.
pub struct Enrolment {
    /// The certificate.
    pub certificate: DeviceCertificate,
    /// The session that the sign-in started.
    pub session: SessionId,
}

/// Enrols over the relay's public listener.
pub async fn enroll(
    address: &Url,
    ca_pem: Option<&str>,
    trust_domain: &TrustDomain,
    key: &DeviceKey,
    request: &EnrollRequest,
) -> Result<Enrolment, Problem> {
    let web = public_client(ca_pem)?;
    let internal = |error: String| Problem::new(Code::Internal).detail(error);
    let url = address.join(ENROLL).map_err(|error| internal(error.to_string()))?;
    let body = serde_json::to_vec(request).map_err(|error| internal(error.to_string()))?;
    let answer = web.post_json(&url, body).await.map_err(|error| relay_problem(address, &error))?;
    if !answer.status().is_success() {
        return Err(refusal(answer.status(), answer.body()));
    }
    read_response(answer.body(), trust_domain, key)
}

/// The certificate and session in an enrolment's answer, over whichever way it came.
pub fn read_response(body: &[u8], trust_domain: &TrustDomain, key: &DeviceKey) -> Result<Enrolment, Problem> {
    let malformed =
        || Problem::new(Code::CertificateInvalid).detail("the relay's answer to the enrolment is malformed");
    let response: EnrollResponse = serde_json::from_slice(body).map_err(|_| malformed())?;
    let certificate = DeviceCertificate::read(&response.certificate, key)?;
    let spiffe_id = &certificate.spiffe_id;
    if spiffe_id.trust_domain != *trust_domain || spiffe_id.device != response.device {
        return Err(malformed());
    }
    Ok(Enrolment { certificate, session: response.session })
}

/// The problem in a refusal of the public listener. Words of the table stay this agent's own.
fn refusal(status: http::StatusCode, body: &[u8]) -> Problem {
    let short =
        |text: Option<String>| text.map(|text| problem::printable(&text).chars().take(1000).collect::<String>());
    match serde_json::from_slice::<Problem>(body) {
        Ok(told) => Problem { detail: short(told.detail), decision: told.decision, ..Problem::new(told.code) },
        Err(_) if status.is_server_error() || status == http::StatusCode::TOO_MANY_REQUESTS => {
            Problem::new(Code::RelayUnreachable).detail(format!("the relay answers {}", status.as_u16()))
        }
        Err(_) => Problem::new(Code::DiscoveryInvalid).detail(format!("the relay answers {}", status.as_u16())),
    }
}

/// The name of this device for people: the configured one, else the host's.
pub fn device_name(configured: Option<&str>) -> String {
    let host = crate::system::host_name;
    let name = configured.map_or_else(host, str::to_owned);
    problem::printable(&name).chars().take(MAX_DEVICE_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::serve_https;
    use rcgen::{CertificateParams, KeyPair, SanType};
    use serde_json::json;

    fn device(key: &DeviceKey) -> DeviceId {
        DeviceId::from_key_hash(&postern_protocol::binding::sha256(&key.spki()))
    }

    /// A certificate for this key, as some relay might make it.
    fn issue(key: &DeviceKey, names: &[&str]) -> String {
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&key.pkcs8().into(), &rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.iter().map(|name| SanType::URI((*name).try_into().unwrap())).collect();
        params.self_signed(&pair).unwrap().pem()
    }

    fn response(certificate: &str, device: &DeviceId) -> String {
        json!({
            "certificate": certificate, "device": device, "session": "0".repeat(32), "not_after": 4_000_000_000_000u64,
        })
        .to_string()
    }

    fn request(key: &DeviceKey) -> EnrollRequest {
        EnrollRequest {
            csr: key.certificate_request().unwrap(),
            token: None,
            token_type: None,
            salt: None,
            device_name: device_name(None),
        }
    }

    #[tokio::test]
    async fn takes_a_certificate_for_its_own_key_and_identity() {
        let key = DeviceKey::generate().unwrap();
        let uri = format!("spiffe://corp.example/device/{}", device(&key));
        let answer = response(&issue(&key, &[&uri]), &device(&key));
        let server =
            serve_https(move |path| if path == ENROLL { (200, answer.clone()) } else { (404, String::new()) }).await;
        let domain = "corp.example".parse().unwrap();
        let enrolment = enroll(&server.url, Some(&server.ca_pem), &domain, &key, &request(&key)).await.unwrap();
        assert_eq!(enrolment.certificate.spiffe_id.to_string(), uri);
        assert!(enrolment.certificate.not_after > enrolment.certificate.not_before);
    }

    /// A17: a relay cannot make the agent present what it did not ask for.
    #[test]
    fn a17_other_certificates_are_refused() {
        let (key, other) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
        let domain: TrustDomain = "corp.example".parse().unwrap();
        let own = format!("spiffe://corp.example/device/{}", device(&key));
        let foreign = format!("spiffe://evil.example/device/{}", device(&key));
        let another = format!("spiffe://corp.example/device/{}", device(&other));
        let cases = [
            ("another key", issue(&other, &[&own])),
            ("another device", issue(&key, &[&another])),
            ("another domain", issue(&key, &[&foreign])),
            ("two identities", issue(&key, &[&own, &foreign])),
            ("no identity", issue(&key, &[])),
            ("no chain", String::new()),
            ("garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into()),
            ("a chain without end", issue(&key, &[&own]).repeat(20)),
        ];
        for (what, pem) in cases {
            let read = read_response(response(&pem, &device(&key)).as_bytes(), &domain, &key);
            assert_eq!(read.err().map(|p| p.code), Some(Code::CertificateInvalid), "{what}");
        }
        assert!(read_response(response(&issue(&key, &[&own]), &device(&key)).as_bytes(), &domain, &key).is_ok());
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_its_own_words() {
        let key = DeviceKey::generate().unwrap();
        let domain = "corp.example".parse().unwrap();
        let told = serde_json::to_string(&Problem::new(Code::DeviceOwned).detail("a\u{1b}b")).unwrap();
        for (status, body, code) in [
            (403, told, Code::DeviceOwned),
            (503, "busy".to_owned(), Code::RelayUnreachable),
            (404, String::new(), Code::DiscoveryInvalid),
        ] {
            let server = serve_https(move |_| (status, body.clone())).await;
            let problem = enroll(&server.url, Some(&server.ca_pem), &domain, &key, &request(&key)).await.err().unwrap();
            assert_eq!(problem.code, code);
            assert!(!problem.detail.unwrap_or_default().contains('\u{1b}'));
        }
    }

    #[test]
    fn the_device_has_a_name_fit_to_show() {
        assert!(!device_name(None).is_empty());
        assert_eq!(device_name(Some("a\u{1b}b")), "a\u{fffd}b");
        assert_eq!(device_name(Some(&"x".repeat(100))).len(), 64);
    }
}
