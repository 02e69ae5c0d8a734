//! Vaults over memory and over a keyring that fails when told to.

use super::*;
use keyring_core::mock;
use proptest::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

fn platform_failure() -> Error {
    Error::PlatformFailure("the bus is gone".into())
}

fn mock_vault() -> (Vault, Arc<mock::Store>) {
    let store = mock::Store::new().unwrap();
    let kept = Arc::clone(&store);
    let open: Opener = Box::new(move || {
        let store: Arc<CredentialStore> = Arc::<mock::Store>::clone(&kept);
        Ok(store)
    });
    (Vault::over(open, Path::new("/home/a/.local/state/postern")), store)
}

/// Every name and value in the mock keyring.
fn contents(store: &mock::Store) -> Vec<(String, Vec<u8>)> {
    let inner = store.inner.lock().unwrap();
    let creds = inner.borrow();
    let read =
        |cred: &Arc<mock::Cred>| Some((cred.specifiers.1.clone(), cred.inner.lock().unwrap().borrow().secret.clone()?));
    creds.iter().filter_map(read).collect()
}

fn fail_next(store: &mock::Store, name: &str, error: Error) {
    let inner = store.inner.lock().unwrap();
    let creds = inner.borrow();
    creds.iter().find(|cred| cred.specifiers.1.ends_with(name)).expect("the item exists").set_error(error);
}

fn secret(value: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(value.to_vec())
}

#[tokio::test]
async fn keeps_replaces_and_wipes_in_memory_and_keyring() {
    let (keyring, store) = mock_vault();
    for vault in [Vault::memory(), keyring] {
        vault.probe().await.unwrap();
        assert!(vault.get(Item::RefreshToken).await.unwrap().is_none());
        for length in [0, 1, 1199, 1200, 1201, 5000, 2400, 10, 9000] {
            let value = vec![b'x'; length];
            vault.put(Item::RefreshToken, secret(&value)).await.unwrap();
            assert_eq!(vault.get(Item::RefreshToken).await.unwrap().unwrap().as_slice(), value, "{length}");
        }
        vault.put(Item::DeviceKey, secret(b"key")).await.unwrap();
        vault.wipe().await.unwrap();
        assert!(vault.get(Item::RefreshToken).await.unwrap().is_none());
        assert!(vault.get(Item::DeviceKey).await.unwrap().is_none());
    }
    assert_eq!(contents(&store), [], "nothing is left, neither parts nor the probe");
}

#[tokio::test]
async fn no_piece_is_larger_than_any_keyring_takes() {
    let (vault, store) = mock_vault();
    vault.put(Item::RefreshToken, secret(&[7; 10_000])).await.unwrap();
    assert!(contents(&store).iter().all(|(_, value)| value.len() <= 1280));
    assert!(vault.put(Item::RefreshToken, secret(&[7; 100_000])).await.is_err());
    assert_eq!(vault.get(Item::RefreshToken).await.unwrap().unwrap().len(), 10_000, "the old one still stands");
}

#[tokio::test]
async fn a_replacement_that_breaks_off_leaves_the_old_secret() {
    let (vault, store) = mock_vault();
    vault.put(Item::RefreshToken, secret(&[1; 3000])).await.unwrap();
    vault.put(Item::RefreshToken, secret(&[2; 3000])).await.unwrap();
    for part in ["refresh-token.a0", "refresh-token.a2"] {
        fail_next(&store, part, Error::NoStorageAccess("locked".into()));
        let problem = vault.put(Item::RefreshToken, secret(&[3; 3000])).await.unwrap_err();
        assert_eq!(problem.code, Code::KeyringLocked);
        assert_eq!(vault.get(Item::RefreshToken).await.unwrap().unwrap().as_slice(), [2; 3000]);
    }
}

#[tokio::test]
async fn agents_of_other_state_directories_do_not_meet() {
    let store = mock::Store::new().unwrap();
    let vault = |path: &str| {
        let kept = Arc::clone(&store);
        Vault::over(Box::new(move || Ok(Arc::<mock::Store>::clone(&kept))), Path::new(path))
    };
    let (one, two) = (vault("/a"), vault("/b"));
    one.put(Item::DeviceKey, secret(b"one")).await.unwrap();
    assert!(two.get(Item::DeviceKey).await.unwrap().is_none());
    two.wipe().await.unwrap();
    assert!(one.get(Item::DeviceKey).await.unwrap().is_some());
}

