//! Which settings of `relay.toml` have changed that only a restart brings into force.

use toml::{Table, Value};

/// What is in force at once: the apps, and the policy's file.
const AT_ONCE: [&str; 2] = ["app", "policy"];

/// The settings that differ, as `section.key`.
pub(super) fn changed(old: &str, new: &str) -> Vec<String> {
    let (old, new) = (table(old), table(new));
    let mut found = Vec::new();
    compare("", &old, &new, &mut found);
    found.retain(|name| !AT_ONCE.iter().any(|at_once| name.split('.').next() == Some(at_once)));
    found
}

fn table(text: &str) -> Table {
    text.parse().unwrap_or_default()
}

fn compare(section: &str, old: &Table, new: &Table, found: &mut Vec<String>) {
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let name = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
        match (old.get(key), new.get(key)) {
            (Some(Value::Table(old)), Some(Value::Table(new))) => compare(&name, old, new, found),
            (old, new) if old != new => found.push(name),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_named_and_apps_are_not() {
        let old = "organisation = \"A\"\n[limits]\nburst = 1\n[provider]\nissuer = \"x\"\n[[app]]\nname = \"a\"\n";
        let new = "organisation = \"A\" # again\n[limits]\nburst = 2\n[posture]\nmax_age = \"5m\"\n[provider]\nissuer = \"x\"\n\
                   [policy]\nfile = \"p\"\n[[app]]\nname = \"b\"\n";
        assert_eq!(changed(old, new), ["limits.burst", "posture"]);
        assert_eq!(changed(old, old), [""; 0]);
    }
}
