//! The real OpenID provider: npm's `oidc-provider`, in its own process.

use crate::client::get;
use crate::process::{Process, bare_command, run};
use crate::relay::Relay;
use crate::world::World;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use url::Url;

/// A running provider. Any login name is an account there.
pub struct Provider {
    /// Its issuer.
    pub issuer: Url,
    process: Process,
}

/// The secret of its confidential client `ci-runner`.
pub const SERVICE_SECRET: &str = "ci-runner-secret-canary";

impl Provider {
    /// Starts one with the usual accounts: `ada` in the group `staff`, `eve` in `contractors`, anyone else in none.
    pub async fn start(world: &World) -> Self {
        Self::start_with(world, json!({})).await
    }

    /// The same with other settings of `provider.mjs`.
    pub async fn start_with(world: &World, mut settings: Value) -> Self {
        if settings.get("accounts").is_none() {
            settings["accounts"] = json!({
                "ada": {"name": "Ada Lovelace", "groups": ["staff"]},
                "eve": {"name": "Eve", "groups": ["contractors"]},
                "ci-runner": {"groups": ["staff"]},
            });
        }
        let node = installed().await;
        let mut command = bare_command("node");
        command.arg(node.join("provider.mjs")).arg(settings.to_string()).current_dir(&node);
        let mut process = Process::spawn("provider", &mut command, &world.logs());
        let ready = process.ready().await;
        Self { issuer: ready["issuer"].as_str().unwrap().parse().unwrap(), process }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.issuer.socket_addrs(|| None).unwrap()[0]
    }

    /// How often it was asked for what: `authorization`, `token`, `refresh`, `jwks`.
    pub async fn counts(&self) -> Value {
        self.harness("counts", &[]).await
    }

    /// Sets the claims of an account.
    pub async fn account(&self, user: &str, claims: Value) {
        self.harness("account", &[("user", user), ("claims", &claims.to_string())]).await;
    }

    /// Disables an account: what it has is worth nothing any more.
    pub async fn disable(&self, user: &str) {
        self.harness("disable", &[("user", user)]).await;
    }

    /// Tells it where the relay is that its back-channel logouts go to.
    pub async fn logs_out_at(&self, relay: &Relay) {
        let uri = format!("https://{}/backchannel-logout", relay.public);
        let ca = relay.authority_file();
        self.harness("relay", &[("uri", &uri), ("ca", ca.to_str().unwrap())]).await;
    }

    /// The logout tokens that it sent.
    pub async fn logout_tokens(&self) -> Vec<String> {
        serde_json::from_value(self.harness("logouts", &[]).await).unwrap()
    }

    /// The refresh token that an account was given last, as a thief would have it.
    pub async fn refresh_token(&self, user: &str) -> String {
        let told = self.harness("stolen", &[("user", user)]).await;
        told["refresh_token"].as_str().unwrap_or_else(|| panic!("{user} has no refresh token")).to_owned()
    }

    /// Ends the provider.
    pub async fn stop(&mut self) {
        self.process.kill().await;
    }

    async fn harness(&self, verb: &str, query: &[(&str, &str)]) -> Value {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        get(self.address(), self.issuer.authority(), &format!("/harness/{verb}?{query}")).await.json()
    }
}

/// The directory of the Node programs, with their packages installed from the lock file.
pub async fn installed() -> PathBuf {
    static INSTALL: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let node = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    let _one_at_a_time = INSTALL.lock().await;
    if !node.join("node_modules/oidc-provider").is_dir() {
        let mut npm = tokio::process::Command::new("npm");
        run(npm.args(["ci", "--silent", "--no-fund", "--no-audit"]).current_dir(&node)).await.ok();
    }
    node
}
