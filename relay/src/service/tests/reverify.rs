//! Every cause cuts exactly what it forbids, and a lapse that the user can mend freezes what wants that.

use super::cutting::{greeter, number, open};
use super::upstreams::Upstream;
use super::world::{Identity, POLICY, World, app, set_policy, soon};
use crate::reverify::{Cutback, reverify};
use crate::streams::Live;
use crate::transport::Cut;
use crate::{gate, revoke, serve};
use postern_protocol::control::RelayEvent;
use postern_protocol::{Code, SessionId};
use postern_relay_core::access::{Action, Request, decide};
use postern_relay_core::audit::Event;
use postern_relay_core::principal::PrincipalKey;
use postern_relay_core::registry::Scope;
use postern_relay_core::revocation::Target;
use postern_relay_core::token::{SessionGrant, VerifiedSession};
use proptest::prelude::*;
use quinn::ReadError;
use secrecy::ExposeSecret as _;
use std::sync::Arc;
use std::time::Duration;

const NO_DB: &str = r#"@id("all-but-db") permit (principal in Group::"staff", action, resource in AppGroup::"open")
unless { resource == App::"db" };"#;
const OPS: &str = r#"@id("ops") permit (principal in Group::"ops", action, resource in AppGroup::"open");"#;

#[tokio::test]
async fn a_changed_policy_cuts_what_it_forbids_and_nothing_else() {
    let (upstream, _ends) = greeter().await;
    let url = upstream.tcp_url();
    let world = World::new(&[app("db", &url, ""), app("git", &url, "")]).await;
    let ada = world.device("ada").await;
    let (_send, mut db) = open(&ada, &upstream).await;
    let mut git = ada.open(&format!("git:{}", upstream.addr.port())).await.unwrap();
    let mut hi = [0; 2];
    tokio::io::AsyncReadExt::read_exact(&mut git, &mut hi).await.unwrap();

    set_policy(&world, NO_DB);
    let done = reverify(&world.relay, &Scope::Everything).await;
    assert_eq!((done.cut, done.kept, done.unfinished), (1, 1, 0), "{done:?}");
    assert!(done.slowest < Duration::from_millis(250), "{done:?}");
    assert_eq!(soon(db.read_chunk(1, true)).await.unwrap_err(), ReadError::Reset(number(Code::PolicyDenied)));
    let mut more = [0; 1];
    let undisturbed = tokio::io::AsyncReadExt::read(&mut git, &mut more);
    assert!(tokio::time::timeout(Duration::from_millis(50), undisturbed).await.is_err());
    let audit = world.audit();
    let cut = audit.iter().rfind(|line| line["event"] == "stream_cut").unwrap();
    assert_eq!((cut["app"].as_str(), cut["streams"].as_u64()), (Some("db"), Some(1)));
    let kept = audit.iter().rfind(|line| line["event"] == "decision" && line["streams"] == 1).unwrap();
    assert_eq!((kept["app"].as_str(), kept["policies"][0].as_str()), (Some("git"), Some("all-but-db")));
}

/// Bytes of either direction that come while the stream is held arrive after it, and in order.
#[tokio::test]
async fn a_held_stream_passes_nothing_and_loses_nothing() {
    let upstream = Upstream::tcp_echo().await;
    let world = World::new(&[app("db", upstream.tcp_url(), "on_lapse = \"hold\"")]).await;
    let mut ada = world.device("ada").await;
    let mut events = world.relay.events.subscribe(&ada.session).unwrap();
    assert_eq!(events.next().await, RelayEvent::Alive);
    ada.token = world.token(&ada, &["staff"], Duration::from_secs(1));
    let mut stream = ada.open(&format!("db:{}", upstream.addr.port())).await.unwrap();
    echo(&mut stream, b"before").await;
    let RelayEvent::Held { app, code, decision, until, .. } = soon(events.next()).await else { panic!("it is held") };
    assert_eq!((app.as_str(), code), ("db", Code::TokenExpired));
    assert!(until > world.relay.clock.now().plus(Duration::from_secs(500)));
    let record = world.audit().into_iter().rfind(|line| line["event"] == "stream_held").unwrap();
    assert_eq!(
        (record["decision"].as_str(), record["code"].as_str()),
        (Some(decision.as_str()), Some("token_expired"))
    );

    tokio::io::AsyncWriteExt::write_all(&mut stream, b"during").await.unwrap();
    let mut early = [0; 1];
    let nothing = tokio::io::AsyncReadExt::read(&mut stream, &mut early);
    assert!(tokio::time::timeout(Duration::from_millis(300), nothing).await.is_err(), "no byte passes");
    let filed = world.relay.streams.list();
    assert_eq!(filed[0].received.load(std::sync::atomic::Ordering::Relaxed), 6, "nor reached the app");
    assert_eq!(reverify(&world.relay, &Scope::Everything).await, Cutback::default(), "held once is held");

    gate::issued(&world.relay, &ada.identity.device, &world.token(&ada, &["staff"], Duration::from_secs(60)));
    let done = reverify(&world.relay, &Scope::Session(ada.session.clone())).await;
    assert_eq!((done.resumed, done.cut), (1, 0));
    let mut late = [0; 6];
    soon(tokio::io::AsyncReadExt::read_exact(&mut stream, &mut late)).await.unwrap();
    assert_eq!(&late, b"during");
    echo(&mut stream, b"after").await;
    assert_eq!(soon(events.next()).await, RelayEvent::Resumed { app });
}

