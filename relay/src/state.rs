//! What every request handler of one running relay shares.

use crate::audit_log::AuditLog;
use crate::ca::CertificateAuthority;
use crate::clock::Clock;
use crate::config::{Config, Limits};
use crate::provider::Provider;
use crate::signals::Transmitter;
use crate::store::Store;
use crate::{events, identity_header, streams, upstream};
use arc_swap::ArcSwap;
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota};
use postern_protocol::{Code, DeviceId, SessionId};
use postern_relay_core::access::{PostureReport, Snapshot};
use postern_relay_core::token::{TokenSigner, TokenVerifier, VerifiedSession};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// Held while store and snapshot are changed together, so that both know the same order. What a revocation does to
    /// decisions and streams never waits for it.
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
    /// Who may tell of security events.
    pub transmitters: Vec<Transmitter>,
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
    /// Logout tokens and security events, per network: one network tells of many people.
    pub told: DefaultKeyedRateLimiter<IpAddr>,
    /// Other requests of the public listener, per network.
    pub public: DefaultKeyedRateLimiter<IpAddr>,
    /// Session tokens not seen before, per device: each costs a signature check.
    pub tokens: DefaultKeyedRateLimiter<DeviceId>,
    /// Refusals that are recorded one by one.
    pub refusals: Refusals,
    /// Re-checks that came of time alone and said what the log has already, since the last summary.
    pub unchanged: AtomicU64,
}

/// How many refusals get a record of their own. Without a bound, whoever is refused could fill the disk, and a full
/// disk denies everybody. The others are counted, and the count is recorded.
pub struct Refusals {
    public: DefaultDirectRateLimiter,
    limited: DefaultKeyedRateLimiter<IpAddr>,
    devices: DefaultKeyedRateLimiter<DeviceId>,
    floods: DefaultKeyedRateLimiter<DeviceId>,
    unrecorded: AtomicU64,
}

impl Refusals {
    /// Is this refusal on the public listener to be recorded? If not, it is counted.
    pub fn record_public(&self, source: IpAddr, code: Code) -> bool {
        // A flood that is being limited says nothing new each time.
        let new = code != Code::RateLimited || self.limited.check_key(&network(source)).is_ok();
        self.count(new && self.public.check().is_ok())
    }

    /// Is this refusal on a device's connection to be recorded? If not, it is counted.
    pub fn record_of(&self, device: &DeviceId) -> bool {
        self.count(self.devices.check_key(device).is_ok())
    }

    /// Has this device so many refusals beyond those that are recorded that its connection should end?
    pub fn is_flood_of(&self, device: &DeviceId) -> bool {
        self.floods.check_key(device).is_err()
    }

    /// How many were not recorded since this was asked last.
    pub fn take_unrecorded(&self) -> u64 {
        self.unrecorded.swap(0, Ordering::Relaxed)
    }

    fn count(&self, record: bool) -> bool {
        if !record {
            self.unrecorded.fetch_add(1, Ordering::Relaxed);
        }
        record
    }
}

impl Limiters {
    /// Nothing counted yet.
    pub fn new(limits: &Limits) -> Self {
        const CONTROL: Quota = per_second(10, 100);
        const TOLD: Quota = per_second(50, 500);
        const PUBLIC: Quota = per_second(200, 200);
        const REFUSALS: Quota = per_second(50, 1000);
        const REFUSALS_OF_ONE: Quota = per_second(20, 200);
        const UNRECORDED_OF_ONE: Quota = per_second(200, 2000);
        const TOKENS: Quota = per_second(20, 200);
        const LIMITED: Quota = per_second(1, 1);
        Self {
            control: DefaultKeyedRateLimiter::keyed(CONTROL),
            enrolments: DefaultKeyedRateLimiter::keyed(Quota::per_minute(limits.enrolments_per_minute)),
            told: DefaultKeyedRateLimiter::keyed(TOLD),
            public: DefaultKeyedRateLimiter::keyed(PUBLIC),
            tokens: DefaultKeyedRateLimiter::keyed(TOKENS),
            refusals: Refusals {
                public: DefaultDirectRateLimiter::direct(REFUSALS),
                limited: DefaultKeyedRateLimiter::keyed(LIMITED),
                devices: DefaultKeyedRateLimiter::keyed(REFUSALS_OF_ONE),
                floods: DefaultKeyedRateLimiter::keyed(UNRECORDED_OF_ONE),
                unrecorded: AtomicU64::new(0),
            },
            unchanged: AtomicU64::new(0),
        }
    }

    /// Forgets whoever was quiet.
    pub fn tidy(&self) {
        self.control.retain_recent();
        self.enrolments.retain_recent();
        self.told.retain_recent();
        self.public.retain_recent();
        self.tokens.retain_recent();
        self.refusals.limited.retain_recent();
        self.refusals.devices.retain_recent();
        self.refusals.floods.retain_recent();
    }
}

const fn at_least_one(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

const fn per_second(rate: u32, burst: u32) -> Quota {
    Quota::per_second(at_least_one(rate)).allow_burst(at_least_one(burst))
}

/// Whom a limit per address counts together: an IPv4 address; of IPv6 the /64 that one customer has.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

/// How many postures are remembered; the oldest go first and cost a new report.
const POSTURES: u64 = 100_000;

/// About how many bytes of verified session tokens are remembered; the oldest go first and cost a re-check.
const TOKENS: u64 = 256 * 1024 * 1024;

/// An empty token cache: an entry outlives no token of `lifetime`.
pub fn token_cache(lifetime: Duration) -> TokenCache {
    // What a session holds beside its groups is of nearly constant size; groups stand there as text and as entities.
    let weight =
        |session: &VerifiedSession| 2048 + session.groups().iter().map(|group| 256 + 4 * group.len()).sum::<usize>();
    moka::sync::Cache::builder()
        .weigher(move |_, session: &Arc<VerifiedSession>| u32::try_from(weight(session)).unwrap_or(u32::MAX))
        .max_capacity(TOKENS)
        .time_to_live(lifetime)
        .build()
}

/// An empty posture map: a report is dropped long after it is stale.
pub fn posture_map(max_age: Duration) -> PostureMap {
    moka::sync::Cache::builder().max_capacity(POSTURES).time_to_live(max_age.saturating_mul(2)).build()
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
