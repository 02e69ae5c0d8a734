//! Where secrets rest: the system's keyring, or memory. Never a file.

mod blob;
mod platform;

use keyring_core::{CredentialStore, Entry, Error};
use postern_protocol::id::hex;
use postern_protocol::{Code, Problem, binding, problem};
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

/// What keyrings list the agent's secrets under.
const SERVICE: &str = "postern";
/// Unlocking a keyring may wait for a person to type a password; nobody waits longer than this.
const PATIENCE: Duration = Duration::from_secs(120);

/// The secrets that outlive the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// The device key, PKCS#8.
    DeviceKey,
    /// The device certificate's chain, PEM.
    Certificate,
    /// The provider's refresh token.
    RefreshToken,
}

impl Item {
    const ALL: [Self; 3] = [Self::DeviceKey, Self::Certificate, Self::RefreshToken];

    const fn name(self) -> &'static str {
        match self {
            Self::DeviceKey => "device-key",
            Self::Certificate => "certificate",
            Self::RefreshToken => "refresh-token",
        }
    }
}

/// The secrets of one state directory. Operations come one at a time, in the order they were asked for.
#[derive(Clone)]
pub struct Vault {
    inner: Arc<Mutex<Inner>>,
    storage: &'static str,
}

pub(crate) type Opener = Box<dyn Fn() -> keyring_core::Result<Arc<CredentialStore>> + Send>;

enum Inner {
    Memory(HashMap<String, Zeroizing<Vec<u8>>>),
    Keyring {
        /// Connected on first use and again after a failure: a keyring may be started or unlocked at any time.
        store: Option<Connected>,
        open: Opener,
        /// Keeps several agents of one user apart.
        scope: String,
    },
}

/// A connection to the keyring. To close it may block on work of its own runtime, which no task may do.
struct Connected(Option<Arc<CredentialStore>>);

impl Drop for Connected {
    fn drop(&mut self) {
        let store = ManuallyDrop::new(self.0.take());
        // Where no thread can be had it stays open until the process ends.
        let _ = std::thread::Builder::new().spawn(move || drop(ManuallyDrop::into_inner(store)));
    }
}

impl Vault {
    /// In the system's keyring, under the identity of this state directory.
    pub fn keyring(state_dir: &Path) -> Self {
        Self::over(Box::new(platform::open), state_dir)
    }

    /// In memory: gone with the process.
    pub fn memory() -> Self {
        Self { inner: Arc::new(Mutex::new(Inner::Memory(HashMap::new()))), storage: "memory" }
    }

    pub(crate) fn over(open: Opener, state_dir: &Path) -> Self {
        let digest = hex(&binding::sha256(state_dir.as_os_str().as_encoded_bytes()));
        let scope = digest.chars().take(32).collect();
        Self { inner: Arc::new(Mutex::new(Inner::Keyring { store: None, open, scope })), storage: "keyring" }
    }

