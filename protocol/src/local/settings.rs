//! What a person may set at the agent.

use crate::id::AppName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `GET` and `PUT /v1/settings`: kept in the state directory, taken at once. What `config.toml` says goes first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The local port of HTTP apps; 0: chosen once and remembered.
    pub http_port: u16,
    /// Fixed local ports of TCP apps.
    pub ports: BTreeMap<AppName, u16>,
    /// What `config.toml` fixes and cannot be changed here: `http_port`, or the names of apps. Ignored in a `PUT`.
    #[serde(default)]
    pub fixed: Vec<String>,
}
