//! What every request handler of one running relay shares.

use crate::audit_log::AuditLog;
use crate::ca::CertificateAuthority;
use crate::clock::Clock;
use crate::config::{Config, Limits};
use crate::provider::Provider;
use crate::store::Store;
use crate::{events, identity_header, streams, upstream};
use arc_swap::ArcSwap;
use governor::{DefaultKeyedRateLimiter, Quota};
use postern_protocol::{DeviceId, SessionId};
use postern_relay_core::access::{PostureReport, Snapshot};
use postern_relay_core::token::{TokenSigner, TokenVerifier, VerifiedSession};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
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
    /// Held while a new snapshot is made from the old one, so that no change is lost.
    pub changes: tokio::sync::Mutex<()>,
    /// Session tokens seen.
    pub sessions: TokenCache,
    /// Verifies session tokens.
    pub verifier: TokenVerifier,
    /// Makes session tokens.
    pub signer: TokenSigner,
    /// Makes identity assertions for upstreams.
    pub assertions: identity_header::Assertions,
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
    /// Everything else that is counted.
    pub limiters: Limiters,
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

/// Limits beside that on a session's requests.
pub struct Limiters {
    /// Control messages with a body, per device: each may cost a signature check.
    pub control: DefaultKeyedRateLimiter<DeviceId>,
    /// Enrolments, per network.
    pub enrolments: DefaultKeyedRateLimiter<IpAddr>,
    /// Other requests of the public listener, per network.
    pub public: DefaultKeyedRateLimiter<IpAddr>,
}

impl Limiters {
    /// Nothing counted yet.
    pub fn new(limits: &Limits) -> Self {
        const CONTROL: NonZeroU32 = NonZeroU32::new(20).unwrap();
        const PUBLIC: NonZeroU32 = NonZeroU32::new(200).unwrap();
        Self {
            control: DefaultKeyedRateLimiter::keyed(Quota::per_second(CONTROL)),
            enrolments: DefaultKeyedRateLimiter::keyed(Quota::per_minute(limits.enrolments_per_minute)),
            public: DefaultKeyedRateLimiter::keyed(Quota::per_second(PUBLIC)),
        }
    }

    /// Forgets whoever was quiet.
    pub fn tidy(&self) {
        self.control.retain_recent();
        self.enrolments.retain_recent();
        self.public.retain_recent();
    }
}

/// Whom a limit per address counts together: an IPv4 address; of IPv6 the /64 that one customer has.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_customer_counts_as_one() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2:ffff::"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
