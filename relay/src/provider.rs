//! The OpenID provider's keys: fetched under strict rules, kept for a bounded time, refreshed at most now and then.

mod fetch;

use crate::config::ProviderConfig;
use arc_swap::ArcSwapOption;
use fetch::{FetchError, Fetcher};
use postern_protocol::{Code, Problem, Timestamp};
use postern_relay_core::provider::{Identity, Jwks, ProviderRules, TokenFault, TokenKind, verify};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Between two refreshes at least this passes, however many tokens name keys that are not known.
const BETWEEN: Duration = Duration::from_secs(30);
/// While no keys are known at all, the next attempt follows sooner.
const BETWEEN_WITHOUT_KEYS: Duration = Duration::from_secs(2);
/// The keys are fetched anew this often without being asked for.
const REFRESH: Duration = Duration::from_secs(600);
/// With a provider out of reach, keys count for this long after they were fetched, and no longer.
const LEASE: Duration = Duration::from_secs(3600);

/// The provider as the relay sees it.
pub struct Provider {
    rules: ProviderRules,
    fetcher: Fetcher,
    keys: ArcSwapOption<Fetched>,
    /// When the last attempt to fetch began; held while one is under way, so that there is only one.
    attempt: Mutex<Option<Timestamp>>,
}

/// A key set and when it came.
struct Fetched {
    jwks: Jwks,
    at: Timestamp,
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
        let fetcher = Fetcher::new(config).map_err(|error| Problem::new(Code::Internal).detail(error.to_string()))?;
        Ok(Self { rules, fetcher, keys: ArcSwapOption::empty(), attempt: Mutex::new(None) })
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
        let keys = self.current(now).await?;
        match verify(token, kind, &keys.jwks, &rules, now) {
            Err(TokenFault::UnknownKey) => {
                // The provider may have rotated its keys; the token's own idea of where keys are is never asked.
                let keys = self.newer_than(keys.at, now).await;
                let again =
                    keys.ok_or(TokenFault::UnknownKey).and_then(|keys| verify(token, kind, &keys.jwks, &rules, now));
                again.map_err(|fault| refused(&fault))
            }
            result => result.map_err(|fault| refused(&fault)),
        }
    }

    /// How long a token may take to renew a session.
    pub fn token_max_age(&self) -> Duration {
        self.rules.max_age
    }

    /// Keeps the keys fresh until the future is dropped. Says when the provider goes out of reach and comes back.
    pub async fn keep_fresh(&self, clock: &crate::clock::Clock) {
        let mut reachable = None;
        loop {
            let result = self.refresh(clock.now()).await;
            match (&result, reachable) {
                (Ok(true), None | Some(false)) => {
                    tracing::info!(issuer = %self.rules.issuer, "the provider's keys are here");
                }
                (Err(error), None | Some(true)) => tracing::warn!(
                    issuer = %self.rules.issuer, %error,
                    "the provider's keys cannot be fetched; nobody can sign in until they can"
                ),
                _ => {}
            }
            reachable = match result {
                Ok(true) => Some(true),
                Ok(false) => reachable,
                Err(_) => Some(false),
            };
            tokio::time::sleep(if matches!(result, Ok(true)) { REFRESH } else { BETWEEN_WITHOUT_KEYS * 5 }).await;
        }
    }

    /// Keys within their lease, fetched if there are none.
    async fn current(&self, now: Timestamp) -> Result<Arc<Fetched>, Problem> {
        if let Some(keys) = self.live(now) {
            return Ok(keys);
        }
        let fetched = self.refresh(now).await;
        self.live(now).ok_or_else(|| {
            if let Err(error) = fetched {
                tracing::warn!(%error, "the provider's keys cannot be fetched");
            }
            Problem::new(Code::ProviderUnreachable)
        })
    }

    fn live(&self, now: Timestamp) -> Option<Arc<Fetched>> {
        self.keys.load_full().filter(|keys| now.since(keys.at) <= LEASE)
    }

    /// A key set fetched after `known`, if one may and can be had.
    async fn newer_than(&self, known: Timestamp, now: Timestamp) -> Option<Arc<Fetched>> {
        if let Err(error) = self.refresh(now).await {
            tracing::warn!(%error, "the provider's keys cannot be fetched");
        }
        self.live(now).filter(|keys| keys.at > known)
    }

    /// Fetches the keys unless that was tried just now (false). One caller fetches, the others wait for it.
    async fn refresh(&self, now: Timestamp) -> Result<bool, FetchError> {
        let mut attempt = self.attempt.lock().await;
        let pause = if self.live(now).is_some() { BETWEEN } else { BETWEEN_WITHOUT_KEYS };
        if attempt.is_some_and(|last| now.since(last) < pause) {
            return Ok(false);
        }
        *attempt = Some(now);
        let jwks = self.fetcher.jwks().await?;
        self.keys.store(Some(Arc::new(Fetched { jwks, at: now })));
        Ok(true)
    }
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
