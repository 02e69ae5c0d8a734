//! What every request handler of one running relay shares.

use crate::audit_log::AuditLog;
use crate::ca::CertificateAuthority;
use crate::clock::Clock;
use crate::config::Config;
use crate::provider::Provider;
use crate::store::Store;
use crate::{events, streams, upstream};
use arc_swap::ArcSwap;
use governor::DefaultKeyedRateLimiter;
use postern_protocol::SessionId;
use postern_relay_core::access::{PostureReport, Snapshot};
use postern_relay_core::identity::AssertionSigner;
use postern_relay_core::token::{TokenSigner, TokenVerifier, VerifiedSession};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Session tokens whose signature was found good, by SHA-256 of the token. Everything that can change is
/// checked again in each decision.
pub type TokenCache = moka::sync::Cache<[u8; 32], Arc<VerifiedSession>>;

/// The last posture each session reported.
pub type PostureMap = moka::sync::Cache<SessionId, Arc<PostureReport>>;

/// One running relay.
pub struct Relay {
    /// Its configuration, checked.
    pub config: Config,
    /// Its public address, `iss` of its tokens: `https://host:port`, no slash at the end.
    pub issuer: String,
    /// What decisions read: policy, apps, revocations. Swapped whole.
    pub snapshot: ArcSwap<Snapshot>,
    /// Session tokens seen.
    pub sessions: TokenCache,
    /// Verifies session tokens.
    pub verifier: TokenVerifier,
    /// Makes session tokens.
    pub signer: TokenSigner,
    /// Makes identity assertions for upstreams.
    pub assertions: AssertionSigner,
    /// Devices, sessions, revocations.
    pub store: Store,
    /// Where each decision is written before it takes effect.
    pub audit: AuditLog,
    /// The last posture each session reported.
    pub postures: PostureMap,
    /// Every live stream and its permit.
    pub streams: streams::Registry,
    /// Open `GET /events` answers.
    pub events: events::Hub,
    /// Requests per session.
    pub limiter: DefaultKeyedRateLimiter<SessionId>,
    /// Connections to the apps.
    pub upstreams: upstream::Pool,
    /// The OpenID provider's keys.
    pub provider: Provider,
    /// Issues device certificates.
    pub ca: Arc<dyn CertificateAuthority>,
    /// Time and randomness.
    pub clock: Clock,
    /// Cancelled once the relay begins to drain: no new work after that.
    pub draining: CancellationToken,
}

/// How many session tokens and postures are remembered; the oldest go first and cost a re-check or a new report.
const REMEMBERED: u64 = 100_000;

/// An empty token cache: an entry outlives no token of `lifetime`.
pub fn token_cache(lifetime: Duration) -> TokenCache {
    moka::sync::Cache::builder().max_capacity(REMEMBERED).time_to_live(lifetime).build()
}

/// An empty posture map: a report is dropped long after it is stale.
pub fn posture_map(max_age: Duration) -> PostureMap {
    moka::sync::Cache::builder().max_capacity(REMEMBERED).time_to_live(max_age.saturating_mul(2)).build()
}
