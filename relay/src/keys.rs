//! The relay's keys on disk: one file and one kind of key per purpose, readable by the relay's user alone.

use crate::config::Fault;
use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData as _, SignatureAlgorithm};
use rustls::pki_types::CertificateDer;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;
use zeroize::Zeroizing;

/// File names of an authority's private key and certificate.
pub const DEVICE_CA: (&str, &str) = ("device-ca.key", "device-ca.crt");
/// The authority of the relay's own server certificates.
pub const SERVER_CA: (&str, &str) = ("server-ca.key", "server-ca.crt");
/// Signs session tokens.
pub const SESSION: &str = "session.key";
/// Signs identity assertions to upstreams.
pub const IDENTITY: &str = "identity.key";
/// Signs audit checkpoints.
pub const AUDIT: &str = "audit.key";
/// Its public half, for whoever verifies the audit log.
pub const AUDIT_PUBLIC: &str = "audit.pub";

/// Most bytes of a key or certificate file.
const MAX_FILE: u64 = 64 * 1024;

/// Every key of the relay.
pub struct Keys {
    /// Issues device certificates.
    pub device_ca: Authority,
    /// Issues the relay's server certificates.
    pub server_ca: Authority,
    /// Ed25519, PKCS#8 DER: session tokens.
    pub session: Zeroizing<Vec<u8>>,
    /// P-256, PKCS#8 DER: identity assertions.
    pub identity: Zeroizing<Vec<u8>>,
    /// Ed25519, PKCS#8 DER: audit checkpoints.
    pub audit: Zeroizing<Vec<u8>>,
}

/// A certificate authority: its key and its certificate.
pub struct Authority {
    /// What signs.
    pub issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub certificate: CertificateDer<'static>,
    /// The same in PEM.
    pub pem: String,
}

impl Keys {
    /// Reads and checks every key in `dir`. The error is everything that is wrong with them.
    pub fn load(dir: &Path) -> Result<Self, Vec<Fault>> {
        let mut reader = Reader { dir, faults: Vec::new(), seen: Vec::new() };
        reader.check_dir();
        let device_ca = reader.authority(DEVICE_CA);
        let server_ca = reader.authority(SERVER_CA);
        let session = reader.secret(SESSION, &PKCS_ED25519);
        let identity = reader.secret(IDENTITY, &PKCS_ECDSA_P256_SHA256);
        let audit = reader.secret(AUDIT, &PKCS_ED25519);
        match (device_ca, server_ca, session, identity, audit) {
            (Some(device_ca), Some(server_ca), Some(session), Some(identity), Some(audit))
                if reader.faults.is_empty() =>
            {
                Ok(Self { device_ca, server_ca, session, identity, audit })
            }
            _ => Err(reader.faults),
        }
    }
}

/// Is a file or directory with this mode out of reach for everybody but its owner?
pub fn is_private(mode: u32) -> bool {
    mode & 0o077 == 0
}

const RESTORE: &str = "restore it from the backup, or make new keys in another directory: postern-relay init DIR";

struct Reader<'a> {
    dir: &'a Path,
    faults: Vec<Fault>,
    /// Public keys so far and their files, to keep one key from serving two purposes.
    seen: Vec<(Vec<u8>, &'static str)>,
}

