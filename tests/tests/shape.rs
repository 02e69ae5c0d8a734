//! The shape of the repository: who may depend on whom, what the pure crates may touch, how files look.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    reason = "tests: an expectation that fails is a test that fails"
)]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

const OWN: &str = "postern-";

/// DESIGN §2: allowed edges between crates of ours; nothing else.
const EDGES: &[(&str, &[&str])] = &[
    ("postern-protocol", &[]),
    ("postern-agent-core", &["postern-protocol"]),
    ("postern-client", &["postern-protocol"]),
    ("postern-agent", &["postern-agent-core", "postern-client", "postern-protocol"]),
    ("postern-desktop", &["postern-client", "postern-protocol"]),
    ("postern-relay-core", &["postern-protocol"]),
    ("postern-relay", &["postern-relay-core", "postern-protocol"]),
    ("postern-demo-provider", &["postern-protocol"]),
    ("postern-demo", &["postern-demo-provider", "postern-protocol"]),
    (
        "postern-tests",
        &[
            "postern-agent",
            "postern-agent-core",
            "postern-demo",
            "postern-demo-provider",
            "postern-protocol",
            "postern-relay",
            "postern-relay-core",
        ],
    ),
    ("xtask", &["postern-protocol"]),
];

/// The crates that decide and do nothing else.
const PURE: &[(&str, &str)] =
    &[("postern-protocol", "protocol"), ("postern-agent-core", "agent/core"), ("postern-relay-core", "relay/core")];

#[test]
fn crates_of_ours_depend_on_each_other_only_as_designed() {
    let metadata = metadata();
    let mut seen = BTreeSet::new();
    for package in workspace_packages(&metadata) {
        let name = package["name"].as_str().unwrap();
        let allowed = EDGES.iter().find(|(of, _)| *of == name).map(|(_, allowed)| *allowed);
        let allowed = allowed.unwrap_or_else(|| panic!("{name} is not in the design: add it there and here"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            assert!(!on.starts_with(OWN) || allowed.contains(&on), "{name} must not depend on {on}");
        }
        seen.insert(name.to_owned());
    }
    let designed: BTreeSet<_> = EDGES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(seen, designed, "every crate of the design exists");
}

#[test]
fn pure_crates_reach_no_runtime_network_or_keyring_even_indirectly() {
    let metadata = metadata();
    for (package, _) in PURE {
        let reached = reached_from(&metadata, package);
        for banned in ["tokio", "quinn", "quinn-proto", "keyring", "hyper", "reqwest", "sqlx", "mio", "socket2"] {
            assert!(!reached.contains(banned), "{package} reaches {banned}");
        }
    }
}

#[test]
fn production_binaries_hold_nothing_of_the_demo() {
    let metadata = metadata();
    for package in ["postern-agent", "postern-relay"] {
        let reached = reached_from(&metadata, package);
        let demo: Vec<_> = reached.iter().filter(|name| name.contains("demo") || name.contains("tests")).collect();
        assert!(demo.is_empty(), "{package} reaches {demo:?}");
    }
}

#[test]
fn pure_crates_read_no_clock_and_draw_no_randomness() {
    let banned = ["Instant::now", "SystemTime::now", "Timestamp::now", "std::fs", "std::process"];
    let banned = banned.iter().chain(&["aws_lc_rs::rand::fill", "SystemRandom", "rand::random", "thread_rng", "OsRng"]);
    let banned: Vec<_> = banned
        .chain(&[
            "KeyPair::generate",
            "std::thread",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "ToSocketAddrs",
            "std::env::var",
        ])
        .collect();
    for (package, dir) in PURE {
        for file in product_files(&root().join(dir).join("src")) {
            let text = std::fs::read_to_string(&file).unwrap();
            for (number, line) in product_lines(&text) {
                let code = line.split("//").next().unwrap_or_default();
                let found = banned.iter().find(|word| code.contains(**word));
                assert!(found.is_none(), "{package}: {}:{number}: {found:?}: {line}", file.display());
            }
        }
    }
}

#[test]
fn each_file_opens_with_its_purpose_and_ends_before_it_is_a_god_file() {
    for file in all_rust_files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let (name, lines) = (file.display(), text.lines().count());
        assert!(text.starts_with("//! "), "{name} does not open with a module doc (//!)");
        assert!(lines <= 450, "{name} has {lines} lines; split it (450 at most)");
    }
}

