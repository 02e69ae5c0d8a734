//! Policies: faults with their places, advice, and slices that never change an answer.

mod whole;

use super::uses::Uses;
use super::*;
use crate::access::{Action as Asked, PostureReport, Request as Request_};
use crate::fixture::{self, NOW, apps, connect, device, get, posture, session};
use crate::token::VerifiedSession;
use cedar_policy::{Entities, Schema};
use proptest::prelude::*;
use std::time::Duration;

fn load(text: &str) -> Result<Policy, Vec<PolicyFault>> {
    Policy::load(text, apps())
}

/// The faults of `text` as `line:column message`, one a line.
fn faults(text: &str) -> Vec<(usize, usize, String)> {
    let faults = load(text).expect_err("a fault");
    faults.into_iter().map(|fault| (fault.line, fault.column, fault.message)).collect()
}

fn asked(policy: &Policy, session: &VerifiedSession, request: &Request_, path: &str) -> Verdict {
    policy.ask(&request.app, &Facts { session, request, path, now: NOW })
}

#[test]
fn the_sample_loads_for_the_apps_it_names_and_so_does_all_it_offers() {
    let sample = load(Policy::sample()).unwrap();
    assert_eq!(sample.len(), 2);
    let (commented, mut offered) = (Policy::sample().split_once("// ---- More").unwrap().1, String::new());
    let mut lines = commented.lines().skip(1).filter_map(|line| line.strip_prefix("//"));
    // The prose before each rule ends at an empty comment line.
    while lines.by_ref().any(|line| line.trim_start().is_empty()) {
        for line in lines.by_ref() {
            offered.push_str(line);
            offered.push('\n');
            if line.ends_with(';') {
                break;
            }
        }
    }
    assert_eq!(load(&offered).unwrap().len(), 4, "{offered}");
    assert_eq!(load(&format!("{}{offered}", Policy::sample())).unwrap().len(), 6);
}

#[test]
fn every_fault_is_told_at_once_with_its_place() {
    let text = r#"// A file with one slip in each rule.
@id("a") permit(principal in Group::"staff", action, resource == App::"wikki");
@id("b") permit(principal, action, resource) when { context.postur };
permit(principal, action, resource);
@id("a") permit(principal, action == Action::"delete", resource);
@id("c") permit(principal in Grp::"staff", action, resource
  == App::"wiki");
@id("d") permit(principal, action, resource) when { context.path like "/x" };
@id("e") permit(principal action, resource);
@id("f") @reasn("x") permit(principal, action, resource in AppGroup::"intern");
@id("g") permit(principal == ?principal, action, resource);
@id("h") @fix("") permit(principal, action, resource) when { 1 == "1" };
@id("j") permit(principal, action == Action::"connect", resource) when { context.auth_age < 5 };
@id("k") forbid(principal, action, resource) when { false };
@id("no spaces") permit(principal, action, resource);
@id("s1") @max_age("300") forbid(principal, action, resource) when { context.host == "x" };
@id("s2") @max_age("0") forbid(principal, action, resource) unless { context has auth_age && context.auth_age < 5 };
@id("s3") @acr_values("a  b") forbid(principal, action, resource) unless { context has acr && context.acr == "a" };
@id("s4") @acr_values("a") forbid(principal, action, resource) unless { context has auth_age && context.auth_age < 5 };
@id("m") permit(principal, action, resource)"#;
    let found = faults(text);
    let shown = format!("{found:#?}");
    let at = |line, column, part: &str| {
        let hit = found.iter().any(|(l, c, message)| (*l, *c) == (line, column) && message.contains(part));
        assert!(hit, "{line}:{column} {part}\nin {shown}");
    };
    at(2, 66, "no app App::\"wikki\"");
    at(3, 53, "postur");
    at(4, 1, "@id");
    at(5, 1, "line 2 already");
    at(5, 38, "delete");
    at(6, 30, "Grp");
    at(8, 53, "path");
    at(9, 27, "unexpected token");
    at(10, 1, "@reasn");
    at(10, 60, "no app group AppGroup::\"intern\"");
    at(11, 30, "template");
    at(12, 1, "@fix");
    at(12, 1, "impossible");
    at(13, 74, "auth_age");
    at(14, 1, "impossible");
    at(15, 1, "@id");
    at(16, 1, "does not look at context.auth_age");
    at(17, 1, "whole number of seconds from 1");
    at(18, 1, "with one space between");
    at(19, 1, "does not look at context.acr");
    at(20, 45, "unexpected end of input");
    assert_eq!(found.iter().filter(|fault| fault.0 == 1 || fault.2.contains("for policy")).count(), 0, "{shown}");
}

