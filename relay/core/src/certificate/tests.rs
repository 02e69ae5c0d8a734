//! Device certificates: only what the template makes is a device.

use super::*;
use crate::fixture::{NOW, authority, certificate, domain, key};
use crate::issuance::{check_csr, device_template};
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// A leaf of the template after `change`, signed by the real authority.
fn forged(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let csr = check_csr(&crate::fixture::csr(&key(&PKCS_ECDSA_P256_SHA256))).unwrap();
    let mut template = device_template(&csr, &domain(), [1; 16], NOW, DAY).unwrap();
    change(&mut template.params);
    template.params.signed_by(&template.public_key, authority()).unwrap().der().to_vec()
}

fn refused(der: &[u8]) -> Code {
    verify_device(der, &domain(), NOW).unwrap_err()
}

fn uri(text: String) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

#[test]
fn what_the_template_makes_is_a_device() {
    let der = certificate(NOW, DAY);
    let device = verify_device(&der, &domain(), NOW).unwrap();
    assert_eq!(device.thumbprint(), binding::thumbprint(&der));
    assert_eq!(device.not_after(), NOW.plus(DAY));
    assert_eq!(device.key_thumbprint().len(), 43);
}

#[test]
fn validity_is_that_of_the_certificate() {
    let der = certificate(NOW, DAY);
    let at = |now| verify_device(&der, &domain(), now).map(drop);
    assert_eq!(at(NOW.minus(Duration::from_secs(61))), Err(Code::CertificateInvalid));
    assert_eq!(at(NOW.minus(Duration::from_secs(60))), Ok(()), "backdated by the permitted skew");
    assert_eq!(at(NOW.plus(DAY)), Ok(()));
    assert_eq!(at(NOW.plus(DAY).plus(Duration::from_secs(1))), Err(Code::CertificateExpired));
}

#[test]
fn a28_a_ca_certificate_is_no_leaf() {
    assert_eq!(refused(&forged(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))), Code::CertificateInvalid);
    assert_eq!(refused(&forged(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))), Code::CertificateInvalid);
    assert_eq!(refused(&forged(|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign))), Code::CertificateInvalid);
    assert_eq!(refused(&forged(|p| p.key_usages.push(KeyUsagePurpose::CrlSign))), Code::CertificateInvalid);
}

#[test]
fn a31_a_leaf_of_another_trust_domain_or_key_is_refused() {
    let own = verify_device(&certificate(NOW, DAY), &domain(), NOW).unwrap();
    let other_domain = "evil.example".parse().unwrap();
    assert_eq!(verify_device(&certificate(NOW, DAY), &other_domain, NOW).unwrap_err(), Code::CertificateInvalid);
    for san in [
        // Another device's name on this key.
        format!("spiffe://corp.example/device/{}", own.id()),
        format!("spiffe://evil.example/device/{}", own.id()),
        "spiffe://corp.example/user/alice".into(),
        "https://corp.example/".into(),
    ] {
        assert_eq!(refused(&forged(|p| p.subject_alt_names = vec![uri(san)])), Code::CertificateInvalid);
    }
}

#[test]
fn any_other_shape_than_the_templates_is_refused() {
    let changes: [fn(&mut CertificateParams); 9] = [
        |p| p.subject_alt_names.clear(),
        |p| p.subject_alt_names.push(SanType::DnsName("relay.corp.example".try_into().unwrap())),
        |p| p.subject_alt_names.push(p.subject_alt_names[0].clone()),
        |p| p.extended_key_usages.clear(),
        |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
        |p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth),
        |p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::Any),
        |p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement],
        |p| {
            let mut odd = rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
            odd.set_criticality(true);
            p.custom_extensions.push(odd);
        },
    ];
    for (n, change) in changes.into_iter().enumerate() {
        assert_eq!(refused(&forged(change)), Code::CertificateInvalid, "change {n}");
    }
}

#[test]
fn other_kinds_of_key_are_refused() {
    for algorithm in [&PKCS_ED25519, &PKCS_ECDSA_P384_SHA384] {
        let key = key(algorithm);
        let mut params = CertificateParams::default();
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        let id = DeviceId::from_key_hash(&binding::sha256(&spki));
        params.subject_alt_names = vec![uri(format!("spiffe://corp.example/device/{id}"))];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let der = params.signed_by(&key, authority()).unwrap().der().to_vec();
        assert_eq!(refused(&der), Code::CertificateInvalid);
    }
}

proptest! {
    /// A30, A28: damage and nesting end in a refusal or in the same device, never in a panic.
    #[test]
    fn a30_fuzzed_certificates_never_panic(at in 0usize..600, with: u8, cut in 0usize..600, junk: Vec<u8>) {
        static GOOD: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| certificate(NOW, DAY));
        let mut damaged = GOOD.clone();
        let at = at % damaged.len();
        damaged[at] = with;
        let _ = verify_device(&damaged, &domain(), NOW);
        let _ = verify_device(&GOOD[..cut.min(GOOD.len())], &domain(), NOW);
        let _ = verify_device(&junk, &domain(), NOW);
        let nested = [&[0x30, 0x82, 0x02, 0x00][..], &GOOD].concat();
        prop_assert!(verify_device(&nested, &domain(), NOW).is_err());
        let trailed = [&GOOD[..], &[0]].concat();
        prop_assert!(verify_device(&trailed, &domain(), NOW).is_err());
    }
}
