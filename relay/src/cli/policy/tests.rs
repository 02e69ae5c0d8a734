//! The policy tools, over files and a log that a relay wrote.

use super::*;
use crate::testing::{TestDevice, TestRelay};
use postern_protocol::{DecisionId, Timestamp};
use postern_relay_core::access::{Action, Request, decide};
use postern_relay_core::audit::{Event, Record};
use postern_relay_core::policy::SHA256_IS;

const POLICY: &str = r#"
@id("staff") permit (principal in Group::"staff", action, resource in AppGroup::"internal");
@id("closed") @reason("Closed for good.") @fix("Look elsewhere.")
forbid (principal, action == Action::"request", resource) when { context.path like "/closed*" };
@id("fresh") @max_age("300") forbid (principal, action == Action::"request", resource)
when { context.path == "/settings" } unless { context has auth_age && context.auth_age < 300 };
"#;

const DB: &str = "[[app]]\nname = \"db\"\nkind = \"tcp\"\nupstream = \"tcp://127.0.0.1:5432\"\ngroups = [\"internal\"]";

/// A relay with [`POLICY`], and what commands know of it.
async fn world() -> (TestRelay, Outline) {
    let mut world = TestRelay::with(DB).await;
    std::fs::write(world.home.join("policy.cedar"), POLICY).unwrap();
    world.restart().await;
    let outline = config::outline(&world.home.join("relay.toml"), None).unwrap_or_else(|faults| panic!("{faults:?}"));
    (world, outline)
}

fn asked(world: &TestRelay, path: &str) -> Request {
    Request {
        id: world.relay.clock.decision_id(),
        app: "wiki".parse().unwrap(),
        action: Action::Request { method: "GET".into(), path: path.into() },
        host: "wiki".into(),
        source: "192.0.2.7".parse().unwrap(),
        within_rate: true,
        posture: None,
    }
}

/// Decides and records as the gate does.
async fn decided(world: &TestRelay, device: &TestDevice, path: &str) -> DecisionId {
    let session = world.relay.verifier.verify(device.token.as_ref().unwrap()).unwrap();
    let mut request = asked(world, path);
    request.posture = world.relay.postures.get(session.session());
    let (verified, now) = (device.verified(), world.relay.clock.now());
    let decision = decide(&verified, &session, &request, &world.relay.snapshot.load(), now);
    world.relay.audit.record(Record::decision(&verified, &session, &request, &decision, now)).await.unwrap();
    decision.id
}