#[test]
fn comments_strings_and_empty_files_are_no_statements() {
    assert!(load("").unwrap().is_empty());
    assert!(load("// permit(principal, action, resource);\n\n").unwrap().is_empty());
    let text = "@id(\"a\") @note(\"; // \\\" ;\") permit(principal, action, resource) // ; \"\n;\n";
    assert_eq!(load(text).unwrap().len(), 1);
    assert_eq!(faults("\u{e9}").len(), 1);
    assert!(load(&" ".repeat(crate::limits::MAX_POLICY_BYTES + 1)).is_err());
}

#[test]
fn optional_attributes_must_be_asked_for() {
    for (text, good) in [
        ("when { context.posture.firewall }", false),
        ("when { context has posture && context.posture.firewall }", false),
        ("when { context has posture.firewall && context.posture.firewall }", true),
        ("when { context has acr && context.acr == \"urn:mfa\" }", true),
        ("when { context.acr == \"urn:mfa\" }", false),
        ("when { context.posture.self_asserted }", false),
        ("when { context.amr.contains(\"otp\") }", true),
        ("when { principal.email == \"boss@corp.example\" }", false),
        ("when { principal.subject == \"1001\" }", true),
        ("when { context.source_ip.isInRange(ip(\"10.0.0.0/8\")) }", true),
        ("when { context.source_ip.isInRange(ip(context.host)) }", false),
        ("when { context.time > datetime(\"2030-01-01\") && context.weekday < 6 }", true),
        ("when { context.device == Device::\"00112233445566778899aabbccddeeff\" }", true),
    ] {
        let text = format!("@id(\"a\") permit(principal, action, resource) {text};");
        assert_eq!(load(&text).is_ok(), good, "{text}");
    }
}

#[test]
fn a24_nothing_self_asserted_passes_for_attested() {
    let rule = "@id(\"a\") permit(principal, action, resource) when { context has posture && !context.posture.self_asserted };";
    let (policy, session) = (load(rule).unwrap(), session(&device(), "alice", &[]));
    let mut request = get("wiki", "/");
    request.posture = Some(posture(Duration::ZERO));
    assert!(!asked(&policy, &session, &request, "/").allowed);
}

#[test]
fn a_rule_that_fails_to_evaluate_opens_nothing() {
    // Arithmetic can overflow in spite of the types; Cedar would pass over such a forbid.
    let overflow = "when { context.weekday * 9223372036854775807 > 0 }";
    let permit = "@id(\"p\") permit(principal, action, resource);";
    let session = session(&device(), "alice", &[]);
    let ask = |text: &str| asked(&load(text).unwrap(), &session, &get("wiki", "/"), "/");
    assert!(ask(permit).allowed);
    let failed = ask(&format!("{permit} @id(\"f\") forbid(principal, action, resource) {overflow};"));
    assert!(!failed.allowed && failed.policies == ["f"] && failed.fix.is_some());
    assert!(!ask(&format!("@id(\"f\") permit(principal, action, resource) {overflow};")).allowed);
    assert!(ask(&format!("{permit} @id(\"q\") permit(principal, action, resource) {overflow};")).allowed);
}