/// A20: absent, locked and refusing keyrings are told apart, and each is asked anew the next time.
#[tokio::test]
async fn a20_absent_locked_and_refusing_keyrings_are_told_and_tried_again() {
    let store = mock::Store::new().unwrap();
    let (kept, tries) = (Arc::clone(&store), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&tries);
    let open: Opener = Box::new(move || match counted.fetch_add(1, Ordering::Relaxed) {
        0 => Err(platform_failure()),
        1 => Err(Error::NoStorageAccess("locked".into())),
        _ => Ok(Arc::<mock::Store>::clone(&kept)),
    });
    let vault = Vault::over(open, Path::new("/a"));
    assert_eq!(vault.probe().await.unwrap_err().code, Code::KeyringUnavailable);
    assert_eq!(vault.probe().await.unwrap_err().code, Code::KeyringLocked);
    vault.probe().await.unwrap();
    // A connection that breaks later is made anew within the same call.
    vault.put(Item::DeviceKey, secret(b"key")).await.unwrap();
    fail_next(&store, "device-key", platform_failure());
    assert_eq!(vault.get(Item::DeviceKey).await.unwrap().unwrap().as_slice(), b"key");
    assert_eq!(tries.load(Ordering::Relaxed), 4);
    fail_next(&store, "device-key", Error::BadEncoding(b"s3cret".to_vec()));
    assert!(!vault.get(Item::DeviceKey).await.unwrap_err().to_string().contains("s3cret"));
}

#[tokio::test]
async fn a_damaged_secret_is_told_not_used() {
    let (vault, store) = mock_vault();
    vault.put(Item::RefreshToken, secret(&[1; 3000])).await.unwrap();
    {
        let inner = store.inner.lock().unwrap();
        let creds = inner.borrow();
        let part = creds.iter().find(|cred| cred.specifiers.1.ends_with("refresh-token.a1")).unwrap();
        part.inner.lock().unwrap().borrow_mut().secret = Some(vec![9; 1200]);
    }
    assert_eq!(vault.get(Item::RefreshToken).await.unwrap_err().code, Code::KeyringUnavailable);
    vault.put(Item::RefreshToken, secret(b"new")).await.unwrap();
    assert_eq!(vault.get(Item::RefreshToken).await.unwrap().unwrap().as_slice(), b"new");
}

proptest! {
    #[test]
    fn whatever_is_put_comes_back(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4000), 1..6)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (vault, store) = mock_vault();
            for value in values {
                vault.put(Item::RefreshToken, secret(&value)).await.unwrap();
                assert_eq!(vault.get(Item::RefreshToken).await.unwrap().unwrap().as_slice(), value);
            }
            vault.wipe().await.unwrap();
            assert_eq!(contents(&store), []);
        });
    }
}

/// As the Secret Service's store: it cannot be closed by a task of a runtime.
struct Blocking(Arc<mock::Store>, std::sync::mpsc::Sender<bool>);

impl keyring_core::api::CredentialStoreApi for Blocking {
    fn vendor(&self) -> String {
        self.0.vendor()
    }

    fn id(&self) -> String {
        self.0.id()
    }

    fn build(&self, service: &str, user: &str, modifiers: Option<&HashMap<&str, &str>>) -> keyring_core::Result<Entry> {
        self.0.build(service, user, modifiers)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        self.1.send(tokio::runtime::Handle::try_current().is_ok()).unwrap();
    }
}

#[tokio::test]
async fn a_connection_is_closed_outside_of_the_runtime() {
    let (closed, told) = std::sync::mpsc::channel();
    let open: Opener =
        Box::new(move || Ok(Arc::new(Blocking(mock::Store::new().unwrap(), closed.clone())) as Arc<CredentialStore>));
    let vault = Vault::over(open, Path::new("/home/a/.local/state/postern"));
    vault.probe().await.unwrap();
    drop(vault);
    assert!(!told.recv_timeout(Duration::from_secs(30)).unwrap(), "a task closed it");
}
