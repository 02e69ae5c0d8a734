//! What stays the same while the engine runs, and how it gets at keys and vaults.

use super::held::Device;
use super::record::{Record, RecordFile};
use crate::config::Config;
use crate::device_key::DeviceKey;
use crate::secrets::{Item, Vault};
use crate::state_dir::StateDir;
use postern_protocol::Problem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zeroize::Zeroizing;

/// The engine's surroundings.
pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) record: RecordFile,
    keyring: Vault,
    /// One for the process, so that the device key outlives a session that is kept in memory.
    memory: Vault,
    /// Has a key been put into the keyring, or looked for there?
    keyring_used: AtomicBool,
}

impl Setup {
    pub(super) fn new(config: Config, state: Arc<StateDir>) -> Self {
        let (keyring, memory) = (Vault::keyring(state.path()), Vault::memory());
        Self { config, record: RecordFile::new(state), keyring, memory, keyring_used: AtomicBool::new(false) }
    }

    /// The same with vaults of the test's own.
    #[cfg(test)]
    pub(super) fn with_keyring(config: Config, state: Arc<StateDir>, keyring: Vault) -> Self {
        Self { keyring, ..Self::new(config, state) }
    }

    /// The vault that `storage` in the record names, if it outlives the process.
    pub(super) fn lasting_vault(&self, storage: &str) -> Option<Vault> {
        (storage == self.keyring.storage() && self.config.keyring).then(|| self.keyring.clone())
    }

    /// The keyring, where a person's secrets are to be kept in it.
    pub(super) fn keyring(&self) -> Option<Vault> {
        (self.config.keyring && self.config.service_account.is_none()).then(|| self.keyring.clone())
    }

    /// Notes what the record says of the keyring.
    pub(super) fn note(&self, record: &Record) {
        let kept = record.session.as_ref().is_some_and(|kept| kept.storage == self.keyring.storage());
        self.keyring_used.store(record.in_keyring || kept, Ordering::Relaxed);
    }

    /// Writes the record, and in it whether the keyring may hold secrets.
    pub(super) async fn remember(&self, record: &Record) -> Result<(), Problem> {
        let in_keyring = self.keyring_used.load(Ordering::Relaxed);
        self.record.write(&Record { in_keyring, ..record.clone() }).await
    }

    /// Wipes every secret there may be: those of a session in memory, and those of one before it in the keyring.
    pub(super) async fn wipe(&self) -> Result<(), Problem> {
        self.memory.wipe().await?;
        if self.keyring_used.load(Ordering::Relaxed) {
            self.keyring.wipe().await?;
            self.keyring_used.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The device of a person: its key in the keyring, or in memory where the configuration or the person says so.
    pub(super) async fn device(&self, allow_memory_only: bool) -> Result<Device, Problem> {
        let vault = if self.config.keyring {
            match self.keyring.probe().await {
                Ok(()) => {
                    self.keyring_used.store(true, Ordering::Relaxed);
                    self.keyring.clone()
                }
                Err(problem) if allow_memory_only => {
                    tracing::warn!(code = %problem.code, "no usable keyring: this session stays in memory");
                    self.memory.clone()
                }
                Err(problem) => return Err(problem),
            }
        } else {
            self.memory.clone()
        };
        let kept = vault.get(Item::DeviceKey).await?;
        // A key that cannot be read is as good as none: a new one is a new device.
        let key = match kept.and_then(|pkcs8| DeviceKey::from_pkcs8(pkcs8).ok()) {
            Some(key) => key,
            None => {
                let key = DeviceKey::generate()?;
                vault.put(Item::DeviceKey, Zeroizing::new(key.pkcs8().to_vec())).await?;
                key
            }
        };
        Ok(Device { key: Arc::new(key), storage: vault.storage(), vault })
    }

    /// What the administrator registers at the relay for the service account, if there is one.
    pub(super) async fn service_thumbprint(&self) -> Option<String> {
        let path = self.config.service_account.as_ref()?.device_key_file.clone();
        match self.service_device(path).await {
            Ok(device) => Some(device.key.thumbprint()),
            Err(problem) => {
                tracing::error!(code = %problem.code, detail = problem.detail, "the service account has no key");
                None
            }
        }
    }

    /// The device of the service account: its key is in the file that the administrator named.
    pub(super) async fn service_device(&self, path: std::path::PathBuf) -> Result<Device, Problem> {
        let key = tokio::task::spawn_blocking(move || DeviceKey::from_file(&path)).await;
        let key = key.map_err(|_| Problem::new(postern_protocol::Code::Internal))??;
        Ok(Device { key: Arc::new(key), vault: self.memory.clone(), storage: "file" })
    }
}
