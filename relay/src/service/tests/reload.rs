//! A changed policy and a changed list of apps, as files, in a relay that serves.

use super::upstreams::Upstream;
use super::world::{Device, World, app, assert_refused, soon, text};
use crate::reload::{self, Notices};
use crate::revoke;
use http::Response;
use postern_protocol::Code;
use postern_protocol::control::RelayEvent;
use postern_relay_core::audit::Event;
use postern_relay_core::revocation::Target;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinHandle;

const CLOSED: &str = "@id(\"closed\") @reason(\"All closed.\") forbid (principal, action, resource);\n";
const OPEN: &str = "@id(\"open\") permit (principal in Group::\"staff\", action, resource);\n";

/// An app that says `name`.
async fn says(name: &'static str) -> Upstream {
    Upstream::http(move |_| async move { Response::new(super::world::full(name)) }).await
}

struct Watched {
    world: World,
    task: JoinHandle<()>,
}

impl Watched {
    async fn new(apps: &[String]) -> Self {
        Self::of(World::new(apps).await, Notices::new()).await
    }

    /// Watches with these notices, and waits until it does.
    async fn of(world: World, notices: Notices) -> Self {
        let relay = world.relay.clone();
        let task = tokio::spawn(async move { reload::run(&relay, notices).await });
        Self { world, task }
    }

    fn policy(&self) -> PathBuf {
        self.world.relay.config.policy_file.clone()
    }

    fn config(&self) -> PathBuf {
        self.world.relay.config.file.clone()
    }

    fn generation(&self) -> u64 {
        self.world.relay.snapshot.load().generation
    }

