//! The chain: how a record becomes a line. Pure; a shell writes the line and keeps the chain it got with it only
//! once the line is on disk, so that a failed write leaves no gap.

use super::ascii;
use super::record::{Event, Record, as_text};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postern_protocol::{Timestamp, binding};
use serde::{Deserialize, Serialize};

/// What stands between a line's content and its hash.
const HASH_FIELD: &str = ",\"hash\":\"";

/// Where a chain stands: the number and hash of its last line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    seq: u64,
    head: String,
}

/// Why a chain cannot go on from a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The line is not one that a chain wrote.
    #[error("not a line of an audit log")]
    Form,
    /// The line was changed.
    #[error("the line does not match its own hash")]
    Hash,
    /// The line belongs elsewhere.
    #[error("the line does not follow the one before it")]
    Order,
    /// Not an Ed25519 key.
    #[error("the audit key is not an Ed25519 key")]
    Key,
}

/// The fields that every line has.
#[derive(Deserialize)]
pub(super) struct Link {
    pub(super) seq: u64,
    pub(super) prev: String,
    pub(super) event: String,
    #[serde(default)]
    pub(super) signature: Option<String>,
}

/// The content of a checkpoint besides the links.
#[derive(Serialize)]
struct CheckpointRecord<'a> {
    #[serde(serialize_with = "as_text")]
    time: Timestamp,
    event: Event,
    signature: &'a str,
}

impl Chain {
    /// An empty chain. It begins with a hash of the key, so that a log cannot be passed off as another relay's.
    pub fn genesis(key: &CheckpointKey) -> Self {
        let seed = [b"postern audit genesis\n".as_slice(), &key.bytes].concat();
        Self { seq: 0, head: hash(&seed) }
    }

    /// The chain that ends with `last_line`, without its line break.
    pub fn resume(last_line: &str) -> Result<Self, ChainError> {
        let (link, head) = open(last_line)?;
        Ok(Self { seq: link.seq, head })
    }

    /// The chain that goes on from here with `line`.
    pub fn extend(&self, line: &str) -> Result<Self, ChainError> {
        let (link, head) = open(line)?;
        if link.seq == self.seq + 1 && link.prev == self.head {
            Ok(Self { seq: link.seq, head })
        } else {
            Err(ChainError::Order)
        }
    }

    /// How many lines the chain has; the number of its last.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The hash of its last line.
    pub fn head(&self) -> &str {
        &self.head
    }

    /// The line of `record`, without a line break, and the chain that ends with it.
    #[must_use]
    pub fn append(&self, record: &Record) -> (String, Self) {
        self.link(&ascii::line(record))
    }

    /// A line that vouches, by the key, for everything before it, and the chain that ends with it.
    #[must_use]
    pub fn checkpoint(&self, signer: &CheckpointSigner, now: Timestamp) -> (String, Self) {
        let signature = URL_SAFE_NO_PAD.encode(signer.pair.sign(&statement(self.seq, &self.head)));
        self.link(&ascii::line(&CheckpointRecord { time: now, event: Event::Checkpoint, signature: &signature }))
    }

    fn link(&self, content: &str) -> (String, Self) {
        let (seq, fields) = (self.seq + 1, content.strip_prefix('{').unwrap_or(content));
        let fields = fields.strip_suffix('}').unwrap_or(fields);
        let body = format!("{{\"seq\":{seq},\"prev\":\"{}\",{fields}", self.head);
        let head = hash(body.as_bytes());
        (format!("{body}{HASH_FIELD}{head}\"}}"), Self { seq, head })
    }
}

/// Reads a line and checks it against its own hash, which it returns.
pub(super) fn open(line: &str) -> Result<(Link, String), ChainError> {
    let (body, tail) = line.rsplit_once(HASH_FIELD).ok_or(ChainError::Form)?;
    let written = tail.strip_suffix("\"}").ok_or(ChainError::Form)?;
    if hash(body.as_bytes()) != written {
        return Err(ChainError::Hash);
    }
    let link = serde_json::from_str(line).map_err(|_| ChainError::Form)?;
    Ok((link, written.to_owned()))
}

fn hash(bytes: &[u8]) -> String {
    binding::thumbprint(bytes)
}

/// What a checkpoint signs. No other signature of ours begins like this.
fn statement(seq: u64, head: &str) -> Vec<u8> {
    format!("postern audit checkpoint\n{seq}\n{head}\n").into_bytes()
}

/// Signs checkpoints. It holds the one key of this purpose.
pub struct CheckpointSigner {
    pair: Ed25519KeyPair,
}

impl CheckpointSigner {
    /// From an Ed25519 private key as PKCS#8 DER.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, ChainError> {
        let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|_| ChainError::Key)?;
        Ok(Self { pair })
    }

    /// The key that verifies what this signs.
    pub fn public(&self) -> CheckpointKey {
        CheckpointKey { bytes: self.pair.public_key().as_ref().to_vec() }
    }
}

/// Verifies checkpoints. Its text form is base64url of the 32 raw bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointKey {
    bytes: Vec<u8>,
}

impl CheckpointKey {
    pub(super) fn vouches(&self, seq: u64, head: &str, signature: &str) -> bool {
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        let key = ParsedPublicKey::new(&ED25519, &self.bytes);
        key.is_ok_and(|key| key.verify_sig(&statement(seq, head), &signature).is_ok())
    }
}

impl std::str::FromStr for CheckpointKey {
    type Err = ChainError;
    fn from_str(text: &str) -> Result<Self, ChainError> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| ChainError::Key)?;
        ParsedPublicKey::new(&ED25519, &bytes).map_err(|_| ChainError::Key)?;
        Ok(Self { bytes })
    }
}

impl std::fmt::Display for CheckpointKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(&self.bytes))
    }
}