#[tokio::test]
async fn a_held_stream_is_cut_when_its_time_is_over_or_its_user_revoked() {
    let (upstream, mut ends) = greeter().await;
    let hold = "on_lapse = \"hold\"\nhold_for = \"5s\"";
    let world = World::new(&[app("db", upstream.tcp_url(), hold)]).await;
    let (mut ada, mut bob) = (world.device("ada").await, world.device("bob").await);
    for device in [&mut ada, &mut bob] {
        device.token = world.token(device, &["staff"], Duration::from_secs(1));
    }
    let (_send, mut adas) = open(&ada, &upstream).await;
    let (_bobs_send, mut bobs) = open(&bob, &upstream).await;
    while world.relay.streams.list().iter().any(|stream| stream.held_since().is_none()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let receipt =
        revoke::revoke(&world.relay, Target::Session(bob.session.clone()), Event::Revocation, "test").await.unwrap();
    assert_eq!(receipt.streams_cut, 1);
    assert_eq!(soon(bobs.read_chunk(1, true)).await.unwrap_err(), ReadError::Reset(number(Code::SessionRevoked)));
    assert!(soon(ends.recv()).await.unwrap().is_err());
    assert_eq!(soon(adas.read_chunk(1, true)).await.unwrap_err(), ReadError::Reset(number(Code::TokenExpired)));
    assert!(soon(ends.recv()).await.unwrap().is_err(), "the app's socket ends too");
}

/// One that does not end, whatever it waits for, is not judged again and again.
#[tokio::test]
async fn what_is_cut_is_not_due_any_more() {
    let world = World::new(&[app("db", "tcp://127.0.0.1:1", "")]).await;
    let ada = world.device("ada").await;
    let token = world.token(&ada, &["staff"], Duration::from_secs(1));
    let token = Arc::new(world.relay.verifier.verify(&token).unwrap());
    let (live, cut) = live(&world, &ada.identity, &token, "db").unwrap();
    assert_eq!(soon(live.cut()).await, Code::TokenExpired);
    let due = || (world.relay.streams.due(world.relay.clock.now()).len(), world.relay.streams.next_deadline());
    assert_eq!((cut.code(), due()), (Some(Code::TokenExpired), (0, None)));
    // Nor by another cause, also one that would have let it live.
    gate::issued(&world.relay, &ada.identity.device, &world.token(&ada, &["staff"], Duration::from_secs(60)));
    assert_eq!(reverify(&world.relay, &Scope::Everything).await, Cutback::default());
    assert_eq!((world.relay.streams.len(), due()), (1, (0, None)));
}

/// Streams that nobody uses do not fill the log, however often the clock has them decided anew.
#[tokio::test]
async fn what_time_alone_does_not_change_is_counted() {
    let (upstream, _ends) = greeter().await;
    let world = World::new(&[app("db", upstream.tcp_url(), "")]).await;
    let ada = world.device("ada").await;
    let _open = open(&ada, &upstream).await;
    let stream = world.relay.streams.list().remove(0);
    let again = async || {
        let now = world.relay.clock.now();
        world.relay.streams.set_deadline(&stream, now);
        soon(async {
            while world.relay.streams.next_deadline().is_none_or(|next| next <= now) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    };
    let decisions = |policy: &str| {
        let of = |line: &serde_json::Value| line["event"] == "decision" && line["policies"][0] == policy;
        world.audit().iter().filter(|line| of(line)).count()
    };
    assert_eq!(decisions("everyone"), 1);
    again().await;
    again().await;
    let told = |line: &serde_json::Value| line["detail"].as_str().is_some_and(|detail| detail.contains("re-checks"));
    soon(async {
        while world.relay.limiters.unchanged.load(std::sync::atomic::Ordering::Relaxed) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    serve::summarise(&world.relay).await;
    assert_eq!(decisions("everyone"), 1);
    assert_eq!(
        world.audit().into_iter().find(told).unwrap()["detail"],
        "2 re-checks for which only time had passed changed nothing"
    );
    // Another answer is news, once.
    set_policy(&world, &NO_DB.replace("\"db\"", "\"other\""));
    again().await;
    again().await;
    soon(async {
        while decisions("all-but-db") < 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    again().await;
    assert_eq!(decisions("all-but-db"), 1);
    // And every cause that is more than the time has its record.
    reverify(&world.relay, &Scope::Everything).await;
    assert_eq!(decisions("all-but-db"), 2);
}

async fn echo<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(stream: &mut S, text: &[u8]) {
    tokio::io::AsyncWriteExt::write_all(stream, text).await.unwrap();
    let mut got = vec![0; text.len()];
    soon(tokio::io::AsyncReadExt::read_exact(stream, &mut got)).await.unwrap();
    assert_eq!(got, text);
}

/// One session: a principal on a device.
struct Seat {
    identity: Identity,
    session: SessionId,
    principal: usize,
    device: usize,
}

/// What decides, kept in the plainest way.
struct Model {
    policy: usize,
    groups: Vec<Vec<&'static str>>,
    posture: Vec<bool>,
    gone_principals: [bool; 2],
    gone_devices: [bool; 3],
    gone_sessions: Vec<bool>,
}

const APPS: [&str; 3] = ["wiki", "db", "other"];

impl Model {
    fn allows(&self, seats: &[Seat], seat: usize, app: usize) -> bool {
        let (group, app) = (&self.groups[seat], APPS[app]);
        let by_policy = match self.policy {
            0 => group.contains(&"staff"),
            1 => group.contains(&"staff") && app != "db",
            2 => group.contains(&"ops"),
            _ => false,
        };
        let gone = self.gone_principals[seats[seat].principal]
            || self.gone_devices[seats[seat].device]
            || self.gone_sessions[seat];
        by_policy && !gone && self.posture[seat]
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open(usize, usize),
    Close(usize),
    RevokePrincipal(usize),
    RevokeDevice(usize),
    RevokeSession(usize),
    Policy(usize),
    Groups(usize, usize),
    Posture(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..4_usize, 0..3_usize).prop_map(|(seat, app)| Step::Open(seat, app)),
        2 => any::<usize>().prop_map(Step::Close),
        1 => (0..2_usize).prop_map(Step::RevokePrincipal),
        1 => (0..3_usize).prop_map(Step::RevokeDevice),
        1 => (0..4_usize).prop_map(Step::RevokeSession),
        2 => (0..4_usize).prop_map(Step::Policy),
        2 => (0..4_usize, 0..4_usize).prop_map(|(seat, groups)| Step::Groups(seat, groups)),
        2 => (0..4_usize, any::<bool>()).prop_map(|(seat, fresh)| Step::Posture(seat, fresh)),
    ]
}

/// A filed stream: its carrier ends when it is cut.
struct Filed {
    seat: usize,
    app: usize,
    cut: Arc<Cut>,
    carrier: tokio::task::JoinHandle<()>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]
    /// A52: after any sequence of openings, causes and closings, exactly the forbidden streams are cut.
    #[test]
    fn a52_exactly_the_forbidden_streams_are_cut(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(steps))?;
    }
}

async fn play(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let url = "tcp://127.0.0.1:1";
    let world = World::new(&[app("wiki", "http://127.0.0.1:1", ""), app("db", url, "")]).await;
    let devices = [world.identity().await, world.identity().await, world.identity().await];
    let seat = |number: usize, (principal, device): (usize, usize)| {
        let identity = Identity {
            leaf: devices[device].leaf.clone(),
            key: devices[device].key.clone(),
            device: devices[device].device.clone(),
        };
        Seat { identity, session: SessionId::from_random(number as u128 + 1), principal, device }
    };
    // Two people; one of them on two devices; one device with two sessions.
    let seats: Vec<Seat> =
        [(0, 0), (0, 1), (1, 2), (1, 2)].into_iter().enumerate().map(|(n, who)| seat(n, who)).collect();
    let mut model = Model {
        policy: 0,
        groups: vec![vec!["staff"]; 4],
        posture: vec![true; 4],
        gone_principals: [false; 2],
        gone_devices: [false; 3],
        gone_sessions: vec![false; 4],
    };
    let mut tokens: Vec<Arc<VerifiedSession>> = seats.iter().map(|seat| token(&world, seat, &["staff"], 60)).collect();
    seats.iter().for_each(|seat| world.report_posture(&seat.session));
    let mut filed: Vec<Filed> = Vec::new();
    for (number, step) in (1_u64..).zip(steps) {
        match step {
            Step::Open(seat, app) => {
                let opened = file(&world, &seats[seat], &tokens[seat], seat, app);
                prop_assert_eq!(opened.is_some(), model.allows(&seats, seat, app));
                filed.extend(opened);
            }
            Step::Close(which) => {
                if !filed.is_empty() {
                    let closed = filed.remove(which % filed.len());
                    closed.carrier.abort();
                    let _ended = closed.carrier.await;
                }
            }
            Step::RevokePrincipal(who) => {
                model.gone_principals[who] = true;
                revoked(&world, Target::Principal(principal(who))).await;
            }
            Step::RevokeDevice(which) => {
                model.gone_devices[which] = true;
                revoked(&world, Target::Device(devices[which].device.id().clone())).await;
            }
            Step::RevokeSession(seat) => {
                model.gone_sessions[seat] = true;
                revoked(&world, Target::Session(seats[seat].session.clone())).await;
            }
            Step::Policy(which) => {
                model.policy = which;
                set_policy(&world, [POLICY, NO_DB, OPS, ""][which]);
                reverify(&world.relay, &Scope::Everything).await;
            }
            Step::Groups(seat, groups) => {
                model.groups[seat] = [vec!["staff"], vec!["ops"], vec!["staff", "ops"], vec![]][groups].clone();
                tokens[seat] = token(&world, &seats[seat], &model.groups[seat], 60 + number);
                reverify(&world.relay, &Scope::Session(seats[seat].session.clone())).await;
            }
            Step::Posture(seat, fresh) => {
                model.posture[seat] = fresh;
                if fresh {
                    world.report_posture(&seats[seat].session);
                } else {
                    world.relay.postures.invalidate(&seats[seat].session);
                }
                reverify(&world.relay, &Scope::Session(seats[seat].session.clone())).await;
            }
        }
        // What the model no longer allows was cut by this step, and nothing else.
        for stream in &filed {
            let allowed = model.allows(&seats, stream.seat, stream.app);
            prop_assert_eq!(stream.cut.code().is_none(), allowed, "{:?}: {} {}", number, stream.seat, APPS[stream.app]);
        }
        filed.retain(|stream| stream.cut.code().is_none());
        prop_assert_eq!(world.relay.streams.len(), filed.len());
    }
    Ok(())
}

fn principal(who: usize) -> PrincipalKey {
    PrincipalKey::new("https://login.corp.example", &format!("user-{who}")).unwrap()
}

fn token(world: &World, seat: &Seat, groups: &[&str], seconds: u64) -> Arc<VerifiedSession> {
    let grant = SessionGrant {
        session: seat.session.clone(),
        principal: principal(seat.principal),
        device: seat.identity.device.id().clone(),
        certificate: seat.identity.device.thumbprint().into(),
        client_id: "postern".into(),
        email: None,
        name: None,
        groups: groups.iter().map(|&group| group.into()).collect(),
        acr: None,
        amr: vec![],
        auth_time: None,
    };
    let relay = &world.relay;
    let token = relay.signer.sign(&grant, relay.clock.now(), Duration::from_secs(seconds), 1).unwrap();
    gate::issued(relay, &seat.identity.device, token.expose_secret());
    Arc::new(relay.verifier.verify(token.expose_secret()).unwrap())
}

/// Opens a stream as the gate does.
fn file(world: &World, seat: &Seat, token: &Arc<VerifiedSession>, number: usize, app: usize) -> Option<Filed> {
    let (live, cut) = live(world, &seat.identity, token, APPS[app])?;
    let carrier = tokio::spawn(async move {
        live.cut().await;
    });
    Some(Filed { seat: number, app, cut, carrier })
}

/// A filed stream that nobody carries.
fn live(world: &World, on: &Identity, token: &Arc<VerifiedSession>, app: &str) -> Option<(Live, Arc<Cut>)> {
    let relay = &world.relay;
    let action = match app {
        "db" => Action::Connect { port: 1 },
        _ => Action::Request { method: "GET".into(), path: "/".into() },
    };
    let request = Request {
        id: relay.clock.decision_id(),
        app: app.parse().unwrap(),
        action,
        host: app.into(),
        source: "127.0.0.1".parse().unwrap(),
        within_rate: true,
        posture: relay.postures.get(token.session()),
    };
    let device = Arc::new(on.device.clone());
    let now = relay.clock.now();
    let permit = decide(&device, token, &request, &relay.snapshot.load(), now).outcome.ok()?;
    let cut = Arc::new(Cut::new());
    Some((relay.streams.open(permit, device, token.clone(), request, now, cut.clone()), cut))
}

async fn revoked(world: &World, target: Target) {
    revoke::revoke(&world.relay, target, Event::Revocation, "test").await.unwrap();
}
