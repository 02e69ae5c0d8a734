//! Device certificates made by hand, as the relay's template makes them but for what a test changes.

use crate::device::private_key;
use crate::quic::Identity;
use postern_protocol::DeviceId;
use postern_protocol::binding::sha256;
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rcgen::{KeyUsagePurpose, PublicKeyData as _, SanType, SigningKey};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::path::Path;
use time::{Duration, OffsetDateTime};

/// A certificate over a new key, issued by `issuer`.
pub fn device_certificate<S: SigningKey>(
    issuer: &Issuer<'_, S>,
    change: impl Fn(&mut CertificateParams),
) -> (CertificateDer<'static>, KeyPair) {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let id = DeviceId::from_key_hash(&sha256(&key.subject_public_key_info()));
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(&format!("spiffe://corp.example/device/{id}"))];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.not_before = OffsetDateTime::now_utc() - Duration::minutes(1);
    params.not_after = OffsetDateTime::now_utc() + Duration::hours(1);
    change(&mut params);
    let certificate = params.signed_by(&key, issuer).unwrap();
    (certificate.into(), key)
}

/// A URI name.
pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// What a client shows that has this chain and this key.
pub fn identity(chain: &[CertificateDer<'static>], key: &KeyPair) -> Identity {
    Identity { chain: chain.to_vec(), key: private_key(key) }
}

/// The authority whose certificate and key lie at `path` with `.crt` and `.key`.
pub fn authority(path: &Path) -> (CertificateDer<'static>, KeyPair) {
    let certificate = CertificateDer::from_pem_file(path.with_extension("crt")).unwrap();
    let key = KeyPair::from_pem(&std::fs::read_to_string(path.with_extension("key")).unwrap()).unwrap();
    (certificate, key)
}
