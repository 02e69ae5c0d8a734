//! `session.json`: what the agent remembers of its session besides the secrets. Nothing in it is one.

use crate::state_dir::StateDir;
use postern_protocol::control::Principal;
use postern_protocol::discovery::Discovery;
use postern_protocol::{Problem, SessionId, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::Mutex;
use url::Url;

const FILE_NAME: &str = "session.json";
const MAX_FILE: u64 = 256 * 1024;
const VERSION: u32 = 1;

/// The file's content.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) version: u32,
    /// The relay's address, for the next sign-in too.
    pub(super) address: Url,
    /// A further authority for the relay's public listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ca_pem: Option<String>,
    /// The keyring may hold secrets of this directory: until they are wiped, signing out tries to.
    #[serde(default)]
    pub(super) in_keyring: bool,
    /// The session, until it is signed out of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<Kept>,
}

/// A session that was, and perhaps is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) id: SessionId,
    pub(super) discovery: Discovery,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) principal: Option<Principal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) signed_in: Option<Timestamp>,
    /// Where its secrets are: `keyring`, or gone with the process.
    pub(super) storage: String,
    /// How it ended, if it did otherwise than by signing out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) over: Option<Over>,
}

/// An end that the user is told of after a restart too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Over {
    pub(super) revoked: bool,
    pub(super) problem: Problem,
}

impl Record {
    pub(super) fn new(address: Url, ca_pem: Option<String>, session: Option<Kept>) -> Self {
        Self { version: VERSION, address, ca_pem, in_keyring: false, session }
    }
}

/// The file. Writes come one at a time, in the order they were asked for.
#[derive(Clone)]
pub(super) struct RecordFile {
    state: Arc<Mutex<Arc<StateDir>>>,
}

impl RecordFile {
    pub(super) fn new(state: Arc<StateDir>) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// What is remembered. A file that cannot be read is as good as none: the next sign-in writes it anew.
    pub(super) async fn read(&self) -> Option<Record> {
        let bytes = self.run(|state| state.read(FILE_NAME, MAX_FILE)).await.ok()??;
        let record: Result<Record, _> = serde_json::from_slice(&bytes);
        match record {
            Ok(record) if record.version == VERSION => Some(record),
            _ => {
                tracing::warn!(file = FILE_NAME, "the file is not readable and counts as absent");
                None
            }
        }
    }

    pub(super) async fn write(&self, record: &Record) -> Result<(), Problem> {
        let bytes = serde_json::to_vec_pretty(record)
            .map_err(|error| Problem::new(postern_protocol::Code::Internal).detail(error.to_string()))?;
        self.run(move |state| state.write(FILE_NAME, &bytes)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&StateDir) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let state = Arc::clone(&self.state).lock_owned().await;
        tokio::task::spawn_blocking(move || work(&state)).await.map_err(|_| {
            Problem::new(postern_protocol::Code::Internal).detail("access to the state directory broke off")
        })?
    }
}
