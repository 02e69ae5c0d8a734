//! `postern login`, begun: the address to open is known, the person has not come back yet.

use crate::browser::Browser;
use crate::failure::{Because as _, Failure, within};
use crate::process::{Process, run};
use crate::stage::Scene;
use postern_protocol::local::{LocalApp, LocalApps, Status};
use std::time::Duration;

/// A sign-in under way.
pub(crate) struct SignIn {
    /// The address to open in a browser.
    pub(crate) url: String,
    /// Ends when the agent is online.
    pub(crate) process: Process,
}

/// The person who signs in where nobody is there to do it.
pub(crate) const USER: &str = "ada";
const PASSWORD: &str = "lovelace";
/// How long the end of a sign-in may take.
const PATIENCE: Duration = Duration::from_secs(30);

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

    /// Signs in as [`USER`] without a person; the way the browser went.
    pub(crate) async fn by_itself(scene: &Scene) -> Result<Vec<String>, Failure> {
        let mut login = Self::begin(scene).await?;
        let mut browser = Browser::new()?;
        browser.sign_in(&login.url, USER, PASSWORD).await?;
        within(PATIENCE, "postern login to end", login.process.finish()).await??;
        Ok(browser.way)
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

/// One of them.
pub(crate) async fn app(scene: &Scene, name: &str) -> Result<LocalApp, Failure> {
    let found = apps(scene).await?.apps.into_iter().find(|app| app.entry.name.as_str() == name);
    found.because(format!("postern apps shows no {name}"))
}

async fn json<T: serde::de::DeserializeOwned>(scene: &Scene, command: &str) -> Result<T, Failure> {
    let what = format!("postern {command} --json");
    let text = run(&mut scene.postern(&[command, "--json"]), b"").await?.ok(&what)?;
    serde_json::from_str(&text).map_err(|error| Failure::new(format!("{what}: {error}: {text}")))
}
