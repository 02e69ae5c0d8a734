//! The log: any change, gap, swap or cut is found, and no field drives a terminal or forges a line.

use super::*;
use crate::access::{Decision, decide};
use crate::fixture::{self, NOW, device, get, pkcs8, policy, session};
use postern_protocol::{Code, Timestamp};
use proptest::prelude::*;
use rcgen::PKCS_ED25519;
use std::sync::LazyLock;
use std::time::Duration;

static SIGNER: LazyLock<CheckpointSigner> =
    LazyLock::new(|| CheckpointSigner::from_pkcs8(&pkcs8(&PKCS_ED25519)).unwrap());

/// A log of `n` records with a checkpoint after each third, and the chain at its end.
fn log(n: u64) -> (Vec<String>, Chain) {
    let mut chain = Chain::genesis(&SIGNER.public());
    let mut lines = Vec::new();
    let mut push = |(line, next): (String, Chain)| {
        lines.push(line);
        next
    };
    for i in 1..=n {
        let at = NOW.plus(Duration::from_secs(i));
        chain = push(chain.append(&Record::event(Event::Decision, at).detail(format!("record {i}"))));
        if i % 3 == 0 {
            chain = push(chain.checkpoint(&SIGNER, at));
        }
    }
    (lines, chain)
}

fn check(lines: &[String]) -> Result<Report, Broken> {
    verify(lines, &SIGNER.public(), None)
}

fn decided(path: &str) -> (Record, Decision) {
    let device = device();
    let session = session(&device, "alice", &["staff"]);
    let rules = "@id(\"staff\") permit(principal in Group::\"staff\", action, resource);";
    let (mut request, snapshot) = (get("wiki", path), fixture::snapshot(policy(rules)));
    request.host = "wiki\r\nX: y".into();
    let decision = decide(&device, &session, &request, &snapshot, NOW);
    (Record::decision(&device, &session, &request, &decision, NOW), decision)
}

#[test]
fn a_decision_is_one_line_of_json() {
    let (record, decision) = decided("/pages/1");
    let (line, chain) = Chain::genesis(&SIGNER.public()).append(&record);
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&json["seq"], &json["event"], &json["result"]), (&1.into(), &"decision".into(), &"allow".into()));
    assert_eq!(json["decision"], decision.id.as_str());
    assert_eq!(json["time"], "2030-03-17T17:46:40.000Z");
    assert_eq!(
        (&json["app"], &json["path"], &json["policies"][0]),
        (&"wiki".into(), &"/pages/1".into(), &"staff".into())
    );
    assert_eq!(json["principal"]["subject"], "alice");
    assert_eq!(json["hash"], chain.head());
    let (denied, _) = decided("/a/../b");
    assert_eq!((denied.result, denied.code), (Outcome::Deny, Some(Code::PathAmbiguous)));
}

/// What the log says of a decision is all that it rested on: put before the same policy, it is decided the same.
#[test]
fn a_decision_can_be_judged_anew_from_its_record() {
    use crate::access::{Request, simulate};
    let rules = r#"
        @id("staff") permit(principal in Group::"staff", action, resource)
        when { context has acr && context.acr == "gold" && context.amr.contains("otp") && context has auth_age };
        @id("disk") forbid(principal, action, resource)
        unless { context has posture.disk_encrypted && context.posture.disk_encrypted && context.posture.age < 60 };
        @id("fresh") @max_age("300") forbid(principal, action == Action::"request", resource)
        when { context.path == "/fresh" } unless { context has auth_age && context.auth_age < 300 };"#;
    let (device, snapshot) = (device(), fixture::snapshot(policy(rules)));
    for (groups, acr, path, healthy) in [
        (&["staff"][..], Some("gold"), "/", true),
        (&["staff"], Some("gold"), "/", false),
        (&["staff"], Some("gold"), "/fresh", true),
        (&["staff"], None, "/", true),
        (&[], Some("gold"), "/", true),
    ] {
        let mut grant = fixture::grant(&device, "alice", groups);
        grant.acr = acr.map(String::from);
        let session = fixture::session_signer().verifier().verify(&fixture::bearer(&grant)).unwrap();
        let request =
            Request { posture: healthy.then(|| fixture::posture(Duration::from_secs(30))), ..get("wiki", path) };
        let decision = decide(&device, &session, &request, &snapshot, NOW);
        let record = Record::decision(&device, &session, &request, &decision, NOW);
        let (line, _) = Chain::genesis(&SIGNER.public()).append(&record);
        let entry = Entry::read(&line).unwrap();
        let Replay { who, request: again, at } = entry.replay().unwrap();
        let answer = simulate(&who, &again, &snapshot, at).unwrap();
        assert_eq!((answer.code, &answer.policies), (decision.cause, &decision.policies), "{line}");
        assert_eq!(entry.step_up, answer.told.as_ref().and_then(|denial| denial.step_up.clone()));
        assert_eq!(answer.told, decision.outcome.err());
    }
}

