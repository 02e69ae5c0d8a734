//! How fast what lives is cut: 10,000 streams over 100 connections on one relay, half of them busy. For one user, for
//! one app and for a policy change that concerns all: from the cause to the last byte, and to the end of both sides.
//!
//! `cargo xtask bench revocation` builds the relay for it and runs it. Budget: last byte p99 250 ms, maximum 1 s; who is
//! not concerned loses no byte, and their round trips' p99 no more than doubles.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a bench is read by people and may stop at the first surprise"
)]

use http::Request;
use postern_tests::client;
use postern_tests::device::Device;
use postern_tests::quic::Quic;
use postern_tests::relay::{App, Relay, Settings};
use postern_tests::stand_in::StandIn;
use postern_tests::world::World;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};

const APPS: usize = 4;
const MESSAGE: usize = 64;
/// Each busy stream sends so often.
const PACE: Duration = Duration::from_millis(500);
const BEFORE: Duration = Duration::from_secs(4);
const AFTER: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of one stream. Times are nanoseconds since the start; 0: not yet.
struct Probe {
    user: usize,
    app: usize,
    last_down: AtomicU64,
    last_up: AtomicU64,
    device_ended: AtomicU64,
    upstream_ended: AtomicU64,
    trips: Mutex<Vec<(u64, u64)>>,
}

struct Lab {
    start: Instant,
    probes: Mutex<HashMap<u64, Arc<Probe>>>,
    broken: AtomicBool,
}

impl Lab {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap()
    }

    fn all(&self) -> Vec<Arc<Probe>> {
        self.probes.lock().unwrap().values().cloned().collect()
    }
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (devices, streams) = if quick { (20, 40) } else { (100, 100) };
    let result = runtime.block_on(run(devices, streams));
    println!("{result}");
}

async fn run(devices: usize, streams: usize) -> Value {
    let world = World::new();
    let provider = StandIn::start().await;
    let lab = Arc::new(Lab { start: Instant::now(), probes: Mutex::default(), broken: AtomicBool::new(false) });
    let (mut settings, mut ports) = (Settings::new(&provider.issuer), Vec::new());
    for app in 0..APPS {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        settings = settings.app(App::tcp(&format!("db-{app}"), address));
        ports.push(address.port());
        tokio::spawn(upstream(listener, lab.clone()));
    }
    let settings = settings
        .set("limits", "streams_per_connection", "1000")
        .set("provider", "token_max_age", "\"1h\"")
        .set("session", "token_lifetime", "\"1h\"")
        .set("posture", "max_age", "\"2h\"");
    let relay = Relay::start(&world, settings).await;
    println!("{devices} connections x {streams} streams over {APPS} apps, half of them send every {PACE:?}");
    let mut kept = Vec::new();
    for user in 0..devices {
        let (device, quic) = Device::signed_in(&relay, &provider, &format!("user-{user}")).await;
        let opening = (0..streams).map(|number| open(&lab, &device, &quic, user, number, &ports));
        futures_util::future::join_all(opening).await;
        kept.push((device, quic));
    }
    println!("open after {:.1} s", lab.start.elapsed().as_secs_f64());

    let user =
        json!({ "kind": "user", "issuer": provider.issuer.to_string().trim_end_matches('/'), "subject": "user-0" });
    let mut rows = Vec::new();
    rows.push(
        measure(
            &lab,
            "one user revoked",
            |probe| probe.user == 0,
            async || {
                let accepted = lab.now();
                let receipt = admin(&relay, "/revoke", &user).await;
                println!("receipt: {receipt}");
                accepted
            },
        )
        .await,
    );
    let all_but =
        "@id(\"staff\") permit(principal in Group::\"staff\", action, resource) unless { resource == App::\"db-1\" };";
    rows.push(
        measure(
            &lab,
            "one app closed by the policy",
            |probe| probe.app == 1,
            async || policy(&lab, &relay, all_but).await,
        )
        .await,
    );
    let none = "@id(\"staff\") permit(principal in Group::\"nobody\", action, resource);";
    rows.push(measure(&lab, "a policy that concerns all", |_| true, async || policy(&lab, &relay, none).await).await);
    assert!(!lab.broken.load(SeqCst), "a stream got other bytes than it sent");
    drop(kept);
    json!({ "bench": "revocation", "connections": devices, "streams": devices * streams, "figures": rows })
}

