//! A record as it is read back: to explain a decision, and to put it before another policy.

use super::context::Context;
use super::record::{Event, Outcome, from_text};
use crate::access::{Action, PostureReport, Request, Supposed};
use crate::principal::PrincipalKey;
use postern_protocol::{Code, DecisionId, DeviceId, SessionId, StepUp, Timestamp};
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;

/// What a line of the log says of a decision. The chain is not looked at here: `verify` does that.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    /// When.
    #[serde(deserialize_with = "from_text")]
    pub time: Option<Timestamp>,
    /// What.
    pub event: Event,
    /// How it ended.
    #[serde(default)]
    pub result: Option<Outcome>,
    /// Why not: the true cause.
    #[serde(default)]
    pub code: Option<Code>,
    /// The decision.
    #[serde(default)]
    pub decision: Option<DecisionId>,
    /// Who.
    #[serde(default)]
    pub principal: Option<PrincipalKey>,
    /// On which device.
    #[serde(default)]
    pub device: Option<DeviceId>,
    /// In which session.
    #[serde(default)]
    pub session: Option<SessionId>,
    /// The app asked for.
    #[serde(default)]
    pub app: Option<String>,
    /// `request` or `connect`.
    #[serde(default)]
    pub action: Option<String>,
    /// The HTTP method.
    #[serde(default)]
    pub method: Option<String>,
    /// The path.
    #[serde(default)]
    pub path: Option<String>,
    /// The port of `CONNECT`.
    #[serde(default)]
    pub port: Option<u16>,
    /// The authority the request named.
    #[serde(default)]
    pub host: Option<String>,
    /// Where the connection came from.
    #[serde(default)]
    pub source: Option<IpAddr>,
    /// The determining policies by `@id`.
    #[serde(default)]
    pub policies: Vec<String>,
    /// The sign-in that was asked for.
    #[serde(default)]
    pub step_up: Option<StepUp>,
    /// How many live streams it was a re-check of; absent: a request.
    #[serde(default)]
    pub streams: Option<usize>,
    /// What the decision read.
    #[serde(default)]
    pub context: Option<Context>,
    /// What else was noted.
    #[serde(default)]
    pub detail: Option<String>,
}

/// A past decision, ready to be judged anew.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Who asked.
    pub who: Supposed,
    /// For what.
    pub request: Request,
    /// When.
    pub at: Timestamp,
}

impl Entry {
    /// Reads a line. `None`: it is no record of this version.
    pub fn read(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }

    /// The decision's whole input; or why the record does not have it.
    pub fn replay(&self) -> Result<Replay, &'static str> {
        let context = self
            .context
            .as_ref()
            .ok_or("the record has no context: it is of an older relay, or of a request without a good session")?;
        let cut =
            [&self.method, &self.path, &self.host].into_iter().flatten().any(|text| text.ends_with(super::record::CUT));
        if cut || context.groups_cut > 0 {
            return Err("the record was cut to size");
        }
        const INCOMPLETE: &str = "the record is not of a decision on an app";
        let action = match (self.action.as_deref(), self.port) {
            (Some("connect"), Some(port)) => Action::Connect { port },
            (Some("request"), _) => Action::Request {
                method: self.method.clone().ok_or(INCOMPLETE)?,
                path: self.path.clone().ok_or(INCOMPLETE)?,
            },
            _ => return Err(INCOMPLETE),
        };
        let report = context.posture.clone().zip(context.posture_at);
        let request = Request {
            id: self.decision.clone().ok_or(INCOMPLETE)?,
            app: self.app.as_deref().and_then(|app| app.parse().ok()).ok_or(INCOMPLETE)?,
            action,
            host: self.host.clone().unwrap_or_default(),
            source: self.source.ok_or(INCOMPLETE)?,
            within_rate: true,
            posture: report.map(|(posture, at)| Arc::new(PostureReport { posture, at })),
        };
        let who = Supposed {
            principal: self.principal.clone().ok_or(INCOMPLETE)?,
            groups: context.groups.clone(),
            device: self.device.clone().ok_or(INCOMPLETE)?,
            acr: context.acr.clone(),
            amr: context.amr.clone(),
            auth_time: context.auth_time,
        };
        Ok(Replay { who, request, at: self.time.ok_or(INCOMPLETE)? })
    }
}
