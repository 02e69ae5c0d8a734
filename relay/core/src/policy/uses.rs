//! Which attributes of the context a rule looks at. Building the others would cost more than all else in a decision.

use cedar_policy::Policy;
use serde_json::Value;
use std::collections::BTreeSet;

/// Attributes of the context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Uses {
    all: bool,
    names: BTreeSet<String>,
}

impl Uses {
    /// What the policy looks at, read off its syntax tree. In doubt it is everything.
    pub(super) fn of(policy: &Policy) -> Self {
        let mut uses = Self::default();
        match policy.to_json() {
            Ok(tree) => uses.walk(&tree),
            Err(_) => uses.all = true,
        }
        uses
    }

    /// Everything.
    #[cfg(test)]
    pub(super) fn everything() -> Self {
        Self { all: true, names: BTreeSet::new() }
    }

    /// Is the attribute looked at?
    pub(super) fn has(&self, name: &str) -> bool {
        self.all || self.names.contains(name)
    }

    /// Can the answer change by the passing of time alone?
    pub(super) fn timed(&self) -> bool {
        ["time", "weekday", "auth_age", "posture"].iter().any(|name| self.has(name))
    }

    /// With those of `other`.
    pub(super) fn join(&mut self, other: &Self) {
        self.all |= other.all;
        self.names.extend(other.names.iter().cloned());
    }

    /// `context.a` and `context has a` use `a`; `context` in any other place uses all of it.
    fn walk(&mut self, tree: &Value) {
        match tree {
            Value::Object(fields) => {
                for (operator, operand) in fields {
                    match (operator.as_str(), operand) {
                        ("." | "has", operand) if is_context(operand.get("left")) => {
                            self.attribute(operand.get("attr"));
                        }
                        ("Var", Value::String(name)) if name == "context" => self.all = true,
                        (_, operand) => self.walk(operand),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            _ => {}
        }
    }

    /// A name, or the path of `context has a.b`, of which the first is the context's.
    fn attribute(&mut self, attribute: Option<&Value>) {
        match attribute.map(|path| path.get(0).unwrap_or(path)) {
            Some(Value::String(name)) => {
                self.names.insert(name.clone());
            }
            _ => self.all = true,
        }
    }
}

fn is_context(left: Option<&Value>) -> bool {
    left.and_then(|left| left.get("Var")).is_some_and(|name| name == "context")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(condition: &str) -> Uses {
        let policy = format!("permit(principal, action, resource) when {{ {condition} }};");
        Uses::of(&policy.parse().unwrap())
    }

    fn only(names: &[&str]) -> Uses {
        Uses { all: false, names: names.iter().map(|&name| name.into()).collect() }
    }

    #[test]
    fn attributes_are_found_wherever_they_stand() {
        assert_eq!(uses("true"), only(&[]));
        assert_eq!(uses("context.path like \"/a*\" || !(context.method == \"GET\")"), only(&["path", "method"]));
        assert_eq!(uses("context has posture && context.posture.age < 5"), only(&["posture"]));
        assert_eq!(uses("context has posture.firewall"), only(&["posture"]));
        assert_eq!(uses("context[\"ti\\u{6d}e\"] > datetime(\"2030-01-01\")"), only(&["time"]));
        assert_eq!(uses("[1, if context.weekday < 6 then 1 else 2].contains(1)"), only(&["weekday"]));
        assert_eq!(uses("{ a: context.amr }.a.contains(\"otp\")"), only(&["amr"]));
        assert_eq!(uses("resource.name == \"context\" && principal has path"), only(&[]));
    }

    #[test]
    fn the_context_as_a_whole_is_everything() {
        for whole in [
            "context == context",
            "[context].contains({ a: 1 })",
            "{ a: context }.a.path == \"/\"",
            "(if true then context else context).path == \"/\"",
        ] {
            assert!(uses(whole).all, "{whole}");
        }
        let mut joined = only(&["path"]);
        joined.join(&uses("context == context"));
        joined.join(&only(&["host"]));
        assert!(joined.has("acr"), "and it stays everything");
        let both =
            "permit(principal, action, resource) unless { context.host == \"a\" } when { context.acr == \"b\" };";
        assert_eq!(Uses::of(&both.parse().unwrap()), only(&["host", "acr"]));
    }
}
