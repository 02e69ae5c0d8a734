//! Denials that a fresh or stronger sign-in would mend.

use super::*;

/// What step-up rests on: `old` and `weak` forbid until a fresh, or strong, sign-in; `closed` forbids `/closed` whatever
/// the sign-in; `git` permits fresh sign-ins of developers alone.
const STEP_UP: &str = r#"
@id("staff") permit(principal in Group::"staff", action, resource in AppGroup::"internal");
@id("old") @reason("Old.") @max_age("300")
forbid(principal, action == Action::"request", resource)
when { context.path like "/old*" } unless { context has auth_age && context.auth_age < 300 };
@id("weak") @reason("Weak.") @fix("Use the key.") @acr_values("gold silver") @max_age("900")
forbid(principal, action == Action::"request", resource)
when { context.path like "*weak*" } unless { context has acr && ["gold", "silver"].contains(context.acr) && context has auth_age && context.auth_age < 900 };
@id("gold") @acr_values("gold") forbid(principal, action == Action::"request", resource)
when { context.path like "*gold*" } unless { context has acr && context.acr == "gold" };
@id("closed") @reason("Closed.") forbid(principal, action == Action::"request", resource)
when { context.path like "*closed*" };
@id("git") @reason("Fresh developers only.") @max_age("60") permit(principal in Group::"developers", action, resource == App::"git")
when { context has auth_age && context.auth_age < 60 };
@id("db") @max_age("60") forbid(principal, action == Action::"connect", resource)
unless { context has auth_age && context.auth_age < 60 };
"#;

/// `subject` in `groups` asks for `request`; the sign-in is `age` old and of class `acr`.
fn signed_in(request: Request, groups: &[&str], age: Option<Duration>, acr: Option<&str>) -> Case {
    static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| policy(STEP_UP));
    let mut case = Case::asking(request);
    case.snapshot.policy = POLICY.clone();
    let mut own = grant(&case.device, "alice", groups);
    (own.auth_time, own.acr) = (age.map(|age| NOW.minus(age)), acr.map(String::from));
    case.session = verified(&own);
    case
}

fn step_up(max_age: Option<u64>, acr_values: Option<&str>) -> Option<StepUp> {
    Some(StepUp { max_age, acr_values: acr_values.map(String::from) })
}

#[test]
fn a_denial_that_a_sign_in_would_mend_asks_for_it() {
    let old = Some(10 * MINUTE);
    let asked = |path: &str, age, acr| {
        let decision = signed_in(get("wiki", path), &["staff"], age, acr).decide();
        decision.outcome.err().map(|denial| (denial.code, denial.step_up, decision.policies))
    };
    let ids = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let needed = |step_up, policies| Some((Code::StepUpRequired, step_up, ids(policies)));
    assert_eq!(asked("/", old, None), None);
    assert_eq!(asked("/old", old, None), needed(step_up(Some(300), None), &["old"]));
    assert_eq!(asked("/old", None, None), needed(step_up(Some(300), None), &["old"]), "no time is no fresh one");
    assert_eq!(asked("/old", Some(MINUTE), None), None);
    assert_eq!(asked("/weak", Some(MINUTE), None), needed(step_up(Some(900), Some("gold silver")), &["weak"]));
    assert_eq!(
        asked("/weak", Some(MINUTE), Some("bronze")),
        needed(step_up(Some(900), Some("gold silver")), &["weak"])
    );
    assert_eq!(asked("/weak", old, Some("silver")), None);
    // Two that ask: the stricter age, the classes that satisfy both.
    assert_eq!(asked("/old/weak", old, None), needed(step_up(Some(300), Some("gold silver")), &["old", "weak"]));
    assert_eq!(asked("/weak/gold", old, None), needed(step_up(Some(900), Some("gold")), &["weak", "gold"]));
}

