//! Slices and screens answer as Cedar does when it is asked the whole policy.

use super::*;
use cedar_policy::{AuthorizationError, Authorizer, Context, Decision, Effect, Entity, PolicySet};

/// What Cedar makes of a whole policy.
struct Whole {
    allowed: bool,
    determining: Vec<String>,
    /// The forbids that could not be evaluated.
    failing: Vec<String>,
}

/// Cedar's own answer over the whole policy, with nothing of ours between but the building of the request.
fn whole(set: &PolicySet, session: &VerifiedSession, request: &Request_, path: &str) -> Whole {
    let apps = apps();
    let app = apps.get(&request.app).unwrap();
    let subject = session.subject();
    let context: Context = context::build(&Facts { session, request, path, now: NOW }, &Uses::everything()).unwrap();
    let action = match request.action {
        Asked::Request { .. } => entity::request_action(),
        Asked::Connect { .. } => entity::connect_action(),
    };
    let question = Request::new(subject.uid().clone(), action, entity::app_uid(app), context, None).unwrap();
    // Every group is an entity here, as Cedar's documents have it.
    let groups =
        session.groups().iter().map(|group| Entity::new_no_attrs(entity::group_uid(group), Default::default()));
    let app_groups =
        app.groups.iter().map(|group| Entity::new_no_attrs(entity::app_group_uid(group), Default::default()));
    let known = subject.entities().iter().cloned().chain([entity::app_entity(app).unwrap()]);
    let entities = Entities::from_entities(known.chain(groups).chain(app_groups), None).unwrap();
    let response = Authorizer::new().is_authorized(&question, set, &entities);
    let failing = response.diagnostics().errors().map(|AuthorizationError::PolicyEvaluationError(e)| e.policy_id());
    let failing = failing.filter(|id| set.policy(id).map(cedar_policy::Policy::effect) == Some(Effect::Forbid));
    let failing = failing.map(ToString::to_string).collect();
    let mut determining: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    determining.sort();
    Whole { allowed: response.decision() == Decision::Allow, determining, failing }
}

/// Anything that can be true, false or, by an overflow, neither.
fn condition() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "context.host == \"wiki\"",
        "context.host != \"git\"",
        "context.weekday > 6",
        "context.weekday >= 8",
        "principal in Group::\"c\"",
        "principal.subject like \"a*\"",
        "resource in AppGroup::\"internal\"",
        "resource.kind == \"http\"",
        "App::\"wiki\" in AppGroup::\"internal\"",
        "(context has posture.disk_encrypted && context.posture.disk_encrypted)",
        "(context has posture.screen_lock && context.posture.screen_lock)",
        "(context has posture && context.posture.os == \"linux\")",
        "(context has auth_age && context.auth_age < 900)",
        "context.weekday * 9223372036854775807 > 0",
    ]);
    leaf.prop_map(String::from).prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            2 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            2 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            1 => inner.clone().prop_map(|a| format!("!({a})")),
            1 => (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("(if {a} then {b} else {c})")),
        ]
    })
}

/// `when` and `unless`, one to three.
fn clauses() -> impl Strategy<Value = String> {
    let clause = (prop::sample::select(vec!["when", "unless"]), condition());
    let clause = clause.prop_map(|(kind, condition)| format!("{kind} {{ {condition} }}"));
    prop::collection::vec(clause, 1..=3).prop_map(|clauses| clauses.join(" "))
}

