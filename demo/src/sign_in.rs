//! `postern login`, begun: the address to open is known, the person has not come back yet.

use crate::failure::Failure;
use crate::process::{Process, run};
use crate::stage::Scene;
use postern_protocol::local::{LocalApps, Status};

/// A sign-in under way.
pub(crate) struct SignIn {
    /// The address to open in a browser.
    pub(crate) url: String,
    /// Ends when the agent is online.
    pub(crate) process: Process,
}

impl SignIn {
    pub(crate) async fn begin(scene: &Scene) -> Result<Self, Failure> {
        let mut command = scene.postern(&["login", &scene.address, "--no-browser"]);
        command.arg("--ca").arg(&scene.authority);
        if !scene.keyring {
            command.arg("--memory-only");
        }
        let mut process = Process::start("postern login", &mut command, scene.log("login"))?;
        let url = process.line("the address to open").await?;
        Ok(Self { url, process })
    }
}

/// `postern status --json`.
pub(crate) async fn status(scene: &Scene) -> Result<Status, Failure> {
    json(scene, "status").await
}

/// `postern apps --json`.
pub(crate) async fn apps(scene: &Scene) -> Result<LocalApps, Failure> {
    json(scene, "apps").await
}

async fn json<T: serde::de::DeserializeOwned>(scene: &Scene, command: &str) -> Result<T, Failure> {
    let what = format!("postern {command} --json");
    let text = run(&mut scene.postern(&[command, "--json"]), b"").await?.ok(&what)?;
    serde_json::from_str(&text).map_err(|error| Failure::new(format!("{what}: {error}: {text}")))
}
