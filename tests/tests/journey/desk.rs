//! Someone at a desk, whom policies ask to sign in once more: the pages that the agent opens are the test's to see.

use postern_tests::world::set_mode;
use postern_tests::{Agent, App, Browser, Provider, Relay, Reply, Settings, Upstream, World, eventually};
use serde_json::Value;
use std::sync::Arc;
use tokio::task::JoinHandle;
use url::Url;

/// An agent with secrets in memory, and the apps `wiki` (HTTP), and, in the group that policies keep closed, `vault` (HTTP)
/// and `safe` (TCP).
pub(crate) struct Desk {
    pub(crate) agent: Arc<Agent>,
    pub(crate) relay: Relay,
    pub(crate) provider: Provider,
    /// Those of `wiki`, `vault` and `safe`.
    pub(crate) upstreams: [Upstream; 3],
    pub(crate) world: World,
}

impl Desk {
    /// Nobody is signed in yet. Without a browser the agent finds a program that cannot open one.
    pub(crate) async fn new(with_browser: bool, provider: Value, change: impl FnOnce(Settings) -> Settings) -> Self {
        let world = World::new();
        let provider = Provider::start_with(&world, provider).await;
        let upstreams = [Upstream::plain().await, Upstream::plain().await, Upstream::echo().await];
        let settings = Settings::new(&provider.issuer)
            .app(App::http("wiki", upstreams[0].address))
            .app(App::http("vault", upstreams[1].address).denied())
            .app(App::tcp("safe", upstreams[2].address).denied());
        let relay = Relay::start(&world, change(settings)).await;
        let status = i32::from(!with_browser);
        let script = format!("#!/bin/sh\nprintf '%s\\n' \"$1\" >> {}\nexit {status}\n", world.path("opened").display());
        let bin = world.directory("bin");
        set_mode(&world.file("bin/xdg-open", script), 0o755);
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let agent = Agent::start_with(&world, "agent", None, "", &[("PATH", path.as_str())]).await;
        Self { agent: Arc::new(agent), relay, provider, upstreams, world }
    }

    /// Signs in, with the agent that `postern login` speaks to.
    pub(crate) async fn sign_in(&self, browser: &mut Browser) {
        self.agent.login_with(&self.relay, browser, &["--memory-only"]).await.ok();
    }

    /// Asks for an app, and does not wait for the answer.
    pub(crate) fn ask(&self, app: &'static str) -> JoinHandle<Reply> {
        let agent = Arc::clone(&self.agent);
        tokio::spawn(async move { agent.get(app, "/").await })
    }

    /// The `n`th address that the agent opened in the browser.
    pub(crate) async fn opened(&self, n: usize) -> String {
        eventually("the browser is opened", async || self.all_opened().into_iter().nth(n - 1)).await
    }

    /// Every address that it opened so far.
    pub(crate) fn all_opened(&self) -> Vec<String> {
        let opened = std::fs::read_to_string(self.world.path("opened")).unwrap_or_default();
        opened.lines().map(str::to_owned).collect()
    }

    /// The session's id.
    pub(crate) async fn session(&self) -> Value {
        self.agent.status().await["session"]["id"].clone()
    }
}

/// A parameter of an address.
pub(crate) fn parameter(url: &str, name: &str) -> Option<String> {
    let url: Url = url.parse().unwrap();
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
