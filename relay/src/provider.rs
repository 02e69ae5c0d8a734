//! The OpenID provider's keys: fetched under strict rules, kept for a bounded time, refreshed at most now and then.

mod fetch;
mod keys;

pub use keys::KeySet;

use crate::config::ProviderConfig;
use fetch::Fetcher;
use postern_protocol::{Code, Problem, Timestamp};
use postern_relay_core::logout::{self, Logout, LogoutRules};
use postern_relay_core::provider::{Identity, ProviderRules, TokenFault, TokenKind, verify};
use std::time::Duration;

/// The provider as the relay sees it.
pub struct Provider {
    rules: ProviderRules,
    logout: LogoutRules,
    keys: KeySet,
}

impl Provider {
    /// For this configuration. Nothing is fetched yet.
    pub fn new(config: &ProviderConfig) -> Result<Self, Problem> {
        let rules = ProviderRules {
            issuer: config.issuer_text.clone(),
            client_id: config.client_id.clone(),
            resource: config.resource.clone(),
            groups_claim: config.groups_claim.clone(),
            max_age: config.token_max_age,
        };
        let logout = LogoutRules {
            issuer: config.issuer_text.clone(),
            client_id: config.client_id.clone(),
            untyped: config.backchannel_logout_untyped,
        };
        let fetcher = Fetcher::of_issuer(config.issuer.clone(), config.issuer_text.clone());
        Ok(Self { rules, logout, keys: KeySet::new(fetcher.map_err(|error| keys::no_client(&error))?) })
    }

    /// Verifies a token of the provider that was issued at most `max_age` ago.
    pub async fn verify(
        &self,
        token: &str,
        kind: TokenKind,
        max_age: Duration,
        now: Timestamp,
    ) -> Result<Identity, Problem> {
        let rules = ProviderRules { max_age, ..self.rules.clone() };
        let verified = self.keys.verify(now, is_unknown, |jwks| verify(token, kind, jwks, &rules, now)).await?;
        verified.map_err(|fault| refused(&fault))
    }

    /// Verifies a logout token of the provider.
    pub async fn verify_logout(&self, token: &str, now: Timestamp) -> Result<Logout, Problem> {
        let verified = self.keys.verify(now, is_unknown, |jwks| logout::verify(token, jwks, &self.logout, now)).await?;
        verified.map_err(|fault| Problem::new(Code::LogoutTokenInvalid).detail(fault.to_string()))
    }

    /// How long a token may take to renew a session.
    pub fn token_max_age(&self) -> Duration {
        self.rules.max_age
    }

    /// Keeps the keys fresh until the future is dropped. Says when the provider goes out of reach and comes back.
    pub async fn keep_fresh(&self, clock: &crate::clock::Clock) {
        self.keys.keep_fresh(clock, &self.rules.issuer, "nobody can sign in until they can").await;
    }
}

fn is_unknown(fault: &TokenFault) -> bool {
    *fault == TokenFault::UnknownKey
}

fn refused(fault: &TokenFault) -> Problem {
    let code = match fault {
        TokenFault::Stale(_) => Code::IdentityTokenStale,
        TokenFault::UnknownKey | TokenFault::Invalid(_) => Code::IdentityTokenInvalid,
    };
    Problem::new(code).detail(fault.to_string())
}

#[cfg(test)]
mod tests;
