//! `access::decide` at 50 policies and 20 groups: what one request costs the relay's core.
//!
//! Criterion tells means; the budget is for p99, so a histogram is measured too and printed at the end:
//! 50 us with a verified session at hand, 200 us with the session token's signature verified anew. Run it on an idle
//! machine: a busy sibling core doubles every figure.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    unreachable_pub,
    dead_code,
    reason = "a bench is read by people and may stop at the first surprise; it uses only a part of the fixture"
)]

#[path = "../src/fixture.rs"]
mod fixture;

use criterion::{Criterion, criterion_group, criterion_main};
use fixture::NOW;
use postern_protocol::control::AppKind;
use postern_relay_core::access::{Request, Snapshot, decide};
use postern_relay_core::app::AppTable;
use postern_relay_core::certificate::VerifiedDevice;
use postern_relay_core::policy::Policy;
use postern_relay_core::token::{TokenVerifier, VerifiedSession};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const POLICIES: usize = 50;
const GROUPS: usize = 20;

/// A principal in 20 groups, on a healthy device, before a policy of 50 rules.
struct Scene {
    device: VerifiedDevice,
    session: VerifiedSession,
    bearer: String,
    verifier: TokenVerifier,
    request: Request,
    snapshot: Snapshot,
}

impl Scene {
    fn new(policy: &str) -> Self {
        let apps = (0..20).map(|n| fixture::app(&format!("app-{n}"), AppKind::Http, &["internal"])).collect();
        let apps = Arc::new(AppTable::new(apps).unwrap());
        let policy = Arc::new(Policy::load(policy, apps).unwrap());
        assert_eq!(policy.len(), POLICIES);
        let device = fixture::device();
        let groups: Vec<String> = (0..GROUPS).map(|n| format!("group-{n}")).collect();
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        let bearer = fixture::bearer(&fixture::grant(&device, "alice", &groups));
        let verifier = fixture::session_signer().verifier();
        let mut request = fixture::get("app-7", "/projects/postern/issues/2");
        request.posture = Some(fixture::posture(Duration::from_secs(30)));
        let mut snapshot = fixture::snapshot(policy);
        snapshot.posture_max_age = Some(Duration::from_secs(300));
        let session = verifier.verify(&bearer).unwrap();
        Self { device, session, bearer, verifier, request, snapshot }
    }

    fn cached(&self) {
        let decision = decide(&self.device, &self.session, black_box(&self.request), &self.snapshot, NOW);
        assert!(black_box(decision).outcome.is_ok());
    }

    fn with_token(&self) {
        let session = self.verifier.verify(black_box(&self.bearer)).unwrap();
        let decision = decide(&self.device, &session, black_box(&self.request), &self.snapshot, NOW);
        assert!(black_box(decision).outcome.is_ok());
    }
}

/// As an organisation writes it: two permits an app, by group; ten rules for every app.
fn usual() -> String {
    let permits = (0..POLICIES - 10).map(|n| {
        format!(
            "@id(\"permit-{n}\")\npermit(principal in Group::\"group-{n}\", action, resource == App::\"app-{}\");\n",
            n % 20
        )
    });
    permits.chain(forbids(10)).collect()
}

/// As no slice can help: every rule is for everybody and every app, and looks at the context.
fn worst() -> String {
    let permit = "@id(\"permit\")\npermit(principal, action, resource);\n".to_owned();
    std::iter::once(permit).chain(forbids(POLICIES - 1)).collect()
}

fn forbids(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| {
        format!(
            "@id(\"forbid-{n}\")\nforbid(principal, action == Action::\"request\", resource)\n\
             when {{ context.path like \"/admin-{n}/*\" && context.method != \"GET\" }}\n\
             unless {{ context has posture && context.posture.age < 600 }};\n"
        )
    })
}

fn benches(c: &mut Criterion) {
    for (name, policy, budgeted) in [("usual", usual(), true), ("worst", worst(), false)] {
        let scene = Scene::new(&policy);
        let budget = |micros| budgeted.then_some(Duration::from_micros(micros));
        c.bench_function(&format!("decide/{name}/cached token"), |b| b.iter(|| scene.cached()));
        c.bench_function(&format!("decide/{name}/token verified"), |b| b.iter(|| scene.with_token()));
        percentiles(&format!("decide/{name}/cached token"), budget(50), || scene.cached());
        percentiles(&format!("decide/{name}/token verified"), budget(200), || scene.with_token());
    }
}

/// Each call on its own: the mean of a batch would hide the tail.
fn percentiles(name: &str, budget: Option<Duration>, call: impl Fn()) {
    let mut times: Vec<Duration> = (0..50_000)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 1000];
    let verdict = match budget {
        Some(budget) if at(990) <= budget => format!("within the budget of {budget:?} at p99"),
        Some(budget) => format!("OVER the budget of {budget:?} at p99"),
        None => "no budget: no rule can be left out".into(),
    };
    let (p50, p90, p99, p999) = (at(500), at(900), at(990), at(999));
    println!("{name}: p50 {p50:?}  p90 {p90:?}  p99 {p99:?}  p99.9 {p999:?}  ({verdict})");
}

criterion_group!(decide_benches, benches);
criterion_main!(decide_benches);
