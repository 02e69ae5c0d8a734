//! Issuance: the request gives its key and nothing else.

use super::*;
use crate::certificate::verify_device;
use crate::fixture::{NOW, authority, csr, domain, key};
use proptest::prelude::*;
use rcgen::{BasicConstraints, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use std::sync::LazyLock;
use x509_parser::certificate::X509Certificate;

const DAY: Duration = Duration::from_secs(86_400);

/// A request with this key that asks for everything it should not get.
fn greedy(key: &KeyPair) -> String {
    let mut params = CertificateParams::new(["relay.corp.example".to_owned(), "10.0.0.1".to_owned()]).unwrap();
    params
        .subject_alt_names
        .push(SanType::URI("spiffe://corp.example/device/00000000000000000000000000000000".try_into().unwrap()));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any, ExtendedKeyUsagePurpose::ServerAuth];
    params.distinguished_name.push(rcgen::DnType::CommonName, "root");
    let asked = params.serialize_request(key);
    asked.unwrap().pem().unwrap()
}

#[test]
fn a27_issued_fields_come_from_the_template_alone() {
    let key = key(&PKCS_ECDSA_P256_SHA256);
    let (modest, greedy) = (check_csr(&csr(&key)).unwrap(), check_csr(&greedy(&key)).unwrap());
    let made = |csr: &CsrKey| device_template(csr, &domain(), [7; 16], NOW, DAY).unwrap();
    assert_eq!(made(&modest).params, made(&greedy).params);
    assert_eq!(made(&modest).public_key, made(&greedy).public_key);

    let template = made(&greedy);
    let der = template.params.signed_by(&template.public_key, authority()).unwrap().der().to_vec();
    let device = verify_device(&der, &domain(), NOW).unwrap();
    assert_eq!(*device.id(), greedy.device_id());
    assert_eq!(device.key_thumbprint(), greedy.thumbprint());
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    assert!(!leaf.is_ca());
    assert_eq!(leaf.subject().iter_attributes().count(), 0, "no name but the SPIFFE identity");
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(san.value.general_names.len(), 1);
    assert!(san.critical, "with an empty subject the alternative name is critical (RFC 5280 §4.2.1.6)");
}

#[test]
fn a27_weak_and_other_keys_are_refused() {
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    for key in [key(&PKCS_ED25519), key(&PKCS_ECDSA_P384_SHA384), rsa] {
        assert_eq!(check_csr(&csr(&key)).unwrap_err(), Code::CsrInvalid);
    }
}

#[test]
fn a_request_that_its_key_did_not_sign_is_refused() {
    let key = key(&PKCS_ECDSA_P256_SHA256);
    let genuine = check_csr(&csr(&key)).unwrap();
    let other = check_csr(&csr(&self::key(&PKCS_ECDSA_P256_SHA256))).unwrap();
    // The other's key in place of the signer's: the holder proves possession of nothing.
    let at = genuine.csr_der.windows(genuine.spki_der.len()).position(|w| w == genuine.spki_der).unwrap();
    let mut swapped = genuine.csr_der.clone();
    swapped[at..at + other.spki_der.len()].copy_from_slice(&other.spki_der);
    assert_eq!(check_csr(&pem(&swapped)).unwrap_err(), Code::CsrInvalid);
    assert!(check_csr(&pem(&genuine.csr_der)).is_ok());
}

#[test]
fn one_pem_block_of_the_right_label_and_nothing_more() {
    let good = csr(&key(&PKCS_ECDSA_P256_SHA256));
    for bad in [
        String::new(),
        good.repeat(2),
        good.replace("CERTIFICATE REQUEST", "CERTIFICATE"),
        format!("{}{good}", "#".repeat(MAX_CSR_BYTES)),
    ] {
        assert_eq!(check_csr(&bad).unwrap_err(), Code::CsrInvalid);
    }
    let mut trailing = check_csr(&good).unwrap().csr_der;
    trailing.push(0);
    assert!(check_csr(&pem(&trailing)).is_err());
}

#[test]
fn serials_are_positive_and_times_within_bounds() {
    let csr = check_csr(&csr(&key(&PKCS_ECDSA_P256_SHA256))).unwrap();
    for serial in [[0; 16], [0xff; 16], [0x80; 16]] {
        let template = device_template(&csr, &domain(), serial, NOW, DAY).unwrap();
        let bytes = template.params.serial_number.unwrap().to_bytes();
        assert!(bytes.len() == 16 && (0x40..0x80).contains(&bytes[0]));
    }
    for (now, lifetime) in [(Timestamp::default(), Duration::ZERO), (Timestamp::from_millis(u64::MAX), Duration::MAX)] {
        assert!(device_template(&csr, &domain(), [0; 16], now, lifetime).is_ok());
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", lines.join("\n"))
}

proptest! {
    /// A30: damage ends in a refusal; no changed byte of what is signed survives.
    #[test]
    fn a30_fuzzed_requests_never_panic(at in 0usize..2000, with: u8, text in "\\PC*", junk: Vec<u8>) {
        static GOOD: LazyLock<CsrKey> = LazyLock::new(|| check_csr(&greedy(&key(&PKCS_ECDSA_P256_SHA256))).unwrap());
        let (_, parsed) = X509CertificationRequest::from_der(&GOOD.csr_der).unwrap();
        // The outer sequence's header is 4 bytes long, and what is signed follows it.
        let signed = 4..4 + parsed.certification_request_info.raw.len();
        let mut damaged = GOOD.csr_der.clone();
        let at = at % damaged.len();
        let changed = damaged[at] != with;
        damaged[at] = with;
        if let Ok(csr) = check_csr(&pem(&damaged)) {
            // Around the signature the parser takes a tag or two of another class for the right one.
            prop_assert!(!changed || !signed.contains(&at), "at {}", at);
            prop_assert_eq!(csr.spki_der(), GOOD.spki_der());
        }
        let _ = check_csr(&text);
        let _ = check_csr(&pem(&junk));
    }
}
