//! What the agent finds when it examines itself and the way to the relay, and what it logged.

use crate::code::Code;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A line of the answer to `POST /v1/doctor`: each check as it ends, in the order of [`Check`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// How it is.
    pub result: CheckResult,
    /// One line for a person: what was found.
    pub summary: String,
    /// What to do, unless all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// The stable code of what is wrong, unless all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Milliseconds it took.
    pub took_ms: u32,
}

/// What `doctor` looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum Check {
    /// Does the agent run, and is it of the version that asks?
    Agent,
    /// Can secrets be kept?
    Keyring,
    /// Does this device's clock agree with the relay's?
    Clock,
    /// Does the relay's public listener answer, as who it should be, over TCP?
    RelayTcp,
    /// Does the relay answer over QUIC?
    RelayQuic,
    /// Does a page of the network stand between device and relay?
    CaptivePortal,
    /// Is the device certificate good, and for how long?
    Certificate,
    /// Is somebody signed in, and does the session renew itself?
    Session,
    /// Do the local addresses of the apps work?
    Listeners,
}

impl Check {
    /// Each of them, in the order they are told.
    pub const ALL: [Self; 9] = [
        Self::Agent,
        Self::Keyring,
        Self::CaptivePortal,
        Self::RelayTcp,
        Self::RelayQuic,
        Self::Clock,
        Self::Certificate,
        Self::Session,
        Self::Listeners,
    ];
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum CheckResult {
    /// All is well.
    Ok,
    /// It works, but something should be mended.
    Warning,
    /// It does not work.
    Failed,
    /// It could not be looked at, since something before it is missing.
    Skipped,
}

/// `GET /v1/logs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Logs {
    /// The oldest first; the agent keeps the last 1000 in memory.
    pub lines: Vec<LogLine>,
}

/// One line of the agent's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct LogLine {
    /// When, by the device's clock.
    pub at: Timestamp,
    /// `error`, `warn`, `info`, `debug`.
    pub level: String,
    /// What, printable, without secrets.
    pub text: String,
}
