//! Everything that can be given wrongly: each mistake gets a clear answer that says what to do, with a stable code and
//! exit status 1, or 2 for wrong usage. Nothing panics, nothing is half-written, nothing secret is printed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    reason = "tests: an expectation that fails is a test that fails"
)]

mod agent;
mod local_api;
mod relay;

use postern_tests::World;
use postern_tests::process::Output;
use postern_tests::secrets::secrets_in;

/// The answer to a mistake: this exit status, these words, a code, and none of what no mistake excuses.
#[track_caller]
fn told(what: &str, output: &Output, code: &str, words: &[&str]) {
    sound(what, output);
    assert_eq!(output.code, 1, "{what}: {output:?}");
    assert!(output.stderr.contains(&format!("code: {code}")), "{what} should have the code {code}: {output:?}");
    for word in words {
        assert!(output.stderr.contains(word), "{what} should say {word:?}: {output:?}");
    }
}

/// Wrong usage: exit status 2, and how to use it.
#[track_caller]
fn usage(what: &str, output: &Output) {
    sound(what, output);
    assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{what}: {output:?}");
    assert!(output.stderr.contains("Usage") || output.stderr.contains("--help"), "{what}: {output:?}");
}

#[track_caller]
fn sound(what: &str, output: &Output) {
    assert!(!output.stderr.contains("panicked") && output.code < 100, "{what}: {output:?}");
    assert_eq!(secrets_in(format!("{}{}", output.stdout, output.stderr).as_bytes(), &[CANARY]), [""; 0], "{what}");
    assert!(!output.stderr.contains('\u{1b}'), "{what}: {output:?}");
}

/// Stands in secrets; seen anywhere else, it has leaked.
const CANARY: &str = "canary-5f1d9a";

/// Nothing panicked and no secret was written to a log.
fn nothing_leaked(world: &World) {
    for (name, text) in world.all_logs() {
        assert!(!text.contains("panicked"), "{name}: {text}");
        assert_eq!(secrets_in(text.as_bytes(), &[CANARY]), [""; 0], "{name}");
    }
}
