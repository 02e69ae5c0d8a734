//! The local API in TypeScript, for the desktop's pages: generated from the types themselves and compared with the
//! file that is kept. After a change: `POSTERN_BLESS=1 cargo test -p postern-protocol`.

use crate::local;
use std::fmt::Write as _;
use std::path::Path;
use ts_rs::{Config, TS};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ui/src/lib/agent/protocol.ts");
const HEAD: &str = "// Generated from protocol/src by its tests: do not edit.\n// Again: POSTERN_BLESS=1 cargo test -p postern-protocol\n";

macro_rules! declarations {
    ($config:expr; $($type:ty),* $(,)?) => {
        [$((<$type>::docs(), <$type>::decl($config))),*]
    };
}

fn generated() -> String {
    let config = &Config::new().with_large_int("number");
    let mut text = String::from(HEAD);
    let all = declarations![config;
        crate::Code, crate::AppName, crate::DecisionId, crate::DeviceId, crate::SessionId, crate::Timestamp,
        crate::Problem, crate::StepUp,
        crate::control::Principal, crate::control::Posture, crate::control::AppKind, crate::control::AppEntry,
        local::State, local::Status, local::Carrier, local::DeviceStatus, local::SessionStatus,
        local::SignedOut, local::Untold, local::Party,
        local::LocalApps, local::LocalApp, local::LoginRequest, local::LoginMethod, local::LoginEvent,
        local::Denials, local::Denial, local::DenialKind, local::LocalEvent,
        local::Activity, local::ActivityEntry, local::ActivityKind, local::AppTraffic,
        local::Check, local::CheckResult, local::Finding, local::Logs, local::LogLine, local::Settings,
    ];
    for (docs, declaration) in all {
        let docs = docs.unwrap_or_default();
        let _ = write!(text, "\n{docs}export {declaration}\n");
    }
    text
}

#[test]
fn the_types_of_the_pages_are_those_of_the_agent() {
    let generated = generated();
    let path = Path::new(FILE);
    if std::env::var_os("POSTERN_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &generated).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == generated, "{FILE} is out of date. Again: POSTERN_BLESS=1 cargo test -p postern-protocol");
}