    /// `keyring` or `memory`.
    pub fn storage(&self) -> &'static str {
        self.storage
    }

    /// Can secrets be written, read back and removed? Asked before a sign-in, not after.
    pub async fn probe(&self) -> Result<(), Problem> {
        self.run(|inner| {
            let (name, value) = ("probe", b"postern");
            inner.set(name, value)?;
            let read = inner.get(name)?;
            inner.delete(name)?;
            match read {
                Some(read) if read.as_slice() == value => Ok(()),
                _ => Err(unavailable("what was written cannot be read back")),
            }
        })
        .await
    }

    /// Reads a secret.
    pub async fn get(&self, item: Item) -> Result<Option<Zeroizing<Vec<u8>>>, Problem> {
        self.run(move |inner| blob::read(inner, item.name())).await
    }

    /// Replaces a secret: whoever reads it gets the old one or the new one, also after a crash.
    pub async fn put(&self, item: Item, value: Zeroizing<Vec<u8>>) -> Result<(), Problem> {
        self.run(move |inner| blob::write(inner, item.name(), &value)).await
    }

    /// Removes a secret, if it is there.
    pub async fn remove(&self, item: Item) -> Result<(), Problem> {
        self.run(move |inner| blob::remove(inner, item.name())).await
    }

    /// Removes every secret; goes on where one cannot be removed, and says so in the end.
    pub async fn wipe(&self) -> Result<(), Problem> {
        self.run(|inner| {
            let results: Vec<_> = Item::ALL.iter().map(|item| blob::remove(inner, item.name())).collect();
            results.into_iter().collect()
        })
        .await
    }

    /// Keyrings are asked over blocking calls, which may wait for a person.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Inner) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let locked =
            || Problem::new(Code::KeyringLocked).detail("it did not answer; perhaps it waits for its password");
        let attempt = async {
            let mut inner = Arc::clone(&self.inner).lock_owned().await;
            tokio::task::spawn_blocking(move || work(&mut inner)).await
        };
        match tokio::time::timeout(PATIENCE, attempt).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(unavailable("access to it broke off")),
            Err(_) => Err(locked()),
        }
    }
}

/// One value under one name, of a size that every keyring takes.
impl Inner {
    fn get(&mut self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Problem> {
        if let Self::Memory(map) = self {
            return Ok(map.get(name).cloned());
        }
        match self.attempt(name, Entry::get_secret) {
            Ok(value) => Ok(Some(Zeroizing::new(value))),
            Err(Error::NoEntry) => Ok(None),
            Err(error) => Err(problem_of(&error)),
        }
    }

    fn set(&mut self, name: &str, value: &[u8]) -> Result<(), Problem> {
        if let Self::Memory(map) = self {
            map.insert(name.to_owned(), Zeroizing::new(value.to_vec()));
            return Ok(());
        }
        self.attempt(name, |entry| entry.set_secret(value)).map_err(|error| problem_of(&error))
    }

    fn delete(&mut self, name: &str) -> Result<bool, Problem> {
        if let Self::Memory(map) = self {
            return Ok(map.remove(name).is_some());
        }
        match self.attempt(name, Entry::delete_credential) {
            Ok(()) => Ok(true),
            Err(Error::NoEntry) => Ok(false),
            Err(error) => Err(problem_of(&error)),
        }
    }

    /// Does `work`, a second time over a new connection if the first is broken.
    fn attempt<T>(&mut self, name: &str, work: impl Fn(&Entry) -> keyring_core::Result<T>) -> keyring_core::Result<T> {
        let Self::Keyring { store, open, scope } = self else { return Err(Error::NoDefaultStore) };
        let was_connected = store.is_some();
        let once = |store: &mut Option<Connected>| {
            let connected = match store {
                Some(connected) => connected,
                None => store.insert(Connected(Some(open()?))),
            };
            let Some(connected) = &connected.0 else { return Err(Error::NoDefaultStore) };
            work(&connected.build(SERVICE, &format!("{scope}/{name}"), None)?)
        };
        match once(store) {
            Err(Error::PlatformFailure(_)) if was_connected => {
                *store = None;
                once(store)
            }
            result => result,
        }
    }
}

fn problem_of(error: &Error) -> Problem {
    // Never the error's own data: a malformed secret travels in it.
    match error {
        Error::NoStorageAccess(cause) => {
            Problem::new(Code::KeyringLocked).detail(problem::printable(&cause.to_string()))
        }
        Error::PlatformFailure(cause) => unavailable(&problem::printable(&cause.to_string())),
        Error::NoDefaultStore => unavailable("there is none"),
        Error::Ambiguous(_) => unavailable("it holds a secret of ours twice"),
        Error::TooLong(_, limit) => unavailable(&format!("it takes no more than {limit} bytes")),
        _ => unavailable("it failed"),
    }
}

fn unavailable(why: &str) -> Problem {
    Problem::new(Code::KeyringUnavailable).detail(why)
}

#[cfg(test)]
mod tests;
