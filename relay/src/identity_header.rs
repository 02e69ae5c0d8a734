//! `x-postern-identity`: the signed word of who calls, made once for many requests.

use http::HeaderValue;
use postern_protocol::{AppName, Code, Timestamp};
use postern_relay_core::identity::{AssertionSigner, MAX_LIFETIME};
use postern_relay_core::token::VerifiedSession;
use std::time::Duration;

/// How long one assertion is sent again. An upstream always gets one that is good for half a minute yet,
/// unless the session ends sooner.
const REUSE: Duration = Duration::from_secs(30);
/// Assertions kept; the oldest go first and cost a signature.
const KEPT: u64 = 100_000;

/// SHA-256 of a session token.
pub type TokenHash = [u8; 32];

/// Makes assertions and keeps them, by session token and app: a new token, with new groups, gets a new one.
pub struct Assertions {
    signer: AssertionSigner,
    kept: moka::sync::Cache<(TokenHash, AppName), HeaderValue>,
}

impl Assertions {
    /// None made yet.
    pub fn new(signer: AssertionSigner) -> Self {
        Self { signer, kept: moka::sync::Cache::builder().max_capacity(KEPT).time_to_live(REUSE).build() }
    }

    /// What signs them.
    pub fn signer(&self) -> &AssertionSigner {
        &self.signer
    }

    /// The header's value for requests to `app` under the token with this hash.
    pub fn header(
        &self,
        token: TokenHash,
        session: &VerifiedSession,
        app: &AppName,
        now: Timestamp,
    ) -> Result<HeaderValue, Code> {
        let key = (token, app.clone());
        if let Some(kept) = self.kept.get(&key) {
            return Ok(kept);
        }
        let signed = self.signer.sign(session, app, now, MAX_LIFETIME).map_err(|_| Code::Internal)?;
        let mut value = HeaderValue::try_from(signed).map_err(|_| Code::Internal)?;
        value.set_sensitive(true);
        self.kept.insert(key, value.clone());
        Ok(value)
    }
}
