//! The decision: each check denies by itself, the order holds, nothing leaks, nobody is let in for another.

mod step_up;

use super::*;
use crate::fixture::{self, NOW, bearer, connect, device, get, grant, policy, posture, session, session_signer};
use crate::revocation::Target;
use postern_protocol::SpiffeId;
use proptest::prelude::*;
use std::sync::LazyLock;

const RULES: &str = r#"
@id("staff") permit(principal in Group::"staff", action, resource in AppGroup::"internal");
@id("git") @reason("Git is for developers.") @fix("Ask to join developers.")
permit(principal in Group::"developers", action, resource == App::"git");
@id("wiki-admin") @reason("Only editors administer.") @fix("Ask an editor.")
forbid(principal, action == Action::"request", resource == App::"wiki")
when { context.path like "/admin/*" } unless { principal in Group::"wiki-editors" };
"#;

const DAY: Duration = Duration::from_secs(86_400);
const MINUTE: Duration = Duration::from_secs(60);

static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| policy(RULES));

/// All that a decision depends on; as it stands, it ends in an allow.
#[derive(Clone)]
struct Case {
    device: VerifiedDevice,
    session: VerifiedSession,
    request: Request,
    snapshot: Snapshot,
    now: Timestamp,
}

impl Case {
    fn new() -> Self {
        let device = device();
        let session = session(&device, "alice", &["staff"]);
        let mut snapshot = fixture::snapshot(POLICY.clone());
        snapshot.posture_max_age = Some(5 * MINUTE);
        let mut request = get("wiki", "/pages/1");
        request.posture = Some(posture(MINUTE));
        Self { device, session, request, snapshot, now: NOW }
    }

    fn asking(request: Request) -> Self {
        let mut case = Self::new();
        case.request = Request { posture: case.request.posture.clone(), ..request };
        case
    }

    fn revoke(&mut self, target: Target) {
        let mut revocations = (*self.snapshot.revocations).clone();
        revocations.insert(target);
        self.snapshot.revocations = Arc::new(revocations);
    }

    fn decide(&self) -> Decision {
        decide(&self.device, &self.session, &self.request, &self.snapshot, self.now)
    }

    fn code(&self) -> Option<Code> {
        self.decide().outcome.err().map(|denial| denial.code)
    }
}