#[test]
fn a_record_that_was_cut_is_not_judged_anew() {
    let device = device();
    let many: Vec<String> = (0..400).map(|n| format!("{n:040}")).collect();
    let groups: Vec<&str> = many.iter().map(String::as_str).collect();
    let written = |groups: &[&str], path: &str| {
        let (session, request) = (session(&device, "alice", groups), get("wiki", path));
        let decision = decide(&device, &session, &request, &fixture::snapshot(policy("")), NOW);
        let record = Record::decision(&device, &session, &request, &decision, NOW);
        Chain::genesis(&SIGNER.public()).append(&record).0
    };
    let line = written(&groups, "/");
    assert!(line.len() < 2 * crate::limits::MAX_AUDIT_GROUPS_BYTES, "{}", line.len());
    let entry = Entry::read(&line).unwrap();
    let context = entry.context.as_ref().unwrap();
    assert_eq!((context.groups.len(), context.groups_cut), (204, 196));
    assert!(entry.replay().is_err());
    assert!(Entry::read(&written(&[], &format!("/{}", "x".repeat(2000)))).unwrap().replay().is_err());
    assert!(Entry::read(&written(&["a"], "/")).unwrap().replay().is_ok());
    let refused = Record::event(Event::Decision, NOW).refused(Code::TokenMissing);
    assert!(Entry::read(&Chain::genesis(&SIGNER.public()).append(&refused).0).unwrap().replay().is_err());
    assert!(Entry::read("{}").is_none());
}

#[test]
fn a55_every_field_is_escaped_and_bounded() {
    let hostile = "\u{1b}[2J\r\n{\"seq\":1}\u{7f}\u{85}\u{9b}31m\u{202e}\u{2028}\u{feff}\u{1f600}\0\"\\";
    let mut record = decided(hostile).0.detail(hostile);
    for field in [&mut record.app, &mut record.method, &mut record.host, &mut record.path] {
        *field = Some(hostile.into());
    }
    record.policies.push(hostile.into());
    let (line, _) = Chain::genesis(&SIGNER.public()).append(&record);
    assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)), "{line}");
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(json["detail"], hostile, "nothing is lost");

    let long = Record::event(Event::Decision, NOW).detail("\u{e9}".repeat(100_000));
    let (line, _) = Chain::genesis(&SIGNER.public()).append(&long);
    assert!(line.len() < 4096 && line.contains("bytes cut"), "{}", line.len());
}

#[test]
fn a55_a_record_has_no_room_for_secrets() {
    const CANARY: &str = "canary-7f3a";
    let device = device();
    let mut grant = fixture::grant(&device, "alice", &[]);
    (grant.email, grant.name) = (Some(CANARY.into()), Some(CANARY.into()));
    let bearer = fixture::bearer(&grant);
    let session = fixture::session_signer().verifier().verify(&bearer).unwrap();
    let request = get("wiki", "/");
    let decision = decide(&device, &session, &request, &fixture::snapshot(policy("")), NOW);
    let (line, _) =
        Chain::genesis(&SIGNER.public()).append(&Record::decision(&device, &session, &request, &decision, NOW));
    for secret in [CANARY, bearer.as_str(), bearer.rsplit('.').next().unwrap(), device.thumbprint()] {
        assert!(!line.contains(secret), "{line}");
    }
}

#[test]
fn a_whole_log_is_proven_and_its_unsigned_end_counted() {
    let (lines, chain) = log(10);
    let report = check(&lines).unwrap();
    assert_eq!((report.lines, report.checkpoints, report.unsigned), (13, 3, 1));
    assert_eq!((report.head.as_str(), chain.seq()), (chain.head(), 13));
    assert_eq!(check(&[]).unwrap().lines, 0);
}

