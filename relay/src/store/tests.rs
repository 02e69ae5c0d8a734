//! The store in a temporary file.

use super::*;

struct World {
    store: Store,
    path: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("postern.db");
    World { store: Store::open(&path).await.unwrap(), path, _dir: dir }
}

fn who(subject: &str) -> PrincipalKey {
    PrincipalKey::new("https://login.corp.example", subject).unwrap()
}

fn device(number: u8) -> DeviceId {
    DeviceId::from_key_hash(&[number; 32])
}

impl World {
    async fn sign_in(&self, number: u128, subject: &str, on: u8, email: Option<&str>) -> Result<SessionId, Problem> {
        let session = SessionId::from_random(number);
        let mut token_hash = [0; 32];
        token_hash[16..].copy_from_slice(&number.to_be_bytes());
        let sign_in = SignIn {
            session: &session,
            device: &device(on),
            device_name: "laptop",
            principal: &who(subject),
            email,
            name: None,
            service: false,
            token_hash,
            token_issued: NOW,
            token_until: NOW.plus(Duration::from_secs(600)),
            provider_session: None,
        };
        self.store.start_session(&sign_in, NOW).await.map(|()| session)
    }

    async fn reopen(&mut self) {
        self.store.close().await;
        self.store = Store::open(&self.path).await.unwrap();
    }
}

#[tokio::test]
async fn a_refused_sign_in_leaves_nothing() {
    let world = world().await;
    world.sign_in(1, "ada", 1, None).await.unwrap();
    assert_eq!(world.sign_in(1, "ada", 2, None).await.unwrap_err().code, Code::IdentityTokenUsed);
    assert_eq!(world.sign_in(2, "eve", 1, None).await.unwrap_err().code, Code::DeviceOwned);
    assert_eq!(world.store.devices().await.unwrap().len(), 1);
    assert_eq!(world.store.sessions(true).await.unwrap().len(), 1);
    // The token of the refused sign-in is not used up: nothing of that transaction stayed.
    world.sign_in(2, "eve", 2, None).await.unwrap();
}

#[tokio::test]
async fn revocations_end_sessions_and_outlive_a_restart() {
    let mut world = world().await;
    let first = world.sign_in(1, "ada", 1, None).await.unwrap();
    let second = world.sign_in(2, "ada", 2, None).await.unwrap();
    let third = world.sign_in(3, "eve", 3, None).await.unwrap();
    let revoke = |target: Target| {
        let store = world.store.clone();
        async move { store.revoke(&target, NOW).await.unwrap() }
    };
    assert_eq!(revoke(Target::Session(first.clone())).await, std::slice::from_ref(&first));
    assert_eq!(revoke(Target::Session(first.clone())).await, [], "a second time changes nothing");
    assert_eq!(revoke(Target::Principal(who("ada"))).await, std::slice::from_ref(&second));
    assert_eq!(revoke(Target::Device(device(3))).await, std::slice::from_ref(&third));
    world.reopen().await;
    let revoked = world.store.revocations(NOW).await.unwrap();
    assert!(revoked.is_session(&first) && revoked.is_principal(&who("ada")) && revoked.is_device(&device(3)));
    assert!(revoked.is_session(&second) && revoked.is_session(&third), "what they ended is revoked by itself");
    assert_eq!(revoked.len(), 5);
    assert!(world.store.session(&third).await.unwrap().unwrap().ended);
    assert!(
        !world.store.renew_session(&third, None, None, None, NOW).await.unwrap(),
        "an ended session is not renewed"
    );
    // A session's entry may be forgotten once no token of it lives; its row still says that it ended.
    let later = NOW.plus(SESSION_REVOCATIONS * 2);
    assert_eq!(world.store.prune(later).await.unwrap().len(), 3);
    let revoked = world.store.revocations(later).await.unwrap();
    assert!(!revoked.is_session(&first) && revoked.is_principal(&who("ada")));
    assert!(world.store.session(&first).await.unwrap().unwrap().ended);
    assert!(world.store.restore(&Target::Principal(who("ada"))).await.unwrap());
    assert!(!world.store.restore(&Target::Principal(who("ada"))).await.unwrap());
}

#[tokio::test]
async fn a_used_token_is_remembered_until_it_has_ended() {
    let world = world().await;
    world.sign_in(1, "ada", 1, None).await.unwrap();
    world.store.prune(NOW.plus(Duration::from_secs(599))).await.unwrap();
    assert_eq!(world.sign_in(1, "ada", 1, None).await.unwrap_err().code, Code::IdentityTokenUsed);
}

/// A10: two users with one e-mail address stay two; an administrator sees both.
#[tokio::test]
async fn a10_an_email_address_names_nobody() {
    let world = world().await;
    world.sign_in(1, "ada", 1, Some("team@corp.example")).await.unwrap();
    world.sign_in(2, "eve", 2, Some("Team@corp.example")).await.unwrap();
    let known = world.store.principals("team@corp.example").await.unwrap();
    assert_eq!(known.iter().map(|known| known.key.subject()).collect::<Vec<_>>(), ["ada", "eve"]);
    world.store.revoke(&Target::Principal(who("ada")), NOW).await.unwrap();
    let eve = world.store.session(&SessionId::from_random(2)).await.unwrap().unwrap();
    assert!(!eve.ended && eve.principal == who("eve"));
    assert_eq!(world.store.principals("ada").await.unwrap().len(), 1);
    for nobody in ["", "%", "' OR 1=1 --", "ADA"] {
        assert_eq!(world.store.principals(nobody).await.unwrap(), [], "{nobody:?}");
    }
}

#[tokio::test]
async fn the_newest_checkpoint_is_kept() {
    let mut world = world().await;
    assert_eq!(world.store.checkpoint().await.unwrap(), None);
    for seq in [5, 9] {
        world.store.keep_checkpoint(&Checkpoint { seq, head: format!("h{seq}") }).await.unwrap();
    }
    world.reopen().await;
    assert_eq!(world.store.checkpoint().await.unwrap(), Some(Checkpoint { seq: 9, head: "h9".into() }));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("postern.db");
    std::fs::write(&path, "this is not a database, and it is long enough to look at").unwrap();
    assert!(Store::open(&path).await.is_err());
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("this is not"));
}

#[tokio::test]
async fn the_file_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = world().await;
    let mode = std::fs::metadata(&world.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
