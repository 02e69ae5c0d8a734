//! The abuse cases, each tried on the real relay or agent. The id of a case stands in the doc comment and the name of
//! the test that proves it.
//!
//! Where an OpenID provider has to misbehave or to sign what no provider would, a stand-in takes its place; the
//! journeys use a real one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    reason = "tests: an expectation that fails is a test that fails"
)]

mod enrolment;
mod issuer;
mod lapse;
mod local;
mod page;
mod parsers;
mod posture;
mod refresh;
mod requests;
mod session;
mod sign_in;
mod signals;
mod smuggling;
mod tokens;
mod transport;

use postern_tests::quic::Quic;
use postern_tests::{App, Device, Relay, Settings, StandIn, Upstream, World};

/// A relay with a stand-in provider and one HTTP app, `wiki`, that staff may use.
struct Site {
    relay: Relay,
    wiki: Upstream,
    provider: StandIn,
    world: World,
}

impl Site {
    async fn new() -> Self {
        Self::with(|settings| settings).await
    }

    async fn with(change: impl FnOnce(Settings) -> Settings) -> Self {
        let world = World::new();
        let provider = StandIn::start().await;
        let wiki = Upstream::plain().await;
        let settings = Settings::new(&provider.issuer).app(App::http("wiki", wiki.address));
        let relay = Relay::start(&world, change(settings)).await;
        Self { relay, wiki, provider, world }
    }

    /// A device of `subject`, signed in and connected.
    async fn signed_in(&self, subject: &str) -> (Device, Quic) {
        Device::signed_in(&self.relay, &self.provider, subject).await
    }

    /// Nothing panicked, and the relay still does its work.
    async fn is_sound(&mut self) {
        assert!(self.relay.runs(), "the relay ended");
        for (name, text) in self.world.all_logs() {
            assert!(!text.contains("panicked"), "{name}: {text}");
        }
        let (device, quic) = self.signed_in("sound").await;
        assert_eq!(device.get(&quic, "wiki", "/").await.status, 200);
    }
}
