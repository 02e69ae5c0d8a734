//! From a checked configuration and its keys to the state that request handlers share.

use crate::audit_log::{AuditFileError, AuditLog};
use crate::ca::Embedded;
use crate::clock::Clock;
use crate::config::Config;
use crate::identity_header::Assertions;
use crate::keys::{Authority, Keys};
use crate::provider::Provider;
use crate::signals::Transmitter;
use crate::state::{Limiters, Relay, posture_map, token_cache};
use crate::store::{Store, StoreError};
use crate::{events, streams, upstream};
use arc_swap::ArcSwap;
use governor::{DefaultKeyedRateLimiter, Quota};
use postern_protocol::{Code, Problem};
use postern_relay_core::access::Snapshot;
use postern_relay_core::audit::CheckpointSigner;
use postern_relay_core::identity::AssertionSigner;
use postern_relay_core::token::{TokenRules, TokenSigner};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Name of the store in the state directory.
pub const STORE: &str = "postern.db";

/// Opens store and audit log and puts the relay together. `issuer` is its public address without a slash at the
/// end. The state directory must exist. Returned beside it: the authority of its server certificates.
pub async fn assemble(config: Config, keys: Keys, issuer: String) -> Result<(Arc<Relay>, Authority), Problem> {
    let clock = Clock::new();
    let path = config.state_dir.join(STORE);
    let unusable =
        |error: StoreError| Problem::new(Code::StoreUnavailable).detail(format!("{}: {error}", path.display()));
    let store = Store::open(&path).await.map_err(unusable)?;
    let revocations = store.revocations(clock.now()).await.map_err(unusable)?;
    let remembered = store.checkpoint().await.map_err(unusable)?;
    let key = |error: &dyn std::fmt::Display| Problem::new(Code::ConfigInvalid).detail(error.to_string());
    let checkpoints = CheckpointSigner::from_pkcs8(&keys.audit).map_err(|error| key(&error))?;
    let unwritable = |error: AuditFileError| Problem::new(Code::AuditUnavailable).detail(error.to_string());
    let audit =
        AuditLog::open(&config.audit_file, checkpoints, remembered.as_ref(), clock.clone()).map_err(unwritable)?;
    let rules = TokenRules { issuer: issuer.clone(), audience: format!("urn:postern:{}", config.trust_domain) };
    let signer = TokenSigner::from_pkcs8(&keys.session, rules).map_err(|error| key(&error))?;
    let assertions = AssertionSigner::from_pkcs8(&keys.identity, issuer.clone()).map_err(|error| key(&error))?;
    let provider = &config.provider.issuer_text;
    let transmitters =
        config.signals.iter().map(|signals| Transmitter::new(signals, provider)).collect::<Result<_, _>>()?;
    let limits = &config.limits;
    let relay = Relay {
        issuer,
        snapshot: ArcSwap::from_pointee(Snapshot {
            revocations: Arc::new(revocations),
            policy: config.policy.clone(),
            posture_max_age: Some(config.posture_max_age),
            generation: 0,
        }),
        changes: tokio::sync::Mutex::default(),
        sessions: token_cache(config.token_lifetime),
        verifier: signer.verifier(),
        signer,
        assertions: Assertions::new(assertions),
        store,
        audit,
        postures: posture_map(config.posture_max_age),
        streams: streams::Registry::new(),
        events: events::Hub::new(),
        limiter: DefaultKeyedRateLimiter::keyed(
            Quota::per_second(limits.requests_per_second).allow_burst(limits.burst),
        ),
        limiters: Limiters::new(limits),
        upstreams: upstream::Pool::new(),
        provider: Provider::new(&config.provider)?,
        transmitters,
        ca: Arc::new(Embedded::new(keys.device_ca, config.trust_domain.clone(), config.certificate_lifetime)),
        clock,
        draining: CancellationToken::new(),
        config,
    };
    Ok((Arc::new(relay), keys.server_ca))
}
