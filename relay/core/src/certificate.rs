//! The device certificate: what a leaf must look like beyond the chain that TLS has verified.
//!
//! TLS proves that the device authority signed the leaf. This proves that the leaf is one that the authority's
//! template makes: an end entity with the one SPIFFE identity of its own key, for client authentication only.

use crate::limits::MAX_CERTIFICATE_BYTES;
use postern_protocol::{Code, DeviceId, SpiffeId, Timestamp, TrustDomain, binding};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY};
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};

/// A device whose certificate was verified. Only [`verify_device`] makes one that leaves this crate.
#[derive(Clone, Debug)]
pub struct VerifiedDevice {
    id: DeviceId,
    thumbprint: String,
    key_thumbprint: String,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl VerifiedDevice {
    /// The device.
    pub fn id(&self) -> &DeviceId {
        &self.id
    }

    /// The certificate's `x5t#S256` (RFC 8705 §3.1).
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// base64url(SHA-256(SubjectPublicKeyInfo)).
    pub fn key_thumbprint(&self) -> &str {
        &self.key_thumbprint
    }

    /// From when the certificate is good.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Until when, inclusive (RFC 5280 §4.1.2.5).
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// One that nobody showed a certificate for, good at `now`: to simulate a decision. It must not leave this crate.
    pub(crate) fn supposed(id: DeviceId, now: Timestamp) -> Self {
        let (thumbprint, key_thumbprint) = ("supposed".to_owned(), "supposed".to_owned());
        Self { id, thumbprint, key_thumbprint, not_before: now, not_after: now }
    }

    /// The first named check of every decision: is the certificate good now?
    pub fn check_validity(&self, now: Timestamp) -> Result<(), Code> {
        if now < self.not_before {
            Err(Code::CertificateInvalid)
        } else if now > self.not_after {
            Err(Code::CertificateExpired)
        } else {
            Ok(())
        }
    }
}

/// Verifies the leaf that a TLS handshake authenticated.
pub fn verify_device(leaf_der: &[u8], domain: &TrustDomain, now: Timestamp) -> Result<VerifiedDevice, Code> {
    let device = parse(leaf_der, domain).ok_or(Code::CertificateInvalid)?;
    device.check_validity(now)?;
    Ok(device)
}

/// Whom a leaf that TLS has verified names, be it good or not: for the audit log alone.
pub fn named_device(leaf_der: &[u8], domain: &TrustDomain) -> Option<DeviceId> {
    parse(leaf_der, domain).map(|device| device.id)
}

fn parse(der: &[u8], domain: &TrustDomain) -> Option<VerifiedDevice> {
    if der.len() > MAX_CERTIFICATE_BYTES {
        return None;
    }
    let (rest, leaf) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() || leaf.version() != X509Version::V3 || !is_p256(leaf.public_key()) {
        return None;
    }
    let spiffe = identity_of(&leaf)?;
    let spki = leaf.public_key().raw;
    // The name must be that of this very key: a CA tricked into another name gains the holder nothing.
    let own_name = DeviceId::from_key_hash(&binding::sha256(spki));
    if spiffe.trust_domain != *domain || spiffe.device != own_name {
        return None;
    }
    Some(VerifiedDevice {
        id: spiffe.device,
        thumbprint: binding::thumbprint(der),
        key_thumbprint: binding::thumbprint(spki),
        not_before: timestamp(leaf.validity().not_before)?,
        not_after: timestamp(leaf.validity().not_after)?,
    })
}

/// The identity of a leaf whose extensions are those of the template, each at most once, none other critical.
fn identity_of(leaf: &X509Certificate<'_>) -> Option<SpiffeId> {
    leaf.extensions_map().ok()?;
    let (mut identity, mut signs, mut client) = (None, false, false);
    for extension in leaf.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(constraints) if constraints.ca => return None,
            ParsedExtension::BasicConstraints(_) => {}
            ParsedExtension::KeyUsage(usage) if usage.key_cert_sign() || usage.crl_sign() => return None,
            ParsedExtension::KeyUsage(usage) => signs = usage.digital_signature(),
            ParsedExtension::ExtendedKeyUsage(usage) => {
                let others = usage.any || usage.server_auth || usage.code_signing || !usage.other.is_empty();
                client = usage.client_auth && !others;
            }
            ParsedExtension::SubjectAlternativeName(san) => match san.general_names.as_slice() {
                [GeneralName::URI(uri)] => identity = Some(uri.parse().ok()?),
                _ => return None,
            },
            _ if extension.critical => return None,
            _ => {}
        }
    }
    identity.filter(|_| signs && client)
}

/// Is this a P-256 key with an uncompressed point?
pub(crate) fn is_p256(key: &SubjectPublicKeyInfo<'_>) -> bool {
    let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let point = &key.subject_public_key;
    key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
        && curve.is_some_and(|curve| curve == OID_EC_P256)
        && point.unused_bits == 0
        && point.data.len() == 65
        && point.data.first() == Some(&4)
}

fn timestamp(time: ASN1Time) -> Option<Timestamp> {
    u64::try_from(time.timestamp()).ok().map(Timestamp::from_seconds)
}

#[cfg(test)]
mod tests;
