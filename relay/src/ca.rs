//! Certificate authorities: the embedded one issues device certificates, and the relay's own server certificates.

use crate::clock::random;
use crate::keys::Authority;
use postern_protocol::{Code, Problem, Timestamp, TrustDomain};
use postern_relay_core::issuance::{CsrKey, device_template};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;
use time::OffsetDateTime;

/// A device certificate just issued.
pub struct Issued {
    /// Chain in PEM, leaf first.
    pub chain_pem: String,
    /// When the leaf ends.
    pub not_after: Timestamp,
}

/// The answer of an authority, which may live elsewhere.
pub type Issuing<'a> = Pin<Box<dyn Future<Output = Result<Issued, Problem>> + Send + 'a>>;

/// Whoever issues device certificates. Of a request only the proven key is used.
pub trait CertificateAuthority: Send + Sync {
    /// A certificate for the device that holds `key`.
    fn issue<'a>(&'a self, key: &'a CsrKey, now: Timestamp) -> Issuing<'a>;
}

/// The authority whose key lies in the relay's own directory.
pub struct Embedded {
    issuer: Issuer<'static, KeyPair>,
    trust_domain: TrustDomain,
    lifetime: Duration,
}

impl Embedded {
    /// From the device authority's key and certificate.
    pub fn new(authority: Authority, trust_domain: TrustDomain, lifetime: Duration) -> Self {
        Self { issuer: authority.issuer, trust_domain, lifetime }
    }

    fn sign(&self, key: &CsrKey, now: Timestamp) -> Result<Issued, Problem> {
        let failed = |why: String| Problem::new(Code::Internal).detail(format!("no certificate could be made: {why}"));
        let template = device_template(key, &self.trust_domain, random()?, now, self.lifetime)
            .map_err(|error| failed(error.to_string()))?;
        let certificate =
            template.params.signed_by(&template.public_key, &self.issuer).map_err(|error| failed(error.to_string()))?;
        Ok(Issued { chain_pem: certificate.pem(), not_after: template.not_after })
    }
}

impl CertificateAuthority for Embedded {
    fn issue<'a>(&'a self, key: &'a CsrKey, now: Timestamp) -> Issuing<'a> {
        Box::pin(async move { self.sign(key, now) })
    }
}

/// A server certificate and its key.
pub struct ServerCertificate {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key, made for it alone.
    pub key: PrivateKeyDer<'static>,
}

/// How long a server certificate of the relay's own authority lives. The relay issues the next one at half of it.
pub const SERVER_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// A fresh certificate of the relay's own for `names`: host names and IP addresses.
pub fn server_certificate(
    authority: &Issuer<'static, KeyPair>,
    names: &[String],
    now: Timestamp,
) -> Result<ServerCertificate, Problem> {
    let failed = |error: rcgen::Error| {
        Problem::new(Code::Internal).detail(format!("no server certificate could be made: {error}"))
    };
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = CertificateParams::default();
    for name in names {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into().map_err(failed)?),
        });
    }
    params.distinguished_name = common_name("Postern relay");
    params.serial_number = Some(positive_serial(random()?));
    params.not_before = calendar(now.minus(Duration::from_secs(300)))?;
    params.not_after = calendar(now.plus(SERVER_LIFETIME))?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, authority).map_err(failed)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(ServerCertificate { chain: vec![certificate.der().clone()], key })
}

/// A new authority's certificate: it may sign leaves and nothing below them.
pub fn new_authority(name: &str, key: &KeyPair, now: Timestamp, lifetime: Duration) -> Result<String, Problem> {
    let failed =
        |error: rcgen::Error| Problem::new(Code::Internal).detail(format!("no authority could be made: {error}"));
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.serial_number = Some(positive_serial(random()?));
    params.not_before = calendar(now.minus(Duration::from_secs(300)))?;
    params.not_after = calendar(now.plus(lifetime))?;
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params.self_signed(key).map_err(failed)?.pem())
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// RFC 5280 §4.1.2.2: positive, and here always of the same length.
fn positive_serial(mut bytes: [u8; 16]) -> SerialNumber {
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    SerialNumber::from_slice(&bytes)
}

fn calendar(at: Timestamp) -> Result<OffsetDateTime, Problem> {
    let time = i64::try_from(at.seconds()).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.ok_or_else(|| Problem::new(Code::Internal).detail("the system clock is beyond what a certificate can say"))
}