#[test]
fn nothing_is_left_for_later() {
    // Spelled in halves so that this file does not find itself.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("#[ig", "nore")];
    let calls = [concat!("unimpl", "emented!("), concat!("to", "do!("), concat!("not yet ", "implemented")];
    for file in all_rust_files() {
        let text = std::fs::read_to_string(&file).unwrap();
        for word in words.iter().chain(&calls) {
            assert!(!text.contains(word), "{} holds {word}", file.display());
        }
    }
}

#[test]
fn lint_exceptions_give_their_reason_and_unsafe_code_is_nowhere() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"forbid\""), "the workspace forbids unsafe code");
    for package in workspace_packages(&metadata()) {
        let path = package["manifest_path"].as_str().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains("[lints]\nworkspace = true"), "{path} does not take the workspace's lints");
    }
    for file in all_rust_files() {
        let text = std::fs::read_to_string(&file).unwrap();
        // Spelled in halves so that this file does not find itself.
        for opening in [concat!("[all", "ow("), concat!("[exp", "ect(")] {
            for (start, _) in text.match_indices(opening) {
                let attribute = &text[start..start + text[start..].find(")]").unwrap()];
                assert!(attribute.contains("reason"), "{}: {attribute}", file.display());
            }
        }
    }
}

#[test]
fn the_top_level_is_as_designed() {
    let expected = [
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "SECURITY.md",
        "deny.toml",
        "docs/adr",
        "docs/error-codes.md",
        "src-tauri/capabilities/main.json",
        "ui/package.json",
        ".ci/run",
    ];
    let missing: Vec<_> = expected.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
    for unwanted in ["rust-toolchain", "rust-toolchain.toml"] {
        assert!(!root().join(unwanted).exists(), "{unwanted} does not belong here");
    }
    let license = std::fs::read_to_string(root().join("LICENSE")).unwrap();
    assert!(license.contains("Apache License") && license.contains("Version 2.0"));
}

#[test]
fn the_lock_file_of_the_node_programs_names_no_registry_host() {
    for directory in ["tests/node", "ui"] {
        let lock = std::fs::read_to_string(root().join(directory).join("package-lock.json")).unwrap();
        assert!(!lock.contains("\"resolved\"") && lock.contains("\"integrity\""), "see {directory}/.npmrc");
    }
}

#[test]
fn each_abuse_case_of_this_release_has_its_proof() {
    let wanted = (1..=11).chain(13..=20).chain(25..=30).chain(33..=36).chain(42..=48).chain([55]);
    let tests: String = rust_files(&root().join("tests/tests"))
        .iter()
        .filter(|file| !file.ends_with("shape.rs"))
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let missing: Vec<_> = wanted.filter(|id| !tests.contains(&format!("A{id:02}"))).collect();
    assert!(missing.is_empty(), "no test names A{missing:02?}");
}

#[test]
fn documents_point_at_files_that_exist() {
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"] {
        let text = std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (start, _) in text.match_indices("](") {
            let rest = &text[start + 2..];
            let link = rest[..rest.find(')').unwrap()].split('#').next().unwrap();
            let local = !link.is_empty() && !link.contains("://") && !link.starts_with("mailto:");
            assert!(!local || root().join(link).exists(), "{name} points at {link}, which is not there");
        }
    }
}