    /// The newest `policy_load` record, once there are so many.
    async fn loads(&self, count: usize) -> serde_json::Value {
        soon(async {
            loop {
                let found: Vec<_> =
                    self.world.audit().into_iter().filter(|line| line["event"] == "policy_load").collect();
                if found.len() >= count {
                    assert_eq!(found.len(), count, "{found:?}");
                    return found.into_iter().next_back().unwrap();
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await
    }

    /// Waits for a new snapshot.
    async fn beyond(&self, generation: u64) {
        soon(async {
            while self.generation() <= generation {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn is_allowed(ada: &Device, app: &str) -> bool {
    ada.get(app, "/").await.status() == 200
}

#[tokio::test]
async fn a_good_policy_takes_the_place_of_the_old_one_and_decides_live_streams() {
    let (wiki, db) = (
        says("wiki").await,
        Upstream::tcp(|mut stream| async move {
            let _until_cut = stream.read(&mut [0; 1]).await;
        })
        .await,
    );
    let watched = Watched::new(&[app("wiki", wiki.http_url(), ""), app("db", db.tcp_url(), "")]).await;
    let ada = watched.world.device("ada").await;
    let mut stream = ada.open(&format!("db:{}", db.addr.port())).await.unwrap();
    assert!(is_allowed(&ada, "wiki").await);
    let mut events = watched.world.relay.events.subscribe(&ada.session).unwrap();
    assert_eq!(events.next().await, RelayEvent::Alive);

    std::fs::write(watched.policy(), CLOSED).unwrap();
    let mut byte = [0; 1];
    assert!(soon(stream.read(&mut byte)).await.map_or(true, |read| read == 0), "the stream is cut");
    let refused = assert_refused(ada.get("wiki", "/").await, Code::PolicyDenied).await;
    assert_eq!(refused.reason.as_deref(), Some("All closed."));
    let record = watched.loads(1).await;
    assert_eq!(record["result"], "allow");
    assert!(record["detail"].as_str().unwrap().contains("policies: 1"), "{record}");
    let told = [soon(events.next()).await, soon(events.next()).await];
    assert!(matches!(told[0], RelayEvent::Cut { code: Code::PolicyDenied, .. }), "{told:?}");
    assert_eq!(told[1], RelayEvent::AppsChanged);
}

/// A51: with a broken policy file nothing new is allowed; the last good policy goes on deciding, and the fault is told.
#[tokio::test]
async fn a51_a_broken_policy_changes_nothing_and_is_told_loudly() {
    let wiki = says("wiki").await;
    let watched = Watched::new(&[app("wiki", wiki.http_url(), "")]).await;
    let ada = watched.world.device("ada").await;
    let before = watched.generation();
    for (n, broken) in
        ["permit (principal, action, resource", "@id(\"a\") permit (principal, action, resource == App::\"nowhere\");"]
            .iter()
            .enumerate()
    {
        std::fs::write(watched.policy(), broken).unwrap();
        let record = watched.loads(n + 1).await;
        assert_eq!((record["result"].as_str(), record["code"].as_str()), (Some("deny"), Some("config_invalid")));
        assert!(record["detail"].as_str().unwrap().contains("policy.cedar:1:"), "{record}");
        assert!(is_allowed(&ada, "wiki").await, "the last good policy decides");
        assert_refused(ada.get("wiki", "/secret").await, Code::PolicyDenied).await;
        assert_refused(ada.get("closed", "/").await, Code::PolicyDenied).await;
    }
    std::fs::remove_file(watched.policy()).unwrap();
    assert_eq!(watched.loads(3).await["result"], "deny");
    assert!(is_allowed(&ada, "wiki").await);
    assert_eq!(watched.generation(), before);
    std::fs::write(watched.policy(), CLOSED).unwrap();
    assert_eq!(watched.loads(4).await["result"], "allow");
    assert!(!is_allowed(&ada, "wiki").await);
}

/// Written beside and renamed, as editors do; a link beside it swapped, as Kubernetes does; emptied, then written.
#[tokio::test]
async fn a_policy_is_seen_however_it_is_written() {
    let wiki = says("wiki").await;
    let world = World::new(&[app("wiki", wiki.http_url(), "")]).await;
    let policy = world.relay.config.policy_file.clone();
    let home = policy.parent().unwrap().to_owned();
    let put = |directory: &str, text: &str| {
        std::fs::create_dir(home.join(directory)).unwrap();
        std::fs::write(home.join(directory).join("policy.cedar"), text).unwrap();
    };
    put("..first", &std::fs::read_to_string(&policy).unwrap());
    symlink("..first", home.join("..data")).unwrap();
    std::fs::remove_file(&policy).unwrap();
    symlink("..data/policy.cedar", &policy).unwrap();
    let watched = Watched::of(world, Notices::new()).await;
    let ada = watched.world.device("ada").await;
    assert!(is_allowed(&ada, "wiki").await);

    let before = watched.generation();
    put("..second", CLOSED);
    symlink("..second", home.join("..data_tmp")).unwrap();
    std::fs::rename(home.join("..data_tmp"), home.join("..data")).unwrap();
    watched.beyond(before).await;
    assert!(!is_allowed(&ada, "wiki").await, "the swapped link");

    let before = watched.generation();
    std::fs::write(home.join(".policy.swp"), OPEN).unwrap();
    std::fs::rename(home.join(".policy.swp"), &policy).unwrap();
    watched.beyond(before).await;
    assert!(is_allowed(&ada, "wiki").await, "the renamed file");

    let before = watched.generation();
    std::fs::write(&policy, "").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(watched.generation(), before, "what is empty for a moment is not in force");
    std::fs::write(&policy, CLOSED).unwrap();
    watched.beyond(before).await;
    assert_eq!(watched.generation(), before + 1);
    assert_eq!(watched.world.relay.snapshot.load().policy.len(), 1, "and never was");
    assert!(!is_allowed(&ada, "wiki").await, "the file that was emptied first");
    std::fs::write(&policy, "// none\n").unwrap();
    watched.beyond(before + 1).await;
    assert!(watched.world.relay.snapshot.load().policy.is_empty(), "what stays empty is");
}

#[tokio::test]
async fn where_the_system_gives_no_notice_files_are_looked_at() {
    let wiki = says("wiki").await;
    let watched = Watched::of(World::new(&[app("wiki", wiki.http_url(), "")]).await, Notices::none()).await;
    let ada = watched.world.device("ada").await;
    std::fs::write(watched.policy(), CLOSED).unwrap();
    watched.loads(1).await;
    assert!(!is_allowed(&ada, "wiki").await);
    // The first change may have come before the first look; this one comes after it.
    std::fs::write(watched.policy(), OPEN).unwrap();
    watched.loads(2).await;
    assert!(is_allowed(&ada, "wiki").await);
}

#[tokio::test]
async fn a_changed_list_of_apps_cuts_what_led_to_a_removed_one_and_leads_to_the_new_upstream() {
    let (old, new) = (says("old").await, says("new").await);
    let db = Upstream::tcp(|mut stream| async move {
        let _until_cut = stream.read(&mut [0; 1]).await;
    })
    .await;
    let section = app("db", db.tcp_url(), "");
    let watched = Watched::new(&[app("wiki", old.http_url(), ""), section.clone()]).await;
    let ada = watched.world.device("ada").await;
    let mut stream = ada.open(&format!("db:{}", db.addr.port())).await.unwrap();
    assert_eq!(text(ada.get("wiki", "/").await).await, "old");

    let config = std::fs::read_to_string(watched.config()).unwrap();
    let moved = config.replace(&old.http_url().to_string(), &new.http_url().to_string());
    let before = watched.generation();
    std::fs::write(watched.config(), &moved).unwrap();
    watched.beyond(before).await;
    assert_eq!(text(ada.get("wiki", "/").await).await, "new");
    let alive = tokio::time::timeout(std::time::Duration::from_millis(100), stream.read(&mut [0; 1])).await;
    assert!(alive.is_err(), "a stream that is still allowed goes on");

    std::fs::write(watched.config(), moved.replace(&section, "")).unwrap();
    assert!(
        soon(stream.read(&mut [0; 1])).await.map_or(true, |read| read == 0),
        "the app is gone, and so is the stream"
    );
    let refused = ada.open(&format!("db:{}", db.addr.port())).await.unwrap_err();
    assert_eq!(refused.code, Code::AppUnknown);
}

#[tokio::test]
async fn other_settings_wait_for_a_restart_and_broken_ones_hold_back_the_policy() {
    let wiki = says("wiki").await;
    let watched = Watched::new(&[app("wiki", wiki.http_url(), "")]).await;
    let ada = watched.world.device("ada").await;
    let config = std::fs::read_to_string(watched.config()).unwrap();
    std::fs::write(watched.config(), config.replace("organisation = \"Test\"", "organisation = 7")).unwrap();
    assert_eq!(watched.loads(1).await["result"], "deny");
    // The two files are judged as a whole.
    std::fs::write(watched.policy(), CLOSED).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(800)).await;
    assert!(is_allowed(&ada, "wiki").await);
    std::fs::write(watched.config(), config.replace("organisation = \"Test\"", "organisation = \"Other\"")).unwrap();
    assert_eq!(watched.loads(2).await["result"], "allow");
    assert!(!is_allowed(&ada, "wiki").await);
    assert_eq!(watched.world.relay.config.organisation, "Test");
}

#[tokio::test]
async fn connections_to_an_upstream_that_is_no_apps_any_more_are_closed() {
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let old = Upstream::tcp(move |mut stream| {
        let ended = ended.clone();
        async move {
            let _request = stream.read(&mut [0; 4096]).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
            let _kept_until_closed = stream.read(&mut [0; 1]).await;
            let _test_may_be_over = ended.send(());
        }
    })
    .await;
    let address = format!("http://{}", old.addr);
    let watched = Watched::new(&[app("wiki", &address, "")]).await;
    let ada = watched.world.device("ada").await;
    assert!(is_allowed(&ada, "wiki").await);
    let kept = tokio::time::timeout(std::time::Duration::from_millis(200), ends.recv()).await;
    assert!(kept.is_err(), "the connection is kept for the next request");
    let config = std::fs::read_to_string(watched.config()).unwrap();
    std::fs::write(watched.config(), config.replace(&address, "http://127.0.0.1:1")).unwrap();
    // It would lie idle for longer.
    tokio::time::timeout(std::time::Duration::from_secs(8), ends.recv()).await.expect("it is closed").unwrap();
}

/// A pipe in the place of the policy, as a file whose file system keeps the reader waiting.
fn pipe_for(policy: &std::path::Path, name: &str) -> PathBuf {
    let pipe = policy.with_file_name(name);
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    pipe
}

/// Opens a pipe to write to; that waits for its reader.
fn feed(pipe: PathBuf) -> tokio::sync::oneshot::Receiver<std::fs::File> {
    let (open, opened) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || open.send(std::fs::OpenOptions::new().write(true).open(pipe).unwrap()));
    opened
}

#[test]
fn a_file_that_does_not_answer_stops_nothing_else() {
    let (done, ended) = std::sync::mpsc::channel();
    // In a thread of its own, which a reader that blocks it may keep.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let wiki = says("wiki").await;
            let watched = Watched::new(&[app("wiki", wiki.http_url(), "")]).await;
            let (ada, bob) = (watched.world.device("ada").await, watched.world.device("bob").await);
            let policy = watched.policy();
            std::fs::rename(pipe_for(&policy, "pipe"), &policy).unwrap();
            let waiting = soon(feed(policy.clone())).await.unwrap();
            assert!(is_allowed(&ada, "wiki").await, "the last good policy decides");
            let target = Target::Session(bob.session.clone());
            revoke::revoke(&watched.world.relay, target, Event::Revocation, "test").await.unwrap();
            assert_refused(bob.get("wiki", "/").await, Code::SessionRevoked).await;
            // It answers again, and by now there is another policy.
            std::fs::write(policy.with_file_name("new"), CLOSED).unwrap();
            std::fs::rename(policy.with_file_name("new"), &policy).unwrap();
            drop(waiting);
            assert_eq!(watched.loads(1).await["result"], "allow");
            assert!(!is_allowed(&ada, "wiki").await);
        });
        done.send(()).unwrap();
    });
    ended.recv_timeout(std::time::Duration::from_secs(30)).expect("only the reload waits");
}

/// Written between the look and the reading: half a policy is not in force for a moment.
#[tokio::test]
async fn a_policy_that_changes_while_it_is_read_is_read_again() {
    let wiki = says("wiki").await;
    let world = World::new(&[app("wiki", wiki.http_url(), "")]).await;
    let policy = world.relay.config.policy_file.clone();
    let ada = world.device("ada").await;
    let (first, second) = (pipe_for(&policy, "first"), pipe_for(&policy, "second"));
    std::fs::rename(first, &policy).unwrap();
    let watched = Watched::of(world, Notices::new()).await;
    let whole = format!("{OPEN}{CLOSED}");
    // Each reader gets the text of its own file.
    let mut looked = soon(feed(policy.clone())).await.unwrap();
    std::io::Write::write_all(&mut looked, whole.as_bytes()).unwrap();
    std::fs::rename(second, &policy).unwrap();
    drop(looked);
    let mut read = soon(feed(policy.clone())).await.unwrap();
    std::io::Write::write_all(&mut read, OPEN.as_bytes()).unwrap();
    std::fs::write(policy.with_file_name("third"), &whole).unwrap();
    std::fs::rename(policy.with_file_name("third"), &policy).unwrap();
    drop(read);
    watched.loads(1).await;
    assert_eq!(watched.world.relay.snapshot.load().policy.len(), 2, "never half of it");
    assert!(!is_allowed(&ada, "wiki").await);
    watched.loads(1).await;
}
