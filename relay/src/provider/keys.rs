//! A key set that is fetched under strict rules, kept for a bounded time, and refreshed at most now and then.

use super::fetch::{FetchError, Fetcher};
use crate::clock::Clock;
use arc_swap::ArcSwapOption;
use postern_protocol::{Code, Problem, Timestamp};
use postern_relay_core::provider::Jwks;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use url::Url;

/// Between two refreshes at least this passes, however many tokens name keys that are not known.
pub(super) const BETWEEN: Duration = Duration::from_secs(30);
/// While no keys are known at all, the next attempt follows sooner.
pub(super) const BETWEEN_WITHOUT_KEYS: Duration = Duration::from_secs(2);
/// The keys are fetched anew this often without being asked for.
const REFRESH: Duration = Duration::from_secs(600);
/// With an issuer out of reach, keys count for this long after they were fetched, and no longer.
pub(super) const LEASE: Duration = Duration::from_secs(3600);

/// The keys of one issuer of tokens or events.
pub struct KeySet {
    fetcher: Fetcher,
    newest: ArcSwapOption<Fetched>,
    /// When the last attempt to fetch began; held while one is under way, so that there is only one.
    attempt: Mutex<Option<Timestamp>>,
}

/// A key set and when it came.
pub(super) struct Fetched {
    jwks: Jwks,
    at: Timestamp,
}

pub(super) fn no_client(error: &FetchError) -> Problem {
    Problem::new(Code::Internal).detail(error.to_string())
}

impl KeySet {
    /// Nothing is fetched yet.
    pub(super) fn new(fetcher: Fetcher) -> Self {
        Self { fetcher, newest: ArcSwapOption::empty(), attempt: Mutex::new(None) }
    }

    /// The key set at this address, which the administrator named.
    pub fn at(address: Url) -> Result<Self, Problem> {
        Fetcher::of_key_set(address).map(Self::new).map_err(|error| no_client(&error))
    }

    /// Verifies by `verify` with the newest keys; once more with newer ones where its error is `unknown_key`. The outer
    /// error: there are no keys.
    pub async fn verify<T, E>(
        &self,
        now: Timestamp,
        unknown_key: impl Fn(&E) -> bool,
        verify: impl Fn(&Jwks) -> Result<T, E>,
    ) -> Result<Result<T, E>, Problem> {
        self.verify_twice(now, unknown_key, verify).await.map(|(result, _)| result)
    }

    /// The same, but while the newest keys may not be had, an unknown key is an outer error that asks to try again: for
    /// tokens whose issuer takes a refusal for final.
    pub async fn verify_or_later<T, E>(
        &self,
        now: Timestamp,
        unknown_key: impl Fn(&E) -> bool,
        verify: impl Fn(&Jwks) -> Result<T, E>,
    ) -> Result<Result<T, E>, Problem> {
        match self.verify_twice(now, &unknown_key, verify).await? {
            (Err(fault), false) if unknown_key(&fault) => Err(Problem::new(Code::RateLimited)
                .detail("the signature's key is not known, and keys are fetched only now and then: try again")),
            (result, _) => Ok(result),
        }
    }

    /// The result, and whether keys were fetched for it.
    async fn verify_twice<T, E>(
        &self,
        now: Timestamp,
        unknown_key: impl Fn(&E) -> bool,
        verify: impl Fn(&Jwks) -> Result<T, E>,
    ) -> Result<(Result<T, E>, bool), Problem> {
        let keys = self.current(now).await?;
        match verify(&keys.jwks) {
            // The issuer may have rotated its keys; the token's own idea of where keys are is never asked.
            Err(fault) if unknown_key(&fault) => match self.newer_than(keys.at, now).await {
                Some(keys) => Ok((verify(&keys.jwks), true)),
                None => Ok((Err(fault), false)),
            },
            result => Ok((result, false)),
        }
    }

    /// Keeps the keys fresh until the future is dropped. Says when the issuer goes out of reach, what that means, and
    /// when it comes back.
    pub async fn keep_fresh(&self, clock: &Clock, issuer: &str, meanwhile: &str) {
        let mut reachable = None;
        loop {
            let result = self.refresh(clock.now()).await;
            match (&result, reachable) {
                (Ok(true), None | Some(false)) => tracing::info!(issuer, "the issuer's keys are here"),
                (Err(error), None | Some(true)) => {
                    tracing::warn!(issuer, %error, meanwhile, "the issuer's keys cannot be fetched");
                }
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
    pub(super) async fn current(&self, now: Timestamp) -> Result<Arc<Fetched>, Problem> {
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
        self.newest.load_full().filter(|keys| now.since(keys.at) <= LEASE)
    }

    /// A key set fetched after `known`, if one may and can be had.
    async fn newer_than(&self, known: Timestamp, now: Timestamp) -> Option<Arc<Fetched>> {
        if let Err(error) = self.refresh(now).await {
            tracing::warn!(%error, "the provider's keys cannot be fetched");
        }
        self.live(now).filter(|keys| keys.at > known)
    }

    /// Fetches the keys unless that was tried just now (false). One caller fetches, the others wait for it.
    pub(super) async fn refresh(&self, now: Timestamp) -> Result<bool, FetchError> {
        let mut attempt = self.attempt.lock().await;
        let pause = if self.live(now).is_some() { BETWEEN } else { BETWEEN_WITHOUT_KEYS };
        if attempt.is_some_and(|last| now.since(last) < pause) {
            return Ok(false);
        }
        *attempt = Some(now);
        let jwks = self.fetcher.jwks().await?;
        self.newest.store(Some(Arc::new(Fetched { jwks, at: now })));
        Ok(true)
    }
}