fn answers(outline: &Outline, text: &str) -> Result<Vec<String>, Vec<String>> {
    let file = outline.policy_file.with_file_name("cases.toml");
    std::fs::write(&file, text).unwrap();
    match cases::judged(outline, &file, None) {
        Ok(judged) => Ok(judged.iter().map(|(case, answer)| cases::as_text(case, answer)).collect()),
        Err(Failure::Faults(faults)) => Err(faults.iter().map(|f| format!("{}: {}", f.line, f.message)).collect()),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn cases_are_decided_as_requests_are() {
    let (_world, outline) = world().await;
    let told = answers(
        &outline,
        r#"
        [[case]]
        name = "staff read"
        principal = { subject = "ada", groups = ["staff"] }
        app = "wiki"
        expect = "allow"
        policies = ["staff"]
        [[case]]
        name = "closed"
        principal = { subject = "ada", groups = ["staff"], issuer = "https://elsewhere.example" }
        device = "00112233445566778899aabbccddeeff"
        app = "wiki"
        method = "POST"
        path = "/closed/x"
        expect = "deny"
        code = "policy_denied"
        policies = ["closed"]
        [[case]]
        name = "fresh"
        principal = { subject = "ada", groups = ["staff"] }
        app = "wiki"
        path = "/settings"
        context = { auth_age = 299, time = 2026-11-23T09:30:00Z, source_ip = "192.0.2.7", amr = ["otp"], acr = "a" }
        expect = "allow"
        [[case]]
        name = "old"
        principal = { subject = "ada", groups = ["staff"] }
        app = "wiki"
        path = "/settings"
        context = { auth_age = 300 }
        expect = "deny"
        code = "step_up_required"
        [[case]]
        name = "stale"
        principal = { subject = "ada", groups = ["staff"] }
        app = "db"
        context = { posture = { age = 301, disk_encrypted = true } }
        expect = "deny"
        code = "posture_stale"
        [[case]]
        name = "stream"
        principal = { subject = "ada", groups = ["staff"] }
        app = "db"
        expect = "allow"
        [[case]]
        name = "wrong answer"
        principal = { subject = "bob" }
        app = "wiki"
        expect = "allow"
        [[case]]
        name = "wrong code"
        principal = { subject = "bob" }
        app = "wiki"
        path = "/a/../b"
        expect = "deny"
        code = "policy_denied"
        [[case]]
        name = "wrong policy"
        principal = { subject = "ada", groups = ["staff"] }
        app = "wiki"
        expect = "allow"
        policies = ["staff", "closed"]
        "#,
    )
    .unwrap();
    let (good, bad): (Vec<_>, Vec<_>) = told.iter().partition(|line| line.starts_with("ok "));
    assert_eq!(good.len(), 6, "{told:#?}");
    assert_eq!(
        bad,
        [
            "FAIL  wrong answer: expected allow, got deny (policy_denied)",
            "FAIL  wrong code: expected deny (policy_denied), got deny (path_ambiguous)",
            "FAIL  wrong policy: expected allow by closed, staff, got allow by staff",
        ]
    );
}

#[tokio::test]
async fn mistakes_in_the_cases_are_told_all_at_once() {
    let (_world, outline) = world().await;
    let told = answers(
        &outline,
        "[[case]]\nname = 7\nprincipal = { groups = [\"a\"] }\napp = \"W\"\nexpect = \"maybe\"\n\
         [[case]]\nname = \"b\"\nprincipal = { subject = \"ada\", gruops = [] }\napp = \"wiki\"\nexpect = \"allow\"\n\
         code = \"nonsense\"\npolicies = [\"none\"]\ncontext = { time = \"noon\", source_ip = \"here\", auth_age = -1 }\n\
         [[case]]\nname = \"c\"\nprincipal = { subject = \"ada\" }\napp = \"db\"\nmethod = \"GET\"\nexpect = \"deny\"\n\
         [case.context.posture]\nfirewall = \"on\"\n",
    )
    .unwrap_err();
    for part in [
        "2: `case.name` must be text",
        "3: `principal.subject` is missing",
        "4: `case.app`",
        "5: `case.expect`: \"maybe\"",
        "8: unknown key `principal.gruops`",
        "11: `case.code`: there is no code \"nonsense\"",
        "12: there is no policy \"none\"",
        "13: `context.time`: \"noon\" is no time",
        "13: `context.source_ip`",
        "13: `context.auth_age`",
        "14: a stream has no method",
        "21: `posture.firewall` must be true or false",
    ] {
        assert!(told.iter().any(|line| line.starts_with(part)), "{part}\nin {told:#?}");
    }
    assert_eq!(answers(&outline, "[[case]\n").unwrap_err().len(), 1);
    // A misspelt app would be denied as expected, and prove nothing.
    let typo = "[[case]]\nname = \"typo\"\nprincipal = { subject = \"ada\" }\napp = \"wikki\"\nexpect = \"deny\"\n";
    assert_eq!(answers(&outline, typo).unwrap_err(), ["4: there is no app `wikki` in the configuration"]);
    assert_eq!(
        answers(&outline, &format!("{typo}code = \"app_unknown\"")).unwrap(),
        ["ok    typo: deny (app_unknown)"]
    );
}

#[tokio::test]
async fn a_decision_is_explained_from_the_log_and_from_rotated_ones() {
    let (world, outline) = world().await;
    let mut ada = world.signed_in("ada").await;
    let loaded = format!("{SHA256_IS}{}", world.relay.snapshot.load().policy.thumbprint());
    let load_of = Record::event(Event::PolicyLoad, world.relay.clock.now()).detail(loaded);
    world.relay.audit.record(load_of).await.unwrap();
    let denied = decided(&world, &ada, "/closed").await;
    world.relay.audit.rotate().await.unwrap();
    let allowed = decided(&world, &ada, "/").await;
    let explained = |id: &DecisionId| {
        let (line, entry) = History::of(&outline).find(id.as_str()).unwrap().expect("it is in a log");
        let policy = load(&outline, &outline.policy_file).ok();
        let today = explain::today(&outline, &entry, policy.as_deref());
        let then = History::of(&outline).policy_at(entry.time.unwrap());
        let edited = policy.as_deref().zip(then).map(|(policy, then)| policy.thumbprint() != then);
        let text = explain::as_text(&entry, policy.as_deref(), &today, edited, &outline).join("\n");
        (explain::as_json(&line, &entry, policy.as_deref(), &today, edited), text)
    };
    let (json, text) = explained(&denied);
    assert_eq!((&json["today"]["same"], &json["today"]["code"]), (&true.into(), &"policy_denied".into()));
    assert_eq!(json["policies"][0]["id"], "closed");
    assert!(json["policies"][0]["source"].as_str().unwrap().contains("like \"/closed*\""));
    assert_eq!(json["record"]["context"]["groups"][0], "staff");
    for part in [
        "ada of http://127.0.0.1",
        "request GET /closed",
        "deny (policy_denied)",
        "reason: Closed for good.",
        "fix:    Look elsewhere.",
        "| forbid (principal",
        "in Group::\"staff\"",
        "App::\"wiki\" in AppGroup::\"internal\"",
        "posture",
        "Today's policy decides the same",
    ] {
        assert!(text.contains(part), "{part}\nin {text}");
    }
    assert!(json["policy_edited_since"] == false && !text.contains("edited since"), "{json}");
    let (json, _) = explained(&allowed);
    assert_eq!((&json["record"]["result"], &json["policies"][0]["effect"]), (&"allow".into(), &"permit".into()));
    // Nothing permits it: which permits there are, and whom they are for.
    let mut claims = world.idp.claims("ada");
    claims["groups"] = serde_json::json!(["guests"]);
    world.renew(&mut ada, &world.idp.sign(&claims)).await.ok();
    let unpermitted = decided(&world, &ada, "/").await;
    let (json, text) = explained(&unpermitted);
    assert_eq!(json["permits"], serde_json::json!([{ "id": "staff", "only": "Group::\"staff\"", "concerns": false }]));
    assert!(text.contains("staff (") && text.contains("is for Group::\"staff\" alone"), "{text}");
    // Today's policy is another.
    std::fs::write(&outline.policy_file, "@id(\"all\") permit (principal, action, resource);").unwrap();
    let (json, text) = explained(&denied);
    assert_eq!((&json["today"]["same"], &json["today"]["policies"][0]), (&false.into(), &"all".into()));
    assert!(json["policy_edited_since"] == true && text.contains("has been edited since"), "{text}");
    assert!(
        text.contains("closed: not in today's policy") && text.contains("decides otherwise: allow, by all"),
        "{text}"
    );
    std::fs::write(&outline.policy_file, "permit").unwrap();
    assert!(explained(&denied).1.contains("cannot be said: today's policy has mistakes"));

    let unknown = DecisionId::new(Timestamp::from_millis(1), 1);
    assert!(History::of(&outline).find(unknown.as_str()).unwrap().is_none());
    let output = Output { json: false };
    let failure = explain::explain(&outline, unknown.as_str(), output).unwrap_err();
    assert!(matches!(failure, Failure::Problem(problem) if problem.code == Code::NotFound));
    assert!(
        matches!(explain::explain(&outline, "x", output), Err(Failure::Problem(p)) if p.code == Code::RequestInvalid)
    );
}

#[tokio::test]
async fn a_diff_counts_what_another_policy_would_have_decided() {
    let (world, outline) = world().await;
    let (ada, bob) = (world.signed_in("ada").await, world.signed_in("bob").await);
    for path in ["/a", "/a", "/b"] {
        decided(&world, &ada, path).await;
    }
    decided(&world, &bob, "/a").await;
    world.relay.audit.rotate().await.unwrap();
    decided(&world, &bob, "/closed").await;
    decided(&world, &bob, "/c/../d").await;
    let compare = |new: &str, since: Timestamp, most: usize| {
        let load = |text: &str| Arc::new(Policy::load(text, outline.apps.clone().unwrap()).unwrap());
        let past = History::of(&outline).decisions(since, most);
        let diff = diff::compare(&past.entries, &snapshot(&outline, load(POLICY)), &snapshot(&outline, load(new)));
        diff::summary(None, &diff)
    };
    let new = "@id(\"open\") permit (principal, action, resource);\n@id(\"no-a\") forbid (principal, action == Action::\"request\", resource) when { context.path == \"/a\" };";
    let start = Timestamp::default();
    assert_eq!(compare(new, start, 1000), "denies 3 past requests of 2 people, newly allows 1");
    assert_eq!(compare(POLICY, start, 1000), "denies 0 past requests of 0 people, newly allows 0");
    assert_eq!(compare("", start, 1000), "denies 4 past requests of 2 people, newly allows 0");
    // The newest first, and none from before.
    assert_eq!(compare(new, start, 3), "denies 1 past request of 1 person, newly allows 1");
    assert_eq!(
        compare(new, world.relay.clock.now().plus(std::time::Duration::from_secs(1)), 1000),
        "denies 0 past requests of 0 people, newly allows 0"
    );
    let live = crate::policy_diff::LiveDiff { streams: 5, cut: 3, ..Default::default() };
    assert!(diff::summary(Some(&live), &Default::default()).starts_with("cuts 3 live streams, denies 0"));
}

#[tokio::test]
async fn groups_that_people_were_in_are_known_from_the_log() {
    let (world, outline) = world().await;
    let ada = world.signed_in("ada").await;
    decided(&world, &ada, "/").await;
    assert_eq!(History::of(&outline).groups().into_iter().collect::<Vec<_>>(), ["staff"]);
    world.relay.audit.rotate().await.unwrap();
    assert_eq!(History::of(&outline).groups().len(), 1, "from the rotated one too");
}
