//! The calls that examine the agent, and gather what an administrator needs.

use super::{Api, LocalApi, Refusal, json, line, lines};
use crate::bundle::Bundle;
use crate::doctor;
use axum::extract::State;
use axum::response::Response;
use futures_util::stream;
use postern_protocol::control::AppKind;
use postern_protocol::local::{Finding, LocalApp, Settings};
use postern_protocol::{Code, Problem, Timestamp};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::mpsc;

pub(super) async fn doctor(State(api): Api) -> Result<Response, Refusal> {
    let findings = api.examine().await?;
    Ok(lines(stream::unfold((findings, api), |(mut findings, api)| async move {
        let finding = tokio::select! {
            finding = findings.recv() => finding?,
            () = api.stop.cancelled() => return None,
        };
        Some((line(&finding), (findings, api)))
    })))
}

pub(super) async fn bundle(State(api): Api) -> Result<Response, Refusal> {
    let mut findings = Vec::new();
    let mut told = api.examine().await?;
    while let Some(finding) = told.recv().await {
        findings.push(finding);
    }
    let bundle = Bundle {
        version: env!("CARGO_PKG_VERSION"),
        os: std::env::consts::OS,
        made: Timestamp::default().plus(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
        findings,
        status: Some(api.engine.status()),
        apps: api.listeners.apps().to_vec(),
        settings: Some(api.ports_in_use()),
        refusals: api.access.uplink().denials().newest_first(),
        log: api.log.lines().lines,
    };
    Ok(json(&bundle.redacted()))
}

impl LocalApi {
    /// The local ports as they are, wherever they were set.
    fn ports_in_use(&self) -> Settings {
        let apps = self.listeners.apps();
        let port = |app: &LocalApp| {
            let port = app.local.rsplit(':').next()?.parse().ok()?;
            (app.entry.kind == AppKind::Tcp).then(|| (app.entry.name.clone(), port))
        };
        Settings {
            http_port: self.listeners.http_port(),
            ports: apps.iter().filter_map(port).collect(),
            fixed: Vec::new(),
        }
    }

    async fn examine(self: &Arc<Self>) -> Result<mpsc::Receiver<Finding>, Problem> {
        let busy = |_| Problem::new(Code::RateLimited).detail("an examination is under way");
        let permit = Arc::clone(&self.examining).try_acquire_owned().map_err(busy)?;
        let mut patient = self.engine.patient().await?;
        patient.apps = self.listeners.apps().to_vec();
        patient.http_port = Some(self.listeners.http_port());
        Ok(doctor::examine(patient, permit))
    }
}