fn rule() -> impl Strategy<Value = String> {
    let effect = prop::sample::select(vec!["permit", "forbid"]);
    let principal = prop_oneof![
        2 => Just("principal".to_owned()),
        1 => Just("principal is User".to_owned()),
        1 => Just(format!("principal == User::\"{}#alice\"", fixture::PROVIDER)),
        1 => Just(format!("principal in User::\"{}#bob\"", fixture::PROVIDER)),
        4 => "[a-d]".prop_map(|group| format!("principal in Group::\"{group}\"")),
        2 => "[a-d]".prop_map(|group| format!("principal is User in Group::\"{group}\"")),
    ];
    let action = prop_oneof![
        2 => Just("action"),
        1 => Just("action == Action::\"request\""),
        1 => Just("action == Action::\"connect\""),
        1 => Just("action in [Action::\"connect\", Action::\"request\"]"),
    ];
    let resource = prop_oneof![
        2 => Just("resource"),
        1 => Just("resource is App"),
        2 => Just("resource == App::\"wiki\""),
        1 => Just("resource in App::\"db\""),
        2 => Just("resource in AppGroup::\"internal\""),
        1 => Just("resource is App in AppGroup::\"internal\""),
        1 => Just("resource == App::\"git\""),
    ];
    let plain = prop_oneof![
        3 => Just(""),
        1 => Just("when { context has path && context.path like \"/a*\" }"),
        1 => Just("unless { principal in Group::\"c\" }"),
        1 => Just("when { context has posture.disk_encrypted && context.posture.disk_encrypted }"),
        1 => Just("when { resource in AppGroup::\"internal\" && resource.kind == \"http\" }"),
        1 => Just("unless { context.source_ip.isInRange(ip(\"192.0.2.0/24\")) }"),
        1 => Just("when { context.weekday == 7 && context.time.toTime() > duration(\"12h\") }"),
        1 => Just("unless { context has auth_age && context.auth_age < 900 && context.amr.contains(\"otp\") }"),
        1 => Just("when { context has acr || context.host == \"wiki\" }"),
    ];
    let condition = prop_oneof![plain.prop_map(String::from), clauses()];
    let possible = |a: &str, c: &str| a != "action == Action::\"connect\"" || !c.contains("path");
    (effect, principal, action, resource, condition)
        .prop_filter("no stream has a path", move |(_, _, a, _, c)| possible(a, c))
        .prop_map(|(e, p, a, r, c)| format!("{e}({p}, {a}, {r}) {c};"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Slicing and screening drop no rule that could apply: answer and determining rules are those of the whole policy. A
    /// forbid that Cedar could not evaluate allows nothing.
    #[test]
    fn a_slice_answers_as_the_whole_policy(
        rules in prop::collection::vec(rule(), 0..12),
        subject in "(alice|bob|eve)",
        groups in prop::collection::btree_set("[a-e]", 0..4),
        app in "(wiki|git|db|vault)",
        path in "/[ab]{0,2}",
        healthy: bool,
    ) {
        let text: String = rules.iter().enumerate().map(|(n, rule)| format!("@id(\"r{n}\") {rule}\n")).collect();
        let rules = load::rules(&text, &apps()).unwrap();
        let slices = slice::by_app(&rules, &apps()).unwrap();
        let policy = Policy { apps: apps(), slices, rules: Vec::new(), text: "".into() };
        let set = PolicySet::from_policies(rules.into_iter().map(|rule| rule.policy)).unwrap();
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        static DEVICE: std::sync::LazyLock<crate::certificate::VerifiedDevice> = std::sync::LazyLock::new(device);
        let session = session(&DEVICE, &subject, &groups);
        let mut request = if app == "db" { connect(&app, 5432) } else { get(&app, &path) };
        request.posture = healthy.then(|| posture(Duration::ZERO));
        let mut verdict = asked(&policy, &session, &request, &path);
        verdict.policies.sort();
        let Whole { allowed, determining, failing } = whole(&set, &session, &request, &path);
        if failing.is_empty() {
            prop_assert_eq!((verdict.allowed, verdict.policies), (allowed, determining));
        } else {
            let told = !verdict.policies.is_empty() && verdict.policies.iter().all(|id| failing.contains(id));
            prop_assert!(!verdict.allowed && told, "{:?} of {failing:?}", verdict.policies);
        }
    }
}
