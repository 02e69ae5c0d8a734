//! The audit log: proven whole, and proven broken wherever it was touched.

use crate::Office;
use postern_tests::{Relay, eventually};
use std::fs;

/// `audit verify` accepts what the relay wrote and finds every edit, gap, swap and cut, naming the line.
#[tokio::test]
async fn audit_verify_finds_what_was_changed() {
    let mut office = Office::open().await;
    office.sign_in().await;
    for n in 0..10 {
        office.agent.get("wiki", &format!("/{n}")).await;
        office.agent.get("vault", "/").await;
    }
    office.relay.admin(&["audit", "verify"]).await.ok();
    office.relay.stop().await.ok();
    let verified = office.relay.admin(&["audit", "verify"]).await.ok();
    assert!(!verified.stdout.is_empty(), "it says what it verified");

    let file = office.relay.audit_file();
    let good = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let middle = lines.iter().position(|line| line.contains("policy_denied")).unwrap();
    let join = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let edited = lines[middle].replace("policy_denied", "policy_allowed");
    let mut swapped = lines.clone();
    swapped.swap(middle, middle + 1);
    let mut gap = lines.clone();
    gap.remove(middle);
    let mut doubled = lines.clone();
    doubled.insert(middle, lines[middle]);
    let mut replaced = lines.clone();
    replaced[middle] = &edited;
    let half = good.len() - lines.last().unwrap().len() / 2;
    for (what, content) in [
        ("an edit", join(&replaced)),
        ("a gap", join(&gap)),
        ("a swap", join(&swapped)),
        ("a copy", join(&doubled)),
        ("a cut at the end", join(&lines[..lines.len() - 3])),
        ("a cut of all but the first", join(&lines[..1])),
        ("a missing beginning", join(&lines[2..])),
        ("a torn line", good[..half].to_owned()),
        ("a line put in", join(&[&lines[..middle], &["{\"seq\":7}"], &lines[middle..]].concat())),
        ("noise", join(&[&lines[..middle], &["\u{0}\u{1}"], &lines[middle..]].concat())),
        ("nothing at all", String::new()),
    ] {
        fs::write(&file, content).unwrap();
        let output = office.relay.admin(&["audit", "verify"]).await;
        assert_eq!(output.code, 1, "{what} went unnoticed: {output:?}");
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(said.contains("line") && said.contains(|c: char| c.is_ascii_digit()), "{what}: which line? {said}");
    }
    fs::write(&file, &good).unwrap();
    office.relay.admin(&["audit", "verify"]).await.ok();
}

/// The chain goes on over restarts, soft and hard, and a line torn by a power cut does not stop the relay.
#[tokio::test]
async fn the_chain_continues_over_restarts() {
    let mut office = Office::open().await;
    office.sign_in().await;
    for round in 0..3 {
        passes(&office).await;
        match round {
            0 => drop(office.relay.stop().await.ok()),
            _ => office.relay.kill().await,
        }
        if round == 1 {
            let file = office.relay.audit_file();
            let torn = fs::read_to_string(&file).unwrap() + "{\"seq\":99,\"ti";
            fs::write(&file, torn).unwrap();
        }
        office.relay.serve_again(None).await;
    }
    passes(&office).await;
    office.relay.admin(&["audit", "verify"]).await.ok();
    assert_strictly_counted(&office.relay);
}

/// The agent has seen that its relay is another process, and is past it.
async fn passes(office: &Office) {
    eventually("requests pass", async || (office.agent.get("wiki", "/").await.status == 200).then_some(())).await;
}

fn assert_strictly_counted(relay: &Relay) {
    let numbers: Vec<_> = relay.audit().iter().filter_map(|record| record["seq"].as_u64()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
}

/// What was cut or rewritten while the relay was down is not made good by starting it again.
#[tokio::test]
async fn a_restart_does_not_launder_a_changed_log() {
    let mut office = Office::open().await;
    office.sign_in().await;
    for _ in 0..5 {
        office.agent.get("vault", "/").await;
    }
    office.relay.stop().await.ok();
    let file = office.relay.audit_file();
    let good = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let shorter: String = lines[..lines.len() - 6].iter().map(|line| format!("{line}\n")).collect();
    for (what, content) in [("cut", shorter), ("removed", String::new())] {
        fs::write(&file, content).unwrap();
        office.relay.serve_again(None).await;
        passes(&office).await;
        office.relay.stop().await.ok();
        let output = office.relay.admin(&["audit", "verify"]).await;
        assert_eq!(output.code, 1, "a log that was {what} passes after a restart: {output:?}");
    }
}

/// While the audit log cannot be written, nothing is allowed; when it can again, things go on and the chain holds.
#[tokio::test]
async fn without_its_audit_log_the_relay_allows_nothing() {
    let office = Office::open().await;
    office.sign_in().await;
    assert_eq!(office.agent.get("wiki", "/").await.status, 200);
    let arrived = office.wiki.requests().len();
    let size = fs::metadata(office.relay.audit_file()).unwrap().len();
    // In the middle of the next record: part of a line gets out.
    office.relay.limit_files(Some(size + 50)).await;
    for _ in 0..5 {
        let refused = office.agent.get("wiki", "/").await;
        assert_eq!(refused.refusal(), (503, "audit_unavailable"));
    }
    assert_eq!(office.wiki.requests().len(), arrived, "unrecorded requests reached the app");
    office.relay.limit_files(None).await;
    passes(&office).await;
    office.relay.admin(&["audit", "verify"]).await.ok();
}
