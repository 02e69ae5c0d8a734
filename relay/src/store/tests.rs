//! The store in a temporary file.

use super::*;
use postern_relay_core::outside::{Effect, Sessions};

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

fn told(jti: &str) -> Told {
    let until = NOW.plus(Duration::from_secs(600));
    Told { kind: "event", issuer: "urn:told".into(), jti: jti.into(), until }
}

impl World {
    async fn sign_in(&self, number: u128, subject: &str, on: u8, email: Option<&str>) -> Result<SessionId, Problem> {
        self.sign_in_late(number, (subject, None), on, email, Duration::ZERO).await
    }

    /// With a token that the provider issued at `NOW`, `late` after that, in this session of the provider.
    async fn sign_in_late(
        &self,
        number: u128,
        (subject, sid): (&str, Option<&str>),
        on: u8,
        email: Option<&str>,
        late: Duration,
    ) -> Result<SessionId, Problem> {
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
            provider_session: sid,
        };
        self.store.start_session(&sign_in, NOW.plus(late)).await.map(|()| session)
    }

    async fn apply(&self, jti: &str, effect: &Effect) -> Outcome {
        let told = told(jti);
        let applied = self.store.apply(&told, effect, NOW).await.unwrap();
        self.store.told(&told).await.unwrap();
        applied.outcome
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
    let renewed = world.store.renew_session(&third, None, None, None, None, NOW).await.unwrap();
    assert_eq!(renewed, None, "an ended session is not renewed");
    // A session's entry may be forgotten once no token of it lives; its row still says that it ended.
    let later = NOW.plus(SESSION_REVOCATIONS * 2);
    assert_eq!(world.store.prune(later).await.unwrap().len(), 3);
    let revoked = world.store.revocations(later).await.unwrap();
    assert!(!revoked.is_session(&first) && revoked.is_principal(&who("ada")));
    assert!(world.store.session(&first).await.unwrap().unwrap().ended);
    assert!(world.store.restore(&Target::Principal(who("ada"))).await.unwrap());
    assert!(!world.store.restore(&Target::Principal(who("ada"))).await.unwrap());
}

/// Renewing does not make a proof younger, nor does one that is older; one from the future counts as now.
#[tokio::test]
async fn a_session_knows_when_its_user_proved_themself() {
    let world = world().await;
    let session = world.sign_in(1, "ada", 1, None).await.unwrap();
    let minutes = |count: u64| NOW.plus(Duration::from_secs(60 * count));
    for (at, proved, known) in [
        (1, None, NOW),
        (2, Some(minutes(1)), minutes(1)),
        (3, None, minutes(1)),
        (4, Some(NOW), minutes(1)),
        (5, Some(minutes(9)), minutes(5)),
    ] {
        let renewed = world.store.renew_session(&session, None, None, None, proved, minutes(at)).await.unwrap();
        assert_eq!(renewed, Some(known), "after {at} minutes");
    }
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

/// A word that comes late finds sessions that enrolled meanwhile with a token from before.
#[tokio::test]
async fn what_is_told_late_ends_what_was_signed_in_before_it() {
    let (world, second) = (world().await, Duration::from_secs(1));
    let late = world.sign_in_late(1, ("ada", None), 1, None, second * 80).await.unwrap();
    let named = world.sign_in_late(2, ("eve", Some("s-2")), 2, None, second * 280).await.unwrap();
    let ended = |outcome| match outcome {
        Outcome::Ended(sessions) => sessions.into_iter().map(|ended| ended.session).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let at = NOW.plus(second * 10);
    let ada = Sessions { principal: Some(who("ada")), session: None, device: None, or_unknown: true, at };
    let past = Sessions { at: NOW.minus(second * 61), ..ada.clone() };
    assert_eq!(ended(world.apply("past", &Effect::End(past)).await), [], "signed in after that");
    assert_eq!(ended(world.apply("ada", &Effect::End(ada)).await), [late]);
    // One that is named itself ends, whatever the times are.
    let past = NOW.minus(second * 3600);
    let sid = Sessions { principal: None, session: Some("s-2".into()), device: None, or_unknown: false, at: past };
    assert_eq!(ended(world.apply("sid", &Effect::End(sid)).await), [named]);
}

/// Session tokens issued while the store wrote are void after a restart, too; two changes in one second are two.
#[tokio::test]
async fn a_change_of_claims_covers_the_time_it_took_to_be_known() {
    let mut world = world().await;
    let claims = Effect::ClaimsChanged { principal: who("ada"), at: NOW };
    assert_eq!(world.apply("one", &claims).await, Outcome::Changed);
    world.reopen().await;
    let changed = world.store.revocations(NOW).await.unwrap().changed(&who("ada")).unwrap();
    assert!(changed.tokens_from >= NOW.plus(SETTLING) && changed.at == NOW, "{changed:?}");
    let then = NOW.plus(SETTLING * 3);
    world.store.settled(&who("ada"), then).await.unwrap();
    assert_eq!(world.apply("two", &claims).await, Outcome::Changed, "of the same second");
    let changed = world.store.revocations(NOW).await.unwrap().changed(&who("ada")).unwrap();
    assert!(changed.tokens_from >= then, "{changed:?}");
    let older = Effect::ClaimsChanged { principal: who("ada"), at: NOW.minus(Duration::from_secs(1)) };
    assert_eq!(world.apply("three", &older).await, Outcome::Outdated);
}

#[tokio::test]
async fn of_forgotten_devices_only_the_word_against_them_stays() {
    let world = world().await;
    for number in [1, 2] {
        world.sign_in(number.into(), "ada", number, None).await.unwrap();
        let (device, jti) = (device(number), number.to_string());
        let effect = Effect::Compliance { device, compliant: number == 1, at: NOW };
        assert_eq!(world.apply(&jti, &effect).await, Outcome::Changed);
    }
    let rows = || async {
        let count = sqlx::query("SELECT count(*) AS rows FROM device_compliance").fetch_one(&world.store.pool);
        count.await.unwrap().try_get::<i64, _>("rows").unwrap()
    };
    world.store.prune(NOW).await.unwrap();
    assert_eq!(rows().await, 2);
    let later = NOW.plus(IDLE_SESSIONS * 2);
    world.store.prune(later).await.unwrap();
    assert_eq!(rows().await, 1);
    assert!(!world.store.revocations(later).await.unwrap().is_compliant(&device(2)));
}