#[test]
fn every_change_gap_swap_and_insertion_is_found() {
    let (lines, _) = log(7);
    for n in 0..lines.len() {
        let broken_at = |lines: Vec<String>| check(&lines).unwrap_err().line;
        let at = n as u64 + 1;
        let mut changed = lines.clone();
        changed[n] = changed[n].replacen("20", "19", 1);
        assert_eq!(broken_at(changed), at);
        let mut foreign = lines.clone();
        foreign.insert(n, "{}".into());
        assert_eq!(broken_at(foreign), at);
        if n + 1 < lines.len() {
            let mut gap = lines.clone();
            gap.remove(n);
            assert_eq!(broken_at(gap), at);
            let mut swapped = lines.clone();
            swapped.swap(n, n + 1);
            assert_eq!(broken_at(swapped), at);
            let mut doubled = lines.clone();
            doubled.insert(n, lines[n].clone());
            assert_eq!(broken_at(doubled), at + 1);
        }
    }
}

#[test]
fn a14_history_cannot_be_rewritten_without_the_key() {
    // A forger who rebuilds the whole chain needs a checkpoint, and has another key or the old signature.
    let (lines, _) = log(3);
    let other = CheckpointSigner::from_pkcs8(&pkcs8(&PKCS_ED25519)).unwrap();
    let record = Record::event(Event::Decision, NOW);
    let (first, chain) = Chain::genesis(&SIGNER.public()).append(&record);
    let (forged, _) = chain.checkpoint(&other, NOW);
    assert_eq!(check(&[first.clone(), forged]).unwrap_err().line, 2);
    assert_eq!(check(&[first, lines[3].clone()]).unwrap_err().line, 2);
    // Another relay's log is not this one's.
    assert_eq!(verify(&lines, &other.public(), None).unwrap_err().line, 1);
}

#[test]
fn a_line_with_another_number_is_found_even_if_its_hashes_fit() {
    let (lines, chain) = log(2);
    let body = format!("{{\"seq\":9,\"prev\":\"{}\",\"event\":\"decision\"", chain.head());
    let hash = postern_protocol::binding::thumbprint(body.as_bytes());
    let forged = format!("{body},\"hash\":\"{hash}\"}}");
    assert_eq!(check(&[lines, vec![forged]].concat()).unwrap_err().line, 3);
}

#[test]
fn a_cut_end_shows_against_a_remembered_checkpoint() {
    let (lines, _) = log(6);
    let remembered = |n: usize| {
        let chain = Chain::resume(&lines[n]).unwrap();
        Checkpoint { seq: chain.seq(), head: chain.head().into() }
    };
    let verify = |lines: &[String], at: &Checkpoint| verify(lines, &SIGNER.public(), Some(at));
    assert!(verify(&lines, &remembered(7)).is_ok());
    assert!(verify(&lines, &remembered(3)).is_ok());
    assert_eq!(verify(&lines[..4], &remembered(7)).unwrap_err().line, 5);
    assert!(verify(&[], &remembered(3)).is_err());
    let forged = Checkpoint { head: remembered(6).head, ..remembered(7) };
    assert_eq!(verify(&lines, &forged).unwrap_err().line, 8);
}

#[test]
fn a_chain_goes_on_after_a_restart_and_only_from_a_whole_line() {
    let (mut lines, chain) = log(4);
    let resumed = Chain::resume(lines.last().unwrap()).unwrap();
    assert_eq!(resumed, chain);
    lines.push(resumed.append(&Record::event(Event::Recovery, NOW)).0);
    assert!(check(&lines).is_ok());
    let last = lines.last().unwrap();
    for torn in [&last[..last.len() / 2], &last[..last.len() - 1], "", "{}"] {
        assert!(Chain::resume(torn).is_err());
    }
    assert_eq!(SIGNER.public().to_string().parse(), Ok(SIGNER.public()));
    assert!("AAAA".parse::<CheckpointKey>().is_err());
}

proptest! {
    /// Whatever the fields hold, the line is one line of ASCII, and it verifies.
    #[test]
    fn any_record_makes_a_line_that_verifies(detail: String, path in ".*", millis in 0u64..1 << 47) {
        let mut record = Record::event(Event::Decision, Timestamp::from_millis(millis)).detail(detail);
        record.path = Some(path);
        let (line, _) = Chain::genesis(&SIGNER.public()).append(&record);
        prop_assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)));
        prop_assert!(check(&[line]).is_ok());
    }

    /// A30: a damaged log is refused, never a panic.
    #[test]
    fn a30_fuzzed_logs_never_panic(text in ".*", at in 0usize..4000, with in "[ -~]") {
        static GOOD: LazyLock<Vec<String>> = LazyLock::new(|| log(3).0);
        prop_assert!(check(&[text]).is_err());
        let mut lines = GOOD.clone();
        let (line, column) = (at % lines.len(), at / lines.len() % 100);
        let changed = lines[line][column..=column] != with;
        lines[line].replace_range(column..=column, &with);
        prop_assert_eq!(check(&lines).is_err(), changed);
    }
}