/// One way to fail, and the code it must fail with.
type Spoil = (&'static str, Code, fn(&mut Case));

/// In the order of the checks.
const SPOILS: [Spoil; 14] = [
    ("certificate ended", Code::CertificateExpired, |c| {
        let der = fixture::certificate(NOW.minus(DAY), MINUTE);
        let old = crate::certificate::verify_device(&der, &fixture::domain(), NOW.minus(DAY)).unwrap();
        replace_device(c, old);
    }),
    ("device revoked", Code::DeviceRevoked, |c| c.revoke(Target::Device(c.device.id().clone()))),
    ("principal revoked", Code::PrincipalRevoked, |c| c.revoke(Target::Principal(c.session.principal().clone()))),
    ("session revoked", Code::SessionRevoked, |c| c.revoke(Target::Session(c.session.session().clone()))),
    ("token ended", Code::TokenExpired, |c| replace_times(c, NOW.minus(6 * MINUTE))),
    ("token not begun", Code::TokenInvalid, |c| replace_times(c, NOW.plus(2 * MINUTE))),
    ("token of another certificate", Code::TokenWrongDevice, |c| {
        let mut grant = c.session.grant().clone();
        grant.certificate = device().thumbprint().into();
        c.session = verified(&grant);
    }),
    ("token of another device", Code::TokenWrongDevice, |c| {
        let mut grant = c.session.grant().clone();
        grant.device = device().id().clone();
        c.session = verified(&grant);
    }),
    ("rate exceeded", Code::RateLimited, |c| c.request.within_rate = false),
    ("path ambiguous", Code::PathAmbiguous, |c| {
        c.request.action = Action::Request { method: "GET".into(), path: "/a/../admin".into() };
    }),
    ("app unknown", Code::AppUnknown, |c| c.request.app = "nowhere".parse().unwrap()),
    ("kind differs", Code::AppKindMismatch, |c| c.request.app = "db".parse().unwrap()),
    ("posture stale", Code::PostureStale, |c| c.request.posture = Some(posture(6 * MINUTE))),
    ("policy says no", Code::PolicyDenied, |c| {
        let mut grant = c.session.grant().clone();
        grant.groups.clear();
        let (from, to) = (c.session.not_before(), c.session.expires());
        c.session = signed(&grant, from, to.since(from));
    }),
];

fn verified(grant: &crate::token::SessionGrant) -> VerifiedSession {
    session_signer().verifier().verify(&bearer(grant)).unwrap()
}

fn signed(grant: &crate::token::SessionGrant, at: Timestamp, lifetime: Duration) -> VerifiedSession {
    use secrecy::ExposeSecret;
    let token = session_signer().sign(grant, at, lifetime, 1).unwrap();
    session_signer().verifier().verify(token.expose_secret()).unwrap()
}

/// The token issued at another time, all else alike.
fn replace_times(case: &mut Case, issued: Timestamp) {
    case.session = signed(&case.session.grant().clone(), issued, 5 * MINUTE);
}

/// Another device, with the token bound to it.
fn replace_device(case: &mut Case, device: VerifiedDevice) {
    let mut grant = case.session.grant().clone();
    (grant.device, grant.certificate) = (device.id().clone(), device.thumbprint().into());
    case.session = verified(&grant);
    case.device = device;
}

#[test]
fn as_it_stands_it_is_allowed() {
    let case = Case::new();
    let decision = case.decide();
    let permit = decision.outcome.unwrap();
    assert_eq!(decision.policies, ["staff"]);
    assert_eq!((permit.app().name.as_str(), permit.principal().subject()), ("wiki", "alice"));
    assert_eq!((permit.device(), permit.session()), (case.device.id(), case.session.session()));
    assert_eq!((permit.decision(), decision.cause), (&case.request.id, None));
}

#[test]
fn each_check_denies_where_it_alone_fails() {
    for (name, code, spoil) in SPOILS {
        let mut case = Case::new();
        spoil(&mut case);
        let decision = case.decide();
        assert_eq!(decision.outcome.unwrap_err().code, code, "{name}");
        assert_eq!(decision.cause, Some(code), "{name}");
    }
}

#[test]
fn the_order_of_the_checks_holds() {
    // With two spoilt, the earlier check speaks.
    for (n, (first, code, spoil)) in SPOILS.iter().enumerate() {
        for (second, _, spoil_more) in &SPOILS[n + 1..] {
            let mut case = Case::new();
            spoil_more(&mut case);
            spoil(&mut case);
            assert_eq!(case.code(), Some(*code), "{first}, then {second}");
        }
    }
}

#[test]
fn a13_a29_a_token_is_good_on_its_own_certificate_only() {
    let (alice, mallory) = (Case::new(), Case::new());
    let theft = Case { device: mallory.device.clone(), ..alice.clone() };
    assert_eq!(theft.code(), Some(Code::TokenWrongDevice));
    let mut renewed = alice.clone();
    let own = grant(&alice.device, "alice", &["staff"]);
    renewed.session = verified(&own);
    assert_eq!(renewed.code(), None);
}

#[test]
fn validity_is_judged_anew_by_every_decision() {
    let mut case = Case::new();
    case.snapshot.posture_max_age = None;
    for (now, code) in [
        (NOW.plus(5 * MINUTE).minus(Duration::from_millis(1)), None),
        (NOW.plus(5 * MINUTE), Some(Code::TokenExpired)),
        (NOW.plus(2 * DAY), Some(Code::CertificateExpired)),
        (NOW.minus(DAY), Some(Code::CertificateInvalid)),
    ] {
        case.now = now;
        assert_eq!(case.code(), code, "{now}");
    }
}

#[test]
fn a_permit_ends_with_the_first_of_token_posture_and_certificate() {
    let deadline = |case: &Case| case.decide().outcome.unwrap().deadline();
    let mut case = Case::new();
    assert_eq!(deadline(&case), NOW.plus(4 * MINUTE), "the posture's");
    case.snapshot.posture_max_age = None;
    assert_eq!(deadline(&case), NOW.plus(5 * MINUTE), "the token's");
    let der = fixture::certificate(NOW, 2 * MINUTE);
    replace_device(&mut case, crate::certificate::verify_device(&der, &fixture::domain(), NOW).unwrap());
    assert_eq!(deadline(&case), NOW.plus(2 * MINUTE), "the certificate's");
}

#[test]
fn streams_are_decided_too_and_only_on_their_port() {
    assert_eq!(Case::asking(connect("db", 5432)).code(), None);
    assert_eq!(Case::asking(connect("db", 22)).code(), Some(Code::AppKindMismatch));
    assert_eq!(Case::asking(connect("wiki", 8080)).code(), Some(Code::AppKindMismatch));
    assert_eq!(Case::asking(get("db", "/")).code(), Some(Code::AppKindMismatch));
}

#[test]
fn a_refusal_speaks_the_authors_words_and_never_the_policy() {
    let denial = |case: &Case| case.decide().outcome.unwrap_err();
    let git = denial(&Case::asking(get("git", "/")));
    assert_eq!(git.reason.as_deref(), Some("Git is for developers."));
    assert_eq!(git.fix.as_deref(), Some("Ask to join developers."));
    let admin = Case::asking(get("wiki", "/admin/users"));
    assert_eq!(denial(&admin).reason.as_deref(), Some("Only editors administer."));
    assert_eq!(admin.decide().policies, ["wiki-admin"]);
    let problem = serde_json::to_string(&denial(&admin).problem()).unwrap();
    assert!(!problem.contains("wiki-admin") && !problem.contains("forbid"), "{problem}");
}

#[test]
fn a46_no_spelling_of_a_path_slips_past_a_rule() {
    for path in [
        "/admin/users",
        "/%61dmin/users",
        "/admin%2Fusers",
        "/%2561dmin%2fusers",
        "/admin;x/users",
        "/admin;/users",
        "/;/admin/users",
        "//admin/users",
        "/./admin/users",
        "/x/../admin/users",
        "/%2e%2e/admin/users",
        "/\\admin/users",
        "/%5cadmin/users",
        "/admin/%2e/users",
        "/%2561dmin/users",
        "/admin%00/users",
        "/x#/admin/users",
    ] {
        let code = Case::asking(get("wiki", path)).code();
        assert!(matches!(code, Some(Code::PolicyDenied | Code::PathAmbiguous)), "{path}: {code:?}");
    }
    for path in ["/", "/administration", "/pages/a%20b;v=1", "/group%2Fproject", "/C%23/", "/caf%C3%A9"] {
        assert_eq!(Case::asking(get("wiki", path)).code(), None, "{path}");
    }
}

#[test]
fn a_hidden_app_and_an_unknown_one_give_the_same_bytes() {
    let told = |case: &Case| {
        let decision = case.decide();
        serde_json::to_string(&decision.outcome.unwrap_err().problem()).unwrap()
    };
    let stranger = |request: Request| {
        let mut case = Case::asking(request);
        case.session = session(&case.device, "eve", &[]);
        case
    };
    for (hidden, unknown) in [
        (get("vault", "/"), get("nowhere", "/")),
        (connect("vault", 22), connect("nowhere", 22)),
        (get("vault", "/../x"), get("nowhere", "/../x")),
    ] {
        let (mut hidden, mut unknown) = (stranger(hidden), stranger(unknown));
        assert_eq!(told(&hidden), told(&unknown));
        // Nor does a stale posture or an exceeded rate tell.
        (hidden.request.posture, unknown.request.posture) = (None, None);
        assert_eq!(told(&hidden), told(&unknown));
        (hidden.request.within_rate, unknown.request.within_rate) = (false, false);
        assert_eq!(told(&hidden), told(&unknown));
    }
    let hidden = stranger(get("vault", "/"));
    assert_eq!(hidden.decide().cause, Some(Code::PolicyDenied), "the audit log knows better");
}

#[test]
fn whom_the_policy_lets_in_a_hidden_app_is_an_app() {
    let mut case = Case::asking(get("vault", "/"));
    assert_eq!(case.code(), None);
    case.request.posture = None;
    assert_eq!(case.code(), Some(Code::PostureStale), "so that the agent can report");
}

#[test]
fn the_list_of_apps_is_what_requests_would_be_told() {
    let list = |case: &Case| {
        let posture = case.request.posture.as_ref();
        visible(&case.device, &case.session, case.request.source, posture, &case.snapshot, case.now)
    };
    let names = |case: &Case| {
        let listed = list(case).unwrap();
        listed.iter().map(|app| (app.name.to_string(), app.allowed)).collect::<Vec<_>>()
    };
    let mut case = Case::new();
    let entry = |name: &str, allowed| (name.to_owned(), allowed);
    assert_eq!(names(&case), [entry("db", true), entry("git", false), entry("vault", true), entry("wiki", true)]);
    let listed = list(&case).unwrap();
    assert_eq!((listed[0].port, listed[1].port), (Some(5432), None));
    assert_eq!(listed[1].fix.as_deref(), Some("Ask to join developers."));
    case.session = session(&case.device, "eve", &[]);
    assert_eq!(names(&case), [entry("db", false), entry("git", false), entry("wiki", false)], "hidden stays hidden");
    case.revoke(Target::Device(case.device.id().clone()));
    assert_eq!(list(&case).unwrap_err().code, Code::DeviceRevoked);
}

#[test]
fn a45_no_claim_of_a_proxy_is_part_of_a_decision() {
    // A request holds no header at all; its source is the connection's. Two that differ in source only differ in
    // what the policy says of the source, and here it says nothing.
    let (one, mut other) = (Case::new(), Case::new());
    other.request.source = "203.0.113.9".parse().unwrap();
    assert_eq!(one.code(), other.code());
}

#[test]
fn a50_concurrent_decisions_cross_no_wires() {
    let people: Vec<Case> = (0..32_usize)
        .map(|n| {
            let mut case = Case::new();
            let groups: &[&str] = if n.is_multiple_of(2) { &["staff"] } else { &["developers"] };
            case.session = session(&case.device, &format!("user-{n}"), groups);
            case
        })
        .collect();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let people = &people;
            scope.spawn(move || {
                for round in 0..1500 {
                    let n = (round * 7 + worker * 13) % people.len();
                    let (wiki, git) = (&people[n], Case { request: get("git", "/"), ..people[n].clone() });
                    let git = Case {
                        request: Request { posture: wiki.request.posture.clone(), ..git.request.clone() },
                        ..git
                    };
                    let staff = n.is_multiple_of(2);
                    let subject = format!("user-{n}");
                    for (case, allowed) in [(wiki, staff), (&git, !staff)] {
                        let outcome = case.decide().outcome;
                        assert_eq!(outcome.is_ok(), allowed, "{subject}");
                        if let Ok(permit) = outcome {
                            assert_eq!(permit.principal().subject(), subject);
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn proofs_can_be_shared_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<Snapshot>();
    check::<VerifiedSession>();
    check::<VerifiedDevice>();
    check::<Permit>();
    let _: SpiffeId = format!("spiffe://corp.example/device/{}", device().id()).parse().unwrap();
}

proptest! {
    /// Total: any method, path, host, port and time ends in a verdict.
    #[test]
    fn a30_decisions_never_panic(method in ".*", path in ".*", host in ".*", port: u16, millis: u64, tcp: bool) {
        static CASE: LazyLock<Case> = LazyLock::new(Case::new);
        let action = if tcp { Action::Connect { port } } else { Action::Request { method, path } };
        let case = Case { request: Request { action, host, ..CASE.request.clone() }, ..CASE.clone() };
        let _ = case.decide();
        let _ = Case { now: Timestamp::from_millis(millis), ..case }.decide();
    }
}
