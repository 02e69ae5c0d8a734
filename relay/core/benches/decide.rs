//! `access::decide` at 50 policies and 20 groups: what one request costs the relay's core.
//!
//! Criterion tells means; the budget is for p99, so a histogram is measured too and printed at the end:
//! 50 us with a verified session at hand, 200 us with the session token's signature verified anew. Run it on an idle
//! machine: a busy sibling core doubles every figure.
//!
//! Machines differ and their speed varies by the minute, so every call is measured beside a yardstick: the bare
//! verification of a small EdDSA JWT. Where the budgets were set it took 28.4 us, and they are scaled by it.

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

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use criterion::{Criterion, criterion_group, criterion_main};
use fixture::NOW;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
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
    let yardstick = Yardstick::new();
    for (name, policy, budgeted) in [("usual", usual(), true), ("worst", worst(), false)] {
        let scene = Scene::new(&policy);
        c.bench_function(&format!("decide/{name}/cached token"), |b| b.iter(|| scene.cached()));
        c.bench_function(&format!("decide/{name}/token verified"), |b| b.iter(|| scene.with_token()));
        let (mut bare, mut cached, mut verified) = (Times::default(), Times::default(), Times::default());
        for _ in 0..50_000 {
            bare.time(|| yardstick.verify());
            cached.time(|| scene.cached());
            verified.time(|| scene.with_token());
        }
        let bare = bare.sorted();
        let pace = bare.at(500);
        println!("yardstick/one JWT verified: {}  (the budgets are scaled by its p50)", bare.row());
        for (kind, times, micros) in [("cached token", cached, 50), ("token verified", verified, 200)] {
            let times = times.sorted();
            let budget = budgeted.then_some(Duration::from_micros(micros));
            println!("decide/{name}/{kind}: {}{}", times.row(), times.verdict(budget, pace));
        }
    }
}

/// One small token verified, and nothing else.
struct Yardstick {
    key: DecodingKey,
    token: String,
    validation: Validation,
}

/// What one took on the machine that the budgets were set for.
const YARDSTICK_THERE: Duration = Duration::from_nanos(28_400);

impl Yardstick {
    fn new() -> Self {
        let der = fixture::pkcs8(&rcgen::PKCS_ED25519);
        let public = Ed25519KeyPair::from_pkcs8(&der).unwrap().public_key().as_ref().to_vec();
        let claims = serde_json::json!({ "sub": "alice", "exp": 4_000_000_000_u64 });
        let token =
            jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &EncodingKey::from_ed_der(&der)).unwrap();
        Self { key: DecodingKey::from_ed_der(&public), token, validation: Validation::new(Algorithm::EdDSA) }
    }

    fn verify(&self) {
        let read = jsonwebtoken::decode::<serde_json::Value>(black_box(&self.token), &self.key, &self.validation);
        assert!(black_box(read).is_ok());
    }
}

/// How long each call took on its own: the mean of a batch would hide the tail.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn time(&mut self, call: impl Fn()) {
        let start = Instant::now();
        call();
        self.0.push(start.elapsed());
    }

    fn sorted(mut self) -> Self {
        self.0.sort_unstable();
        self
    }

    /// The time that `share` thousandths stay within.
    fn at(&self, share: usize) -> Duration {
        self.0[self.0.len() * share / 1000]
    }

    fn row(&self) -> String {
        let (p50, p90, p99, p999) = (self.at(500), self.at(900), self.at(990), self.at(999));
        format!("p50 {p50:?}  p90 {p90:?}  p99 {p99:?}  p99.9 {p999:?}")
    }

    fn verdict(&self, budget: Option<Duration>, pace: Duration) -> String {
        let Some(budget) = budget else { return "  (no budget: no rule can be left out)".into() };
        let scaled = budget.mul_f64(pace.as_secs_f64() / YARDSTICK_THERE.as_secs_f64());
        let p99 = self.at(990);
        let word = |budget| if p99 <= budget { "within" } else { "OVER" };
        format!("  (p99 {} the budget of {budget:?}, {} the {scaled:?} it is at this pace)", word(budget), word(scaled))
    }
}

criterion_group!(decide_benches, benches);
criterion_main!(decide_benches);