/// A forbid whose conditions cannot be joined to others', or read otherwise than they were meant, loses nothing by that.
#[test]
fn a_forbid_that_cannot_be_screened_is_asked_each_time() {
    let text = "@id(\"p\") permit(principal, action, resource);
        @id(\"f\") forbid(principal, action == Action::\"request\", resource) when { context.path == \"/no\" };";
    let otherwise = serde_json::json!({ "kind": "when", "body": { "Value": true } });
    for condition in [None, screen::Condition::of("forbid(principal, action, resource) when { false }", &[otherwise])] {
        let mut rules = load::rules(text, &apps()).unwrap();
        rules[1].condition = condition;
        let slices = slice::by_app(&rules, &apps()).unwrap();
        let policy = Policy { apps: apps(), slices, rules: Vec::new(), text: text.into() };
        let session = session(&device(), "alice", &[]);
        let ask = |path: &str| asked(&policy, &session, &get("wiki", path), path);
        assert!(ask("/yes").allowed && !ask("/no").allowed);
    }
}

/// An app that a condition names is known there whenever it is the one asked for.
#[test]
fn an_app_named_in_a_condition_is_known() {
    let session = session(&device(), "alice", &[]);
    for condition in ["App::\"wiki\" in AppGroup::\"internal\"", "App::\"wiki\".kind == \"http\""] {
        let text = format!(
            "@id(\"p\") permit(principal, action, resource);
             @id(\"f\") forbid(principal, action, resource == App::\"wiki\") when {{ {condition} }};"
        );
        let verdict = asked(&load(&text).unwrap(), &session, &get("wiki", "/"), "/");
        assert!(!verdict.allowed && verdict.fix.is_none() && verdict.policies == ["f"], "{condition}");
    }
}

#[test]
fn advice_comes_from_the_permit_that_fits_best() {
    let text = r#"
        @id("any") @fix("any") permit(principal in Group::"a", action, resource);
        @id("group") @fix("group") permit(principal in Group::"b", action, resource in AppGroup::"internal");
        @id("own") @fix("own") @reason("why") permit(principal in Group::"c", action, resource == App::"wiki");
        @id("mine") @fix("mine") permit(principal in Group::"d", action, resource) when { context has acr };
        @id("no1") forbid(principal, action == Action::"request", resource) when { context.path == "/1" || context.path == "/2" };
        @id("no2") @reason("no2") forbid(principal, action == Action::"request", resource) when { context.path == "/2" };"#;
    let (policy, device) = (load(text).unwrap(), device());
    let told = |groups: &[&str], app: &str, path: &str| {
        let verdict = asked(&policy, &session(&device, "alice", groups), &get(app, path), path);
        assert!(!verdict.allowed);
        (verdict.reason.unwrap(), verdict.fix.unwrap_or_default())
    };
    assert_eq!(told(&[], "wiki", "/"), ("why".into(), "own".into()));
    assert_eq!(told(&[], "vault", "/").1, "group");
    assert_eq!(told(&[], "git", "/").1, "any");
    assert_eq!(told(&["d"], "wiki", "/").1, "mine", "its scope fits: only the condition failed");
    assert_eq!(told(&["c"], "wiki", "/1").0, "A rule forbids this.");
    assert_eq!(told(&["c"], "wiki", "/2").0, "no2", "the one that has something to say");
    assert_eq!(asked(&policy, &session(&device, "a", &["c"]), &get("wiki", "/2"), "/2").policies, ["no1", "no2"]);
    let silent = load("@id(\"a\") permit(principal in Group::\"x\", action, resource);").unwrap();
    assert!(asked(&silent, &session(&device, "a", &[]), &get("wiki", "/"), "/").reason.is_some());
}

#[test]
fn step_up_annotations_are_bounded() {
    let fresh = "unless { context has auth_age && context.auth_age < 5 }";
    let strong = "unless { context has acr && context.acr == \"a\" }";
    let many = vec!["a"; 17].join(" ");
    for (name, value, condition, good) in [
        ("max_age", "1", fresh, true),
        ("max_age", "31622400", fresh, true),
        ("max_age", "31622401", fresh, false),
        ("max_age", "+5", fresh, false),
        ("max_age", "5m", fresh, false),
        ("max_age", "", fresh, false),
        ("max_age", "5", "when { context == context }", true),
        ("acr_values", "urn:example:gold phr", strong, true),
        ("acr_values", "", strong, false),
        ("acr_values", " a", strong, false),
        ("acr_values", "a\u{e9}", strong, false),
        ("acr_values", "a\\\"b", strong, false),
        ("acr_values", many.as_str(), strong, false),
        ("acr_values", "a", "when { context == context }", true),
    ] {
        let text = format!("@id(\"a\") @{name}(\"{value}\") forbid(principal, action, resource) {condition};");
        assert_eq!(load(&text).is_ok(), good, "{text}");
    }
}

#[test]
fn rules_are_found_by_name_as_they_were_written() {
    let text = "// first\n@id(\"a\") permit(principal, action, resource);\n\n@id(\"b\") @fix(\"f\")\nforbid(principal,\n action, resource) when { 1 == 1 };";
    let policy = load(text).unwrap();
    let (rule, source) = policy.rule("b").unwrap();
    assert_eq!((rule.line, rule.permit, rule.fix.as_deref()), (4, false, Some("f")));
    assert!(source.starts_with("@id(\"b\")") && source.ends_with("};"), "{source}");
    assert_eq!((policy.rule("a").unwrap().0.line, policy.rule("c")), (2, None));
    assert_eq!((policy.text(), policy.len()), (text, 2));
}

#[test]
fn what_is_hardly_meant_is_warned_of() {
    let told = |text: &str, seen: &[&str]| -> Vec<(usize, String)> {
        assert!(load(text).is_ok(), "{text}");
        let seen = seen.iter().map(ToString::to_string).collect();
        warnings(text, &apps(), &seen).into_iter().map(|warning| (warning.line, warning.message)).collect()
    };
    let in_group =
        |id: &str, group: &str| format!("@id(\"{id}\") permit(principal in Group::\"{group}\", action, resource);\n");
    let groups =
        [in_group("a", "staff"), in_group("b", "Staff"), in_group("c", "stafff"), in_group("d", "ops")].concat();
    let found = told(&groups, &[]);
    assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3]);
    assert!(found[0].1.contains("\"Staff\"; another policy names \"staff\""), "{found:?}");
    // Who is known to exist is no slip; and people count for more than the policy.
    assert_eq!(told(&groups, &["staff", "Staff", "stafff", "ops"]), []);
    assert_eq!(told(&in_group("a", "staf"), &["staff"]).len(), 1);
    assert!(told(&in_group("a", "staf"), &["staff"])[0].1.contains("people are in \"staff\""));
    let short = told(&in_group("a", "dev"), &["dev1", "ops"]);
    let alone = "nobody is known to be in the group \"dev\"";
    assert_eq!(short, [(1, alone.to_owned())], "short names are near each other by nature");
    assert_eq!(told(&in_group("a", "dev"), &[]), [], "where nobody's groups are known nothing can be said");

    let never = |text: &str| told(text, &[]).into_iter().map(|(_, message)| message).collect::<String>();
    let stream = "@id(\"a\") permit(principal, action == Action::\"connect\", resource == App::\"wiki\");";
    assert!(never(stream).contains("a can never match"));
    assert_eq!(never(&stream.replace("wiki", "db")), "");
    let permit = "@id(\"p\") permit(principal in Group::\"g\", action, resource == App::\"wiki\") when { context.host == \"a\" };";
    for (forbid, beaten) in [
        ("principal, action, resource", true),
        ("principal is User, action, resource in AppGroup::\"internal\"", true),
        ("principal in Group::\"g\", action == Action::\"request\", resource", false),
        ("principal in Group::\"h\", action, resource", false),
        ("principal, action, resource == App::\"git\"", false),
    ] {
        let text = format!("{permit}\n@id(\"f\") forbid({forbid});");
        assert_eq!(never(&text).contains("p can never permit: f forbids"), beaten, "{forbid}");
    }
    let same = format!("{permit}\n@id(\"f\") forbid(principal, action, resource) when {{ context.host == \"a\" }};");
    assert!(never(&same).contains("p can never permit"));
    assert_eq!(never(&same.replace("host == \"a\" };\n", "host == \"b\" };\n")), "");
}

