//! Issuance: of a certificate request only the proven key is used; every field comes from the template.

use crate::certificate::is_p256;
use crate::limits::{CLOCK_SKEW, MAX_CSR_BYTES};
use postern_protocol::{Code, DeviceId, SpiffeId, Timestamp, TrustDomain, binding};
use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber, SubjectPublicKeyInfo,
};
use std::time::Duration;
use time::OffsetDateTime;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::OID_SIG_ECDSA_WITH_SHA256;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

/// A P-256 public key whose holder signed the request. Only [`check_csr`] makes one.
#[derive(Clone, Debug)]
pub struct CsrKey {
    spki: SubjectPublicKeyInfo,
    spki_der: Vec<u8>,
    csr_der: Vec<u8>,
}

impl CsrKey {
    /// SubjectPublicKeyInfo in DER.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    /// The request in DER, for an authority that wants it; its fields beyond the key mean nothing.
    pub fn csr_der(&self) -> &[u8] {
        &self.csr_der
    }

    /// base64url(SHA-256(SubjectPublicKeyInfo)).
    pub fn thumbprint(&self) -> String {
        binding::thumbprint(&self.spki_der)
    }

    /// The device this key is.
    pub fn device_id(&self) -> DeviceId {
        DeviceId::from_key_hash(&binding::sha256(&self.spki_der))
    }
}

/// Checks a certificate request: one PEM block, a P-256 key, signed with that key by ECDSA and SHA-256.
pub fn check_csr(pem: &str) -> Result<CsrKey, Code> {
    parse_csr(pem).ok_or(Code::CsrInvalid)
}

fn parse_csr(pem: &str) -> Option<CsrKey> {
    if pem.len() > MAX_CSR_BYTES {
        return None;
    }
    let mut blocks = Pem::iter_from_buffer(pem.as_bytes());
    let block = blocks.next()?.ok()?;
    if block.label != "CERTIFICATE REQUEST" || blocks.next().is_some() {
        return None;
    }
    let (rest, csr) = X509CertificationRequest::from_der(&block.contents).ok()?;
    let key = &csr.certification_request_info.subject_pki;
    if !rest.is_empty() || !is_p256(key) || csr.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256 {
        return None;
    }
    csr.verify_signature().ok()?;
    let spki = SubjectPublicKeyInfo::from_der(key.raw).ok()?;
    let spki_der = spki.subject_public_key_info();
    // Another encoding of the key would give the device another name than its certificate's.
    (spki_der == key.raw).then(|| CsrKey { spki, spki_der, csr_der: block.contents.clone() })
}

/// What an authority signs: `template.params.signed_by(&template.public_key, &issuer)`.
pub struct DeviceTemplate {
    /// Every field of the certificate.
    pub params: CertificateParams,
    /// Its key.
    pub public_key: SubjectPublicKeyInfo,
    /// The identity it carries.
    pub spiffe: SpiffeId,
    /// When it ends.
    pub not_after: Timestamp,
}

/// Why no template could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time of issue or the lifetime lies outside of what a certificate can say")]
pub struct TemplateError;

/// The certificate of a device's key: good for `lifetime` from `now`, backdated by the permitted clock skew.
pub fn device_template(
    key: &CsrKey,
    domain: &TrustDomain,
    mut serial: [u8; 16],
    now: Timestamp,
    lifetime: Duration,
) -> Result<DeviceTemplate, TemplateError> {
    let spiffe = SpiffeId { trust_domain: domain.clone(), device: key.device_id() };
    let not_after = Timestamp::from_seconds(now.plus(lifetime).seconds());
    let mut params = CertificateParams::default();
    params.not_before = calendar(now.minus(CLOCK_SKEW))?;
    params.not_after = calendar(not_after)?;
    // RFC 5280 §4.1.2.2: positive. Bits 6 and 7 of the first byte keep it so and its length fixed.
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(spiffe.to_string()).map_err(|_| TemplateError)?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(DeviceTemplate { params, public_key: key.spki.clone(), spiffe, not_after })
}

fn calendar(at: Timestamp) -> Result<OffsetDateTime, TemplateError> {
    // X.509 cannot write a year beyond 9999.
    const END: u64 = 253_402_300_799;
    let seconds = i64::try_from(at.seconds().min(END)).map_err(|_| TemplateError)?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| TemplateError)
}

#[cfg(test)]
mod tests;