#[test]
fn the_help_of_both_programs_shows_the_commands_of_the_design() {
    let agent = ["login", "logout", "status", "apps", "connect", "agent"];
    let relay = ["init", "check", "serve", "revoke", "audit"];
    for (program, commands) in [("postern", &agent[..]), ("postern-relay", &relay[..])] {
        let help = help_of(program, &[]);
        for command in commands {
            assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{program} --help: {command}");
            let own = help_of(program, &[command]);
            assert!(own.contains("Usage:"), "{program} {command} --help");
        }
    }
    for (program, command, flags) in [
        (
            "postern",
            &["login"][..],
            &["--no-browser", "--device-code", "--ca", "--memory-only", "--state-dir", "--config"][..],
        ),
        ("postern", &["status"][..], &["--json", "--state-dir", "--config"][..]),
        ("postern", &["apps"][..], &["--json"][..]),
        ("postern", &["agent", "run"][..], &["--state-dir", "--config"][..]),
        ("postern-relay", &["serve"][..], &["--config", "--state-dir"][..]),
        ("postern-relay", &["audit", "verify"][..], &["--config"][..]),
    ] {
        let help = help_of(program, command);
        for flag in flags {
            assert!(help.contains(flag), "{program} {command:?} --help does not show {flag}:\n{help}");
        }
    }
}

fn help_of(program: &str, command: &[&str]) -> String {
    let path = postern_tests::world::binary(program);
    let output = Command::new(path).args(command).arg("--help").output().unwrap();
    assert!(output.status.success(), "{program} {command:?} --help");
    String::from_utf8(output.stdout).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn metadata() -> Value {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let output = cargo
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn workspace_packages(metadata: &Value) -> Vec<Value> {
    let members = metadata["workspace_members"].as_array().unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages.filter(|package| members.contains(&package["id"])).cloned().collect()
}

/// Names of all crates that `package` links, through normal dependencies only.
fn reached_from(metadata: &Value, package: &str) -> BTreeSet<String> {
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeMap<_, _> =
        packages.iter().map(|p| (p["id"].as_str().unwrap(), p["name"].as_str().unwrap())).collect();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let nodes: BTreeMap<_, _> = nodes.iter().map(|node| (node["id"].as_str().unwrap(), node)).collect();
    let mut open: Vec<_> = names.iter().filter(|(_, name)| **name == package).map(|(id, _)| *id).collect();
    let mut reached = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !reached.insert(id) {
            continue;
        }
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                open.push(dependency["pkg"].as_str().unwrap());
            }
        }
    }
    reached.into_iter().map(|id| names[id].to_owned()).filter(|name| name != package).collect()
}

/// The files that are compiled into the product: not those of a module declared for tests alone.
fn product_files(dir: &Path) -> Vec<PathBuf> {
    let files = rust_files(dir);
    let mut for_tests = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        for (start, found) in text.match_indices("#[cfg(test)]\n") {
            let line = text[start + found.len()..].lines().next().unwrap_or_default();
            let module = line.strip_suffix(';').and_then(|line| line.rsplit_once("mod ")).map(|(_, module)| module);
            // A module of `a.rs` lies in `a/`, one of `lib.rs` beside it.
            let beside = if file.ends_with("lib.rs") { dir.to_path_buf() } else { file.with_extension("") };
            for_tests.extend(module.map(|module| beside.join(module)));
        }
    }
    let tested =
        |file: &&PathBuf| for_tests.iter().any(|module| file.starts_with(module) || file.with_extension("") == *module);
    files.iter().filter(|file| !tested(file)).cloned().collect()
}

/// The lines before a file's own tests, numbered.
fn product_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]")).map(|(at, line)| (at + 1, line))
}

fn all_rust_files() -> Vec<PathBuf> {
    let crates = ["protocol", "agent", "relay", "demo", "tests", "xtask"];
    crates.iter().flat_map(|dir| rust_files(&root().join(dir))).collect()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != "node_modules" {
            files.extend(rust_files(&path));
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    files
}