#[test]
fn contexts_conform_to_the_schema() {
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).unwrap();
    let device = device();
    let mut grant = fixture::grant(&device, "alice", &["staff"]);
    for full in [true, false] {
        if full {
            grant.acr = Some("urn:mfa".into());
        } else {
            (grant.acr, grant.auth_time) = (None, None);
            grant.amr.clear();
        }
        let session = fixture::session_signer().verifier().verify(&fixture::bearer(&grant)).unwrap();
        for (mut request, action) in
            [(get("wiki", "/"), entity::request_action()), (connect("db", 5432), entity::connect_action())]
        {
            for source in ["192.0.2.7", "2001:db8::1", "::ffff:10.0.0.1"] {
                request.source = source.parse().unwrap();
                request.posture = full.then(|| posture(Duration::ZERO));
                let facts = Facts { session: &session, request: &request, path: "/", now: NOW };
                let app = entity::app_uid(apps().get(&request.app).unwrap());
                let uid = session.subject().uid().clone();
                Request::new(
                    uid,
                    action.clone(),
                    app,
                    context::build(&facts, &Uses::everything()).unwrap(),
                    Some(&schema),
                )
                .unwrap();
            }
        }
        let app = entity::app_entity(apps().iter().next().unwrap()).unwrap();
        let user = session.subject().entities().iter().cloned();
        Entities::from_entities(user.chain([app]), Some(&schema)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A30: any text ends in a policy or in faults whose places lie within it.
    #[test]
    fn a30_fuzzed_policies_never_panic(text in "(permit|forbid|\\(|\\)|;|@id|\"|//|\n|\\\\|principal|,|when|\\{|\\}|[ -~]|\u{e9}){0,20}") {
        if let Err(faults) = load(&text) {
            prop_assert!(!faults.is_empty());
            for fault in faults {
                prop_assert!(fault.line >= 1 && fault.line <= text.lines().count().max(1) + 1 && fault.column >= 1);
            }
        }
    }

    /// Total: whatever a device reports, the question can be asked.
    #[test]
    fn any_report_and_time_can_be_judged(os in ".*", host in ".*", at: u64, now in 0u64..253_402_300_799_000) {
        let report = PostureReport {
            posture: postern_protocol::control::Posture { os, ..Default::default() },
            at: postern_protocol::Timestamp::from_millis(at),
        };
        static DEVICE: std::sync::LazyLock<crate::certificate::VerifiedDevice> = std::sync::LazyLock::new(device);
        let session = session(&DEVICE, "alice", &[]);
        let mut request = get("wiki", "/");
        (request.host, request.posture) = (host, Some(Arc::new(report)));
        let now = postern_protocol::Timestamp::from_millis(now);
        let facts = Facts { session: &session, request: &request, path: "/", now };
        prop_assert!(context::build(&facts, &Uses::everything()).is_some());
    }
}
