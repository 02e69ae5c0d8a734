//! The device's key pair: P-256, made here, never sent anywhere, wiped from memory when it is let go.

use crate::state_dir::{open_private, read_secret_file};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use postern_protocol::{Code, Problem, binding};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::SigningKey;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A PKCS#8 P-256 key is about 140 bytes, 240 in PEM.
const MAX_KEY_FILE: u64 = 4096;

/// A device key.
pub struct DeviceKey {
    pkcs8: Zeroizing<Vec<u8>>,
    pair: KeyPair,
    signing: Arc<dyn SigningKey>,
}

impl DeviceKey {
    /// A new key.
    pub fn generate() -> Result<Self, Problem> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| unusable("no key could be generated"))?;
        Self::from_pkcs8(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// The key in these PKCS#8 bytes, if it is a P-256 key.
    pub fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, Problem> {
        let der = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)
            .map_err(|_| unusable("it is not a P-256 key in PKCS#8"))?;
        let signing = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&PrivateKeyDer::Pkcs8(der))
            .map_err(|_| unusable("TLS cannot use it"))?;
        Ok(Self { pkcs8, pair, signing })
    }

    /// The key in this PEM file, which is made if it is absent: mode 0600, not through a symbolic link.
    pub fn from_file(path: &Path) -> Result<Self, Problem> {
        match Self::create_file(path) {
            Ok(key) => key,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let pem = read_secret_file(path, MAX_KEY_FILE).map_err(unusable)?;
                let der = PrivatePkcs8KeyDer::from_pem_slice(&pem)
                    .map_err(|_| unusable(format!("{} holds no PKCS#8 key in PEM", path.display())))?;
                Self::from_pkcs8(Zeroizing::new(der.secret_pkcs8_der().to_vec()))
            }
            Err(error) => Err(unusable(format!("{}: {error}", path.display()))),
        }
    }

    fn create_file(path: &Path) -> io::Result<Result<Self, Problem>> {
        let mut file = open_private(path, OpenOptions::new().write(true).create_new(true))?;
        let made = Self::generate();
        if let Ok(key) = &made {
            let pem = Zeroizing::new(key.pair.serialize_pem());
            let written = file.write_all(pem.as_bytes()).and_then(|()| file.sync_all());
            if let Err(error) = written {
                // A key cut short would lie in the way of the next try.
                let _ = std::fs::remove_file(path);
                return Err(error);
            }
        }
        Ok(made)
    }

    /// The PKCS#8 bytes, to be kept in a keyring.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The SubjectPublicKeyInfo in DER.
    pub fn spki(&self) -> Vec<u8> {
        self.pair.subject_public_key_info()
    }

    /// base64url(SHA-256(SubjectPublicKeyInfo)).
    pub fn thumbprint(&self) -> String {
        binding::thumbprint(&self.spki())
    }

    /// What TLS signs with.
    pub fn signing_key(&self) -> Arc<dyn SigningKey> {
        Arc::clone(&self.signing)
    }

    /// A certificate request (PKCS#10, PEM). It proves that the key is here and says nothing else: the relay decides all fields.
    pub fn certificate_request(&self) -> Result<String, Problem> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.pair).and_then(|request| request.pem());
        request.map_err(|error| Problem::new(Code::Internal).detail(error.to_string()))
    }
}

impl std::fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceKey").field("thumbprint", &self.thumbprint()).finish_non_exhaustive()
    }
}

fn unusable(why: impl Into<String>) -> Problem {
    Problem::new(Code::ConfigInvalid).detail(format!("the device key cannot be used: {}", why.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(unix)]
    use crate::testing::is_private;
    use crate::testing::set_mode;
    use std::fs;
    #[cfg(unix)]
    use std::os::unix::fs::symlink;

    #[test]
    fn keeps_its_identity_through_storage() {
        let key = DeviceKey::generate().unwrap();
        let again = DeviceKey::from_pkcs8(Zeroizing::new(key.pkcs8().to_vec())).unwrap();
        assert_eq!(key.spki(), again.spki());
        assert_eq!(key.thumbprint().len(), 43);
        assert!(!format!("{key:?}").contains("pkcs8"));
    }

    #[test]
    fn the_request_carries_the_key_and_no_wishes() {
        use x509_parser::prelude::{FromDer as _, X509CertificationRequest};
        let key = DeviceKey::generate().unwrap();
        let pem = key.certificate_request().unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let (_, request) = X509CertificationRequest::from_der(&pem.contents).unwrap();
        request.verify_signature().unwrap();
        assert_eq!(request.certification_request_info.subject_pki.raw, key.spki());
        assert_eq!(request.certification_request_info.subject.iter().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_is_made_once_private_and_not_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.key");
        let key = DeviceKey::from_file(&path).unwrap();
        assert!(is_private(&path));
        assert_eq!(DeviceKey::from_file(&path).unwrap().thumbprint(), key.thumbprint());
        set_mode(&path, 0o644);
        assert!(DeviceKey::from_file(&path).unwrap_err().detail.unwrap().contains("chmod 600"));
        // A21: a dangling link is no invitation to write where it points.
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        symlink(&target, &link).unwrap();
        assert!(DeviceKey::from_file(&link).is_err());
        assert!(!target.exists());
    }

    #[test]
    fn other_keys_and_garbage_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        for (name, text) in [("a", p384.serialize_pem()), ("b", "no key".into()), ("c", String::new())] {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            set_mode(&path, 0o600);
            assert_eq!(DeviceKey::from_file(&path).unwrap_err().code, Code::ConfigInvalid);
        }
    }
}