/// Puts another policy in place. When it was accepted, by the relay's own record.
async fn policy(lab: &Lab, relay: &Relay, text: &str) -> u64 {
    let mut audit = std::fs::File::open(relay.audit_file()).unwrap();
    audit.seek(SeekFrom::End(0)).unwrap();
    std::fs::write(relay.dir.join("policy.new"), text).unwrap();
    std::fs::rename(relay.dir.join("policy.new"), relay.dir.join("policy.cedar")).unwrap();
    let (deadline, mut written) = (Instant::now() + PATIENCE, String::new());
    // Only what is new is read: to look through the whole log again and again would take a core from what is measured.
    let record: Value = loop {
        audit.read_to_string(&mut written).unwrap();
        let whole = written.rfind('\n').map_or("", |end| &written[..end]);
        if let Some(line) = whole.lines().find(|line| line.contains("\"policy_load\"")) {
            break serde_json::from_str(line).unwrap();
        }
        assert!(Instant::now() < deadline, "the relay takes the policy: {}", relay.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(record["result"], "allow", "{record}");
    let accepted = OffsetDateTime::parse(record["time"].as_str().unwrap(), &Rfc3339).unwrap();
    let ago = (OffsetDateTime::now_utc() - accepted).unsigned_abs();
    lab.now().saturating_sub(u64::try_from(ago.as_nanos()).unwrap())
}

async fn admin(relay: &Relay, path: &str, body: &Value) -> Value {
    let socket = UnixStream::connect(relay.dir.join("state/admin.sock")).await.unwrap();
    let request = Request::post(path).header("host", "admin").body(body.to_string()).unwrap();
    client::exchange(socket, request).await.unwrap().json()
}

/// Lets things run, brings the cause about, and looks at whom it concerned and whom not.
async fn measure(lab: &Lab, name: &str, concerned: impl Fn(&Probe) -> bool, cause: impl AsyncFnOnce() -> u64) -> Value {
    tokio::time::sleep(BEFORE).await;
    let alive = |probe: &Arc<Probe>| probe.device_ended.load(SeqCst) == 0;
    let (hit, spared): (Vec<_>, Vec<_>) = lab.all().into_iter().filter(alive).partition(|probe| concerned(probe));
    let at = cause().await;
    let deadline = Instant::now() + PATIENCE;
    let ended = |probe: &Arc<Probe>| probe.device_ended.load(SeqCst) > 0 && probe.upstream_ended.load(SeqCst) > 0;
    while !hit.iter().all(ended) {
        assert!(Instant::now() < deadline, "{name}: {} streams live on", hit.iter().filter(|p| !ended(p)).count());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(AFTER).await;
    assert!(spared.iter().all(alive), "{name}: streams that are not concerned were cut");
    let since = |time: u64| time.saturating_sub(at) as f64 / 1e6;
    let last = hit.iter().map(|probe| since(probe.last_down.load(SeqCst).max(probe.last_up.load(SeqCst)))).collect();
    let ends = hit.iter().map(|p| since(p.device_ended.load(SeqCst).max(p.upstream_ended.load(SeqCst)))).collect();
    let window = |from: u64, to: u64| {
        let trips = spared.iter().flat_map(|probe| probe.trips.lock().unwrap().clone());
        trips.filter(|(when, _)| (from..to).contains(when)).map(|(_, took)| took as f64 / 1e6).collect::<Vec<_>>()
    };
    let (before, during) = (window(at - 3_000_000_000, at), window(at, at + 1_500_000_000));
    let (last, ends, before, during) = (shares(last), shares(ends), shares(before), shares(during));
    println!("{name}: {} streams cut, {} go on", hit.len(), spared.len());
    println!(
        "  last byte after  p50 {:6.1}  p99 {:6.1}  max {:6.1} ms   (budget: p99 250, max 1000)",
        last.0, last.1, last.2
    );
    println!("  both sides ended p50 {:6.1}  p99 {:6.1}  max {:6.1} ms", ends.0, ends.1, ends.2);
    let ratio = during.1 / before.1;
    if !spared.is_empty() {
        println!("  round trips of the others p99 {:.1} -> {:.1} ms ({ratio:.2} x; budget: 2 x)", before.1, during.1);
    }
    json!({ "cause": name, "cut": hit.len(), "spared": spared.len(),
        "last_byte_ms": { "p50": last.0, "p99": last.1, "max": last.2 },
        "ended_ms": { "p50": ends.0, "p99": ends.1, "max": ends.2 },
        "others_p99_ms": { "before": before.1, "during": during.1 },
        "within_budget": last.1 <= 250.0 && last.2 <= 1000.0 && (spared.is_empty() || ratio <= 2.0) })
}

/// p50, p99 and maximum.
fn shares(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: usize| values.get(values.len() * share / 100).or(values.last()).copied().unwrap_or(0.0);
    (at(50), at(99), values.last().copied().unwrap_or(0.0))
}

/// Opens a stream, and keeps it busy if its number is even.
async fn open(lab: &Arc<Lab>, device: &Device, quic: &Quic, user: usize, number: usize, ports: &[u16]) {
    let app = number % APPS;
    let id = (user as u64) << 32 | number as u64;
    let probe = Arc::new(Probe {
        user,
        app,
        last_down: AtomicU64::new(0),
        last_up: AtomicU64::new(0),
        device_ended: AtomicU64::new(0),
        upstream_ended: AtomicU64::new(0),
        trips: Mutex::default(),
    });
    lab.probes.lock().unwrap().insert(id, probe.clone());
    let (mut send, mut recv) = quic.connection.open_bi().await.unwrap();
    let target = format!("db-{app}:{}", ports[app]);
    send.write_all(&device.head(&format!("CONNECT {target} HTTP/1.1"), &target, "")).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        recv.read_exact(&mut byte).await.unwrap();
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    send.write_all(&id.to_be_bytes()).await.unwrap();
    let lab = lab.clone();
    tokio::spawn(async move {
        if number.is_multiple_of(2) {
            tokio::time::sleep(PACE * u32::try_from(id % 97).unwrap() / 97).await;
            busy(&lab, &probe, send, recv).await;
        } else {
            let _cut = recv.read(&mut [0; 1]).await;
            drop(send);
        }
        probe.device_ended.store(lab.now(), SeqCst);
    });
}

/// Sends and awaits the echo until the stream ends.
async fn busy(lab: &Lab, probe: &Probe, mut send: quinn::SendStream, mut recv: quinn::RecvStream) {
    let mut ticks = tokio::time::interval(PACE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for round in 0_u64.. {
        // A stream that is cut while it waits for its next turn has to notice at once.
        let mut early = [0; 1];
        tokio::select! {
            _ = ticks.tick() => {}
            _ = recv.read(&mut early) => return,
        }
        let (sent, message) = (lab.now(), [u8::try_from(round % 251).unwrap(); MESSAGE]);
        if send.write_all(&message).await.is_err() {
            return;
        }
        let mut echo = [0; MESSAGE];
        if recv.read_exact(&mut echo).await.is_err() {
            return;
        }
        let now = lab.now();
        probe.last_down.store(now, SeqCst);
        probe.trips.lock().unwrap().push((now, now - sent));
        if echo != message {
            lab.broken.store(true, SeqCst);
        }
    }
}

/// Echoes; the first eight bytes of each connection name its stream.
async fn upstream(listener: TcpListener, lab: Arc<Lab>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(echo(stream, lab.clone()));
    }
}

async fn echo(mut stream: TcpStream, lab: Arc<Lab>) {
    stream.set_nodelay(true).unwrap();
    let Ok(id) = stream.read_u64().await else { return };
    let probe = lab.probes.lock().unwrap()[&id].clone();
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        probe.last_up.store(lab.now(), SeqCst);
        if stream.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    probe.upstream_ended.store(lab.now(), SeqCst);
}
