//! Searching for secrets where none may be: logs, audit files, state directories.

use std::path::Path;

/// Every occurrence of a secret in the files below `directory`, as `file: what`.
///
/// Finds the given `canaries`, and by their shape compact JWS and private keys in PEM or DER.
pub fn find(directory: &Path, canaries: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(find(&path, canaries));
        } else if path.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            found.extend(secrets_in(&bytes, canaries).into_iter().map(|what| format!("{}: {what}", path.display())));
        }
    }
    found
}

/// The secrets in `bytes`.
pub fn secrets_in(bytes: &[u8], canaries: &[&str]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let given = canaries.iter().filter(|canary| !canary.is_empty() && text.contains(**canary));
    let mut found: Vec<_> = given.map(|canary| format!("canary {canary}")).collect();
    // A compact JWS: a header that is base64url of `{"`, claims that are too, and a signature.
    for (start, _) in text.match_indices("eyJ") {
        let token: String =
            text[start..].chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
        let parts: Vec<_> = token.split('.').collect();
        if let [_, claims, signature, ..] = parts[..]
            && claims.starts_with("eyJ")
            && signature.len() >= 20
        {
            found.push(format!("token {}...", &token[..40.min(token.len())]));
        }
    }
    if text.contains("PRIVATE KEY-----") {
        found.push("private key in PEM".into());
    }
    // PKCS#8 of a P-256 key: the algorithm's OIDs and then the ECPrivateKey of 32 bytes.
    let pkcs8_p256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04];
    if bytes.windows(pkcs8_p256.len()).any(|window| window == pkcs8_p256) {
        found.push("private key in DER".into());
    }
    found
}