#[test]
fn no_sign_in_is_asked_for_where_it_would_not_help() {
    let old = Some(10 * MINUTE);
    let told = |request: Request, groups: &[&str], age, acr| {
        let denial = signed_in(request, groups, age, acr).decide().outcome.unwrap_err();
        assert_eq!(denial.step_up.is_some(), denial.code == Code::StepUpRequired);
        (denial.code, denial.reason.unwrap_or_default())
    };
    // Another forbid strikes too, with and without an annotation together.
    assert_eq!(told(get("wiki", "/old/closed"), &["staff"], old, None).0, Code::PolicyDenied);
    // Nothing permits it.
    assert_eq!(told(get("wiki", "/old"), &[], old, None).0, Code::PolicyDenied);
    assert_eq!(told(get("git", "/old"), &["staff"], old, None).0, Code::PolicyDenied);
    // A permit whose condition fails asks, but only whom it names, and not whose sign-in is fresh already.
    let fresh = "Fresh developers only.".to_owned();
    assert_eq!(told(get("git", "/"), &["developers"], old, None), (Code::StepUpRequired, fresh.clone()));
    assert_eq!(told(get("git", "/"), &["staff"], old, None), (Code::PolicyDenied, fresh));
    assert_eq!(signed_in(get("git", "/"), &["developers"], Some(MINUTE / 2), None).code(), None);
    let both = signed_in(get("git", "/old"), &["developers"], old, None).decide();
    assert_eq!(
        both.outcome.unwrap_err().step_up,
        step_up(Some(60), None),
        "forbid and permit ask, the stricter counts"
    );
    assert_eq!(both.policies, ["old"]);
    // An earlier check has failed: its code stands.
    let mut stale = signed_in(get("wiki", "/old"), &["staff"], old, None);
    stale.request.posture = Some(posture(6 * MINUTE));
    assert_eq!(stale.code(), Some(Code::PostureStale));
    // One reading of the path is closed for good.
    assert_eq!(told(get("wiki", "/old;closed"), &["staff"], old, None).0, Code::PolicyDenied);
}

#[test]
fn a_sign_in_that_is_fresh_and_still_denied_is_not_asked_for_again() {
    let rule = r#"
        @id("all") permit(principal, action, resource);
        @id("second") @max_age("300") forbid(principal, action, resource)
        unless { context has auth_age && context.auth_age < 300 && context.amr.contains("hwk") };"#;
    let mut case = signed_in(get("wiki", "/"), &[], Some(MINUTE), None);
    case.snapshot.policy = policy(rule);
    assert_eq!(case.code(), Some(Code::PolicyDenied));
    let mut case = signed_in(get("wiki", "/"), &[], Some(5 * MINUTE), None);
    case.snapshot.policy = policy(rule);
    assert_eq!(case.code(), Some(Code::StepUpRequired));
}

#[test]
fn a_hidden_app_asks_only_whom_it_would_open_to() {
    let old = Some(10 * MINUTE);
    let code = |path: &str, groups: &[&str]| signed_in(get("vault", path), groups, old, None).decide();
    assert_eq!(code("/old", &["staff"]).outcome.unwrap_err().code, Code::StepUpRequired);
    let stranger = code("/old", &[]);
    assert_eq!((stranger.outcome.unwrap_err(), stranger.cause), (Code::AppUnknown.into(), Some(Code::PolicyDenied)));
}

#[test]
fn the_list_of_apps_says_which_sign_in_is_missing() {
    let case = signed_in(get("wiki", "/"), &["staff", "developers"], Some(10 * MINUTE), None);
    let list =
        visible(&case.device, &case.session, case.request.source, case.request.posture.as_ref(), &case.snapshot, NOW);
    let told: Vec<_> = list.unwrap().into_iter().map(|app| (app.name.to_string(), app.allowed, app.step_up)).collect();
    let expected = [
        ("db", false, step_up(Some(60), None)),
        ("git", false, step_up(Some(60), None)),
        ("vault", true, None),
        ("wiki", true, None),
    ];
    assert_eq!(told, expected.map(|(name, allowed, asked)| (name.to_owned(), allowed, asked)));
}