impl Reader<'_> {
    fn check_dir(&mut self) {
        match std::fs::metadata(self.dir) {
            Ok(meta) if meta.is_dir() && !is_private(meta.permissions().mode()) => {
                let fix = format!("chmod 700 {}", self.dir.display());
                self.faults.push(Fault::of_file(self.dir, "others may look into the directory of the keys", fix));
            }
            _ => {}
        }
    }

    fn authority(&mut self, (key_name, certificate_name): (&'static str, &'static str)) -> Option<Authority> {
        let key = self.key(key_name, &PKCS_ECDSA_P256_SHA256);
        let path = self.dir.join(certificate_name);
        let pem = self.text(&path)?;
        let certificate = match certificate(&pem) {
            Ok(certificate) => certificate,
            Err(why) => return self.fault(&path, why, RESTORE),
        };
        let key = key?;
        if let Err(why) = check_authority(&certificate, &key) {
            return self.fault(&path, why, RESTORE);
        }
        match Issuer::from_ca_cert_der(&certificate, key) {
            Ok(issuer) => Some(Authority { issuer, certificate, pem }),
            Err(error) => self.fault(&path, format!("cannot serve as an authority: {error}"), RESTORE),
        }
    }

    fn secret(&mut self, name: &'static str, algorithm: &'static SignatureAlgorithm) -> Option<Zeroizing<Vec<u8>>> {
        self.key(name, algorithm).map(|key| Zeroizing::new(key.serialize_der()))
    }

    fn key(&mut self, name: &'static str, algorithm: &'static SignatureAlgorithm) -> Option<KeyPair> {
        let path = self.dir.join(name);
        let pem = Zeroizing::new(self.text(&path)?);
        if std::fs::metadata(&path).is_ok_and(|meta| !is_private(meta.permissions().mode())) {
            let fix = format!("chmod 600 {}", path.display());
            self.faults.push(Fault::of_file(&path, "others may read or write this private key", fix));
        }
        let key = match KeyPair::from_pem(&pem) {
            Ok(key) if key.algorithm() == algorithm => key,
            Ok(_) => return self.fault(&path, "is a key of another kind than this purpose takes", RESTORE),
            Err(_) => return self.fault(&path, "is not a PKCS#8 private key in PEM", RESTORE),
        };
        let public = key.public_key_raw().to_vec();
        if let Some((_, other)) = self.seen.iter().find(|(seen, _)| *seen == public) {
            return self.fault(
                &path,
                format!("is the same key as {other}; each purpose has a key of its own"),
                RESTORE,
            );
        }
        self.seen.push((public, name));
        Some(key)
    }

    fn text(&mut self, path: &Path) -> Option<String> {
        match read_text(path) {
            Ok(text) => Some(text),
            Err(why) => self.fault(path, why, RESTORE),
        }
    }

    fn fault<T>(&mut self, path: &Path, message: impl Into<String>, fix: &str) -> Option<T> {
        self.faults.push(Fault::of_file(path, message, fix));
        None
    }
}

/// A PEM file's text; the error says what is wrong with the file.
pub fn read_text(path: &Path) -> Result<String, String> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err("does not exist".to_owned()),
        Ok(meta) if meta.is_dir() => return Err("is a directory".to_owned()),
        Ok(meta) if meta.len() > MAX_FILE => return Err("is larger than 64 KiB".to_owned()),
        _ => {}
    }
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Err("is empty".to_owned()),
        Ok(text) => Ok(text),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// The one certificate in `pem`.
fn certificate(pem: &str) -> Result<CertificateDer<'static>, String> {
    use rustls::pki_types::pem::PemObject as _;
    let mut found = CertificateDer::pem_slice_iter(pem.as_bytes());
    match (found.next(), found.next()) {
        (Some(Ok(certificate)), None) => Ok(certificate),
        (None, _) => Err("holds no certificate in PEM".to_owned()),
        (Some(Ok(_)), Some(_)) => Err("holds more than one certificate".to_owned()),
        (Some(Err(error)), _) => Err(format!("is not a certificate in PEM: {error}")),
    }
}

/// Is this a live authority's certificate of this key?
fn check_authority(certificate: &CertificateDer<'_>, key: &KeyPair) -> Result<(), String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| "is not an X.509 certificate".to_owned())?;
    let signs = parsed.key_usage().ok().flatten().is_some_and(|usage| usage.value.key_cert_sign());
    if !parsed.is_ca() || !signs {
        return Err("is not the certificate of an authority".to_owned());
    }
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err("does not belong to the private key beside it".to_owned());
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = ASN1Time::from_timestamp(i64::try_from(now).unwrap_or(i64::MAX)).map_err(|error| error.to_string())?;
    if !parsed.validity().is_valid_at(now) {
        return Err(format!("is good from {} to {} only", parsed.validity().not_before, parsed.validity().not_after));
    }
    Ok(())
}

/// Where the public half of the audit key stands.
pub fn audit_public(dir: &Path) -> PathBuf {
    dir.join(AUDIT_PUBLIC)
}
