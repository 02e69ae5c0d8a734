//! What went through the agent lately, and what was refused.

use super::DenialKind;
use crate::id::{AppName, DecisionId};
use crate::problem::Problem;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// `GET /v1/activity`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Activity {
    /// The newest first; the agent keeps the last 500, in memory only.
    pub entries: Vec<ActivityEntry>,
}

/// One request, or one thing that happened to a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct ActivityEntry {
    /// Grows by one with each entry of this agent's life; names the entry.
    #[cfg_attr(test, ts(type = "number"))]
    pub number: u64,
    /// When it began, by the device's clock.
    pub at: Timestamp,
    /// The app asked for.
    pub app: AppName,
    /// What it is.
    pub kind: ActivityKind,
    /// The HTTP method, of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The path of a request, without its query, shortened to 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The status that the app answered a request with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Milliseconds until the answer began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u32>,
    /// The relay's decision, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionId>,
    /// Why it was refused, cut or held; absent of what was allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Box<Problem>>,
}

/// What an [`ActivityEntry`] tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum ActivityKind {
    /// An HTTP request.
    Request,
    /// The opening of a stream.
    Stream,
    /// A live stream or request, which was cut.
    Cut,
    /// A live stream, which waits until its cause is mended.
    Held,
}

impl From<DenialKind> for ActivityKind {
    fn from(kind: DenialKind) -> Self {
        match kind {
            DenialKind::Request => Self::Request,
            DenialKind::Stream => Self::Stream,
            DenialKind::Cut => Self::Cut,
            DenialKind::Held => Self::Held,
        }
    }
}

/// How one app is used now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct AppTraffic {
    /// The app.
    pub app: AppName,
    /// Live streams and requests under way.
    pub streams: u32,
    /// Milliseconds until the last answer began, or the last stream was open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u32>,
    /// When it was last used, by the device's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
}
