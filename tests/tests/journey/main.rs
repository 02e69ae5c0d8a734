//! What people do with Postern, from end to end: real relay and agent, a real OpenID provider, a real keyring, real
//! nginx and PostgreSQL behind the relay.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    reason = "tests: an expectation that fails is a test that fails"
)]

mod back_channel;
mod denials;
mod desk;
mod doctor;
mod events;
mod freshness;
mod hold;
mod lapse;
mod machines;
mod other_sign_ins;
mod posture;
mod prolong;
mod record;
mod revocation;
mod step_up;
mod step_up_elsewhere;
mod strength;
mod working_day;

use postern_tests::{Agent, App, Browser, Keyring, Provider, Relay, Settings, Upstream, World};

/// One person's surroundings: provider, keyring, a relay with the apps `wiki` (HTTP), `echo` (TCP) and `vault`
/// (denied), and an agent.
struct Office {
    agent: Agent,
    relay: Relay,
    wiki: Upstream,
    _vault: Upstream,
    echo: Upstream,
    provider: Provider,
    keyring: Keyring,
    world: World,
}

impl Office {
    async fn open() -> Self {
        Self::with(|settings| settings).await
    }

    async fn with(change: impl FnOnce(Settings) -> Settings) -> Self {
        let world = World::new();
        let provider = Provider::start(&world).await;
        let keyring = Keyring::unlocked(&world).await;
        let (wiki, vault, echo) = (Upstream::plain().await, Upstream::plain().await, Upstream::echo().await);
        let settings = Settings::new(&provider.issuer)
            .app(App::http("wiki", wiki.address))
            .app(App::http("vault", vault.address).denied())
            .app(App::tcp("echo", echo.address));
        let relay = Relay::start(&world, change(settings)).await;
        let agent = Agent::start(&world, "agent", Some(&keyring)).await;
        Self { agent, relay, wiki, _vault: vault, echo, provider, keyring, world }
    }

    /// Signs `ada` in.
    async fn sign_in(&self) {
        self.agent.login(&self.relay, &mut Browser::of("ada")).await;
    }
}
