//! The key of stateless resets (RFC 9000 §10.3). It outlives the process, so that a relay that was killed and started
//! again can tell devices at once that their connections are gone; without it they would wait for the idle time-out.

use crate::clock::random;
use aws_lc_rs::hmac;
use quinn::EndpointConfig;
use quinn_proto::HashedConnectionIdGenerator;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// In the state directory. Losing it costs one idle time-out.
const FILE: &str = "quic-reset.key";
/// 32 bytes of the reset key, 8 that tell our connection ids from noise.
const LENGTH: usize = 40;

/// The key.
pub struct ResetKey(Zeroizing<Vec<u8>>);

impl ResetKey {
    /// The key kept in `state_dir`, made there if there is none.
    pub fn load(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) if bytes.len() == LENGTH => return Ok(Self(bytes.into())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let key = Self::new()?;
        // Made with mode 0600, and renamed when it is whole.
        let mut file = tempfile::NamedTempFile::new_in(state_dir)?;
        file.write_all(&key.0)?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        Ok(key)
    }

    /// A new key, kept nowhere.
    pub fn new() -> io::Result<Self> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH));
        for _ in 0..LENGTH.div_ceil(16) {
            let part: [u8; 16] = random().map_err(|_| io::Error::other("no randomness"))?;
            bytes.extend_from_slice(&part);
        }
        bytes.truncate(LENGTH);
        Ok(Self(bytes))
    }

    /// An endpoint that resets by this key.
    pub(super) fn endpoint(&self) -> EndpointConfig {
        let (reset, ids) = self.0.split_at(LENGTH - 8);
        let ids = ids.iter().fold(0, |number, &byte| (number << 8) | u64::from(byte));
        let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset)));
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_stays_and_a_broken_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let first = ResetKey::load(dir.path()).unwrap().0;
        assert_eq!((first.len(), &first), (LENGTH, &ResetKey::load(dir.path()).unwrap().0));
        std::fs::write(dir.path().join(FILE), "short").unwrap();
        let second = ResetKey::load(dir.path()).unwrap().0;
        assert_eq!((second.len(), second == first), (LENGTH, false));
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(dir.path().join(FILE)).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
