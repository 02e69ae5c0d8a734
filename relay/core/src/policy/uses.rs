//! What a rule looks at. Building all that it could look at would cost more than all else in a decision.

use cedar_policy::{Policy, ResourceConstraint};
use serde_json::Value;
use std::collections::BTreeSet;

/// Attributes of the context, and the app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Uses {
    all: bool,
    names: BTreeSet<String>,
    posture: Fields,
    app: bool,
}

/// What is looked at of the posture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fields {
    all: bool,
    names: BTreeSet<String>,
}

impl Uses {
    /// What the policy looks at, read off its syntax tree. In doubt it is everything.
    pub(super) fn of(policy: &Policy) -> Self {
        let mut uses = Self::default();
        match policy.to_json() {
            Ok(tree) => uses.walk(&tree),
            Err(_) => uses = Self::everything(),
        }
        uses.app |= matches!(policy.resource_constraint(), ResourceConstraint::In(_) | ResourceConstraint::IsIn(..));
        uses
    }

    /// Everything.
    pub(super) fn everything() -> Self {
        Self { all: true, app: true, ..Self::default() }
    }

    /// Is the attribute looked at?
    pub(super) fn has(&self, name: &str) -> bool {
        self.all || self.names.contains(name)
    }

    /// Is this field of the posture looked at?
    pub(super) fn has_posture(&self, field: &str) -> bool {
        self.all || self.posture.all || self.posture.names.contains(field)
    }

    /// Is the app looked at, beyond which one it is? Then it must be among the entities.
    pub(super) fn app(&self) -> bool {
        self.app
    }

    /// Can the answer change by the passing of time alone?
    pub(super) fn timed(&self) -> bool {
        self.has_posture("age") || ["time", "weekday", "auth_age"].iter().any(|name| self.has(name))
    }

    /// With those of `other`.
    pub(super) fn join(&mut self, other: &Self) {
        self.all |= other.all;
        self.app |= other.app;
        self.posture.all |= other.posture.all;
        self.names.extend(other.names.iter().cloned());
        self.posture.names.extend(other.posture.names.iter().cloned());
    }

    /// `context.a` and `context has a` use `a`; `context` in any other place uses all of it. Likewise `context.posture`.
    /// The app is used by its variable and by its name.
    fn walk(&mut self, tree: &Value) {
        match tree {
            Value::Object(fields) => {
                for (operator, operand) in fields {
                    match (operator.as_str(), operand) {
                        ("." | "has", operand) if is_posture(operand.get("left")) => {
                            self.names.insert(POSTURE.into());
                            self.field(operand.get("attr"));
                        }
                        ("." | "has", operand) if is_context(operand.get("left")) => {
                            self.attribute(operator == ".", operand.get("attr"));
                        }
                        ("Var", Value::String(name)) if name == "context" => self.all = true,
                        ("Var", Value::String(name)) if name == "resource" => self.app = true,
                        // It may be the one that is asked for.
                        ("__entity", named) if named.get("type").is_some_and(|of| of == "App") => self.app = true,
                        (_, operand) => self.walk(operand),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            _ => {}
        }
    }

    /// A name, or the path of `context has a.b`, of which the first is the context's.
    fn attribute(&mut self, whole: bool, attribute: Option<&Value>) {
        match attribute.map(|path| path.get(0).unwrap_or(path)) {
            Some(Value::String(name)) => {
                self.posture.all |= whole && name == POSTURE;
                if let Some(field) = attribute.and_then(|path| path.get(1)).filter(|_| name == POSTURE) {
                    self.field(Some(field));
                }
                self.names.insert(name.clone());
            }
            _ => self.all = true,
        }
    }

    /// A field of the posture. It has no records in it, so that a path ends at its first name.
    fn field(&mut self, attribute: Option<&Value>) {
        match attribute.map(|path| path.get(0).unwrap_or(path)) {
            Some(Value::String(name)) => drop(self.posture.names.insert(name.clone())),
            _ => self.posture.all = true,
        }
    }
}

const POSTURE: &str = "posture";

fn is_context(left: Option<&Value>) -> bool {
    left.and_then(|left| left.get("Var")).is_some_and(|name| name == "context")
}

/// `context.posture`
fn is_posture(left: Option<&Value>) -> bool {
    let read = left.and_then(|left| left.get("."));
    read.is_some_and(|read| is_context(read.get("left")) && read.get("attr").is_some_and(|name| name == POSTURE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(condition: &str) -> Uses {
        let policy = format!("permit(principal, action, resource) when {{ {condition} }};");
        Uses::of(&policy.parse().unwrap())
    }

    fn only(names: &[&str]) -> Uses {
        Uses { names: names.iter().map(|&name| name.into()).collect(), ..Uses::default() }
    }

    fn posture(fields: &[&str]) -> Uses {
        let names = fields.iter().map(|&name| name.into()).collect();
        Uses { posture: Fields { all: false, names }, ..only(&["posture"]) }
    }

    #[test]
    fn attributes_are_found_wherever_they_stand() {
        assert_eq!(uses("true"), only(&[]));
        assert_eq!(uses("context.path like \"/a*\" || !(context.method == \"GET\")"), only(&["path", "method"]));
        assert_eq!(uses("context has posture && context.posture.age < 5"), posture(&["age"]));
        assert_eq!(uses("context has posture.firewall"), posture(&["firewall"]));
        assert_eq!(
            uses("context.posture has firewall && context.posture[\"os\"] == \"linux\""),
            posture(&["firewall", "os"])
        );
        assert_eq!(uses("context has posture"), posture(&[]));
        assert_eq!(uses("context[\"ti\\u{6d}e\"] > datetime(\"2030-01-01\")"), only(&["time"]));
        assert_eq!(uses("[1, if context.weekday < 6 then 1 else 2].contains(1)"), only(&["weekday"]));
        assert_eq!(uses("{ a: context.amr }.a.contains(\"otp\")"), only(&["amr"]));
        assert_eq!(uses("principal.subject == \"context\" && principal has path"), only(&[]));
    }

    #[test]
    fn a_posture_that_is_compared_or_handed_on_is_used_whole() {
        for whole in
            ["context.posture == context.posture", "{ a: context.posture }.a.os == \"linux\"", "context == context"]
        {
            assert!(uses(whole).has_posture("kernel_version"), "{whole}");
        }
        assert!(!uses("context has posture && context.posture.age < 5").has_posture("os"));
        assert!(uses("context.posture.age < 5").timed() && uses("context.posture == context.posture").timed());
        assert!(!uses("context.posture has firewall").timed(), "a report that is too old ends the permit anyway");
    }

    #[test]
    fn the_app_is_used_by_its_attributes_and_its_groups() {
        assert!(!Uses::of(&"permit(principal, action, resource == App::\"a\");".parse().unwrap()).app());
        assert!(!Uses::of(&"permit(principal, action, resource is App);".parse().unwrap()).app());
        for scope in ["resource in AppGroup::\"g\"", "resource is App in AppGroup::\"g\""] {
            assert!(Uses::of(&format!("permit(principal, action, {scope});").parse().unwrap()).app(), "{scope}");
        }
        for condition in [
            "resource.name == \"a\"",
            "[resource].contains(principal)",
            "principal in resource",
            "App::\"a\" in AppGroup::\"g\"",
            "[App::\"a\".kind].contains(\"http\")",
        ] {
            assert!(uses(condition).app(), "{condition}");
        }
        assert!(!uses("principal in Group::\"App\"").app());
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
