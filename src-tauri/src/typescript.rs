//! What shell and pages say, in TypeScript: generated from the types and compared with the file that is kept; and the
//! commands, which stand in four places. After a change: `POSTERN_BLESS=1 cargo test -p postern-desktop`.

use crate::{model, organisations};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use ts_rs::{Config, TS};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ui/src/lib/agent/shell.ts");
const HEAD: &str = "// Generated from src-tauri/src by its tests: do not edit.\n// Again: POSTERN_BLESS=1 cargo test -p postern-desktop\nimport type { AppName, Finding, LocalEvent, LoginEvent, Problem } from './protocol';\n";

fn generated() -> String {
    let config = &Config::new().with_large_int("number");
    let mut text = String::from(HEAD);
    for (docs, declaration) in [
        (organisations::OrganisationId::docs(), organisations::OrganisationId::decl(config)),
        (model::DesktopEvent::docs(), model::DesktopEvent::decl(config)),
        (model::View::docs(), model::View::decl(config)),
        (model::Organisation::docs(), model::Organisation::decl(config)),
        (model::Service::docs(), model::Service::decl(config)),
        (model::Preferences::docs(), model::Preferences::decl(config)),
        (model::Theme::docs(), model::Theme::decl(config)),
        (model::Language::docs(), model::Language::decl(config)),
        (model::LoginWish::docs(), model::LoginWish::decl(config)),
    ] {
        let _ = write!(text, "\n{}export {declaration}\n", docs.unwrap_or_default());
    }
    text
}

#[test]
fn the_types_of_the_pages_are_those_of_the_shell() {
    let generated = generated();
    if std::env::var_os("POSTERN_BLESS").is_some() {
        fs::write(FILE, &generated).unwrap();
    }
    let kept = fs::read_to_string(FILE).unwrap_or_default();
    assert!(kept == generated, "{FILE} is out of date. Again: POSTERN_BLESS=1 cargo test -p postern-desktop");
}

/// The commands that there are, that the build knows, that the one capability allows and that the pages call.
#[test]
fn a16_the_pages_may_call_the_commands_and_nothing_else() {
    let read = |path: &str| fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let quoted = |text: &str| -> BTreeSet<String> { text.split('"').skip(1).step_by(2).map(str::to_owned).collect() };
    let commands = read("src/commands.rs");
    let there: BTreeSet<_> = commands
        .split("pub(crate) async fn ")
        .skip(1)
        .map(|rest| rest.split(['(', '<']).next().unwrap().to_owned())
        .collect();
    let build = read("build.rs");
    let listed = quoted(build.split_once("= &[").unwrap().1.split_once("];").unwrap().0);
    assert_eq!(listed, there);
    let capability: serde_json::Value = serde_json::from_str(&read("capabilities/main.json")).unwrap();
    let allowed: BTreeSet<_> = capability["permissions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|permission| permission.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(allowed, there.iter().map(|name| format!("allow-{}", name.replace('_', "-"))).collect());
    assert_eq!(capability["windows"], serde_json::json!(["main"]));
    assert!(capability.get("remote").is_none(), "no page from elsewhere may call anything");
    let config: serde_json::Value = serde_json::from_str(&read("tauri.conf.json")).unwrap();
    let csp = config["app"]["security"]["csp"].as_str().unwrap();
    for banned in ["unsafe-inline", "unsafe-eval", "*", "https:"] {
        assert!(!csp.contains(banned), "{csp}");
    }
}
