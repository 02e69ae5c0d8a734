//! A screen before the forbids of a set: one expression that is false where none of them can match.
//!
//! Most forbids do not match most requests, and asking Cedar for each of them costs four times as much as evaluating
//! their joined conditions once. The screen only ever saves the question: unless it is plainly false, all are asked.

use super::load::Rule;
use cedar_policy::{Entities, EvalResult, Expression, Policy, Request, eval_expression};
use serde_json::{Value, json};

/// `condition of the first || condition of the second || ...`, without their scopes.
#[derive(Debug)]
pub(super) struct Screen(Expression);

impl Screen {
    /// Nothing where a rule has no condition, for then there is nothing to tell beforehand.
    pub(super) fn new(rules: &[&Rule]) -> Option<Self> {
        let conditions: Option<Vec<Value>> = rules.iter().map(|rule| condition(rule)).collect();
        let whole = json!({
            "effect": "forbid",
            "principal": { "op": "All" },
            "action": { "op": "All" },
            "resource": { "op": "All" },
            "conditions": [{ "kind": "when", "body": balanced(conditions?)? }],
        });
        let meant = canonical(whole.clone());
        let text = Policy::from_json(None, whole).ok()?.to_cedar()?;
        // Cedar makes expressions from text alone. What was written must read as what was meant.
        if canonical(text.parse::<Policy>().ok()?.to_json().ok()?) != meant {
            return None;
        }
        let (_, body) = text.split_once("when {")?;
        let (body, _) = body.rsplit_once('}')?;
        body.parse().ok().map(Self)
    }

    /// May one of the rules match, or fail to evaluate?
    pub(super) fn lets_through(&self, request: &Request, entities: &Entities) -> bool {
        !matches!(eval_expression(request, entities, &self.0), Ok(EvalResult::Bool(false)))
    }
}

/// What `when` and `unless` demand together, in their order.
fn condition(rule: &Rule) -> Option<Value> {
    let clauses = rule.conditions.iter().map(|clause| {
        let body = clause.get("body")?.clone();
        match clause.get("kind")?.as_str()? {
            "when" => Some(body),
            "unless" => Some(json!({ "!": { "arg": body } })),
            _ => None,
        }
    });
    let clauses: Option<Vec<Value>> = clauses.collect();
    clauses?.into_iter().reduce(|left, right| json!({ "&&": { "left": left, "right": right } }))
}

/// As flat a tree as can be: a chain of thousands would be as deep.
fn balanced(mut level: Vec<Value>) -> Option<Value> {
    while level.len() > 1 {
        let mut pairs = level.into_iter();
        let mut above = Vec::with_capacity(pairs.len().div_ceil(2));
        while let Some(left) = pairs.next() {
            above.push(match pairs.next() {
                Some(right) => json!({ "||": { "left": left, "right": right } }),
                None => left,
            });
        }
        level = above;
    }
    level.pop()
}

/// The tree with what is short for something else written out, as Cedar writes it.
fn canonical(tree: Value) -> Value {
    match tree {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(operator, operand)| (operator, canonical(operand)));
            let fields = fields.map(|(operator, operand)| match operator.as_str() {
                "!=" => denied("==", &operand),
                ">" => denied("<=", &operand),
                ">=" => denied("<", &operand),
                "is" => is_in(operand),
                _ => (operator, operand),
            });
            Value::Object(fields.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(canonical).collect()),
        plain => plain,
    }
}

fn denied(operator: &str, operand: &Value) -> (String, Value) {
    ("!".to_owned(), json!({ "arg": { operator: operand } }))
}

/// `a is T in b` is `a is T && a in b`.
fn is_in(mut operand: Value) -> (String, Value) {
    let within = operand.as_object_mut().and_then(|fields| fields.remove("in"));
    let left = operand.get("left").cloned();
    match within {
        Some(right) => {
            ("&&".into(), json!({ "left": { "is": operand }, "right": { "in": { "left": left, "right": right } } }))
        }
        None => ("is".into(), operand),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::policy::load;

    /// Is there a screen for forbids with these clauses?
    fn screened(clauses: &[&str]) -> bool {
        let texts = clauses.iter().enumerate().map(|(n, clause)| {
            format!("@id(\"rule-{n}\") forbid(principal, action == Action::\"request\", resource) {clause};")
        });
        let rules = load::rules(&texts.collect::<String>(), &fixture::apps()).unwrap();
        Screen::new(&rules.iter().collect::<Vec<_>>()).is_some()
    }

    #[test]
    fn what_policies_say_can_be_screened() {
        for clause in [
            "when { context.path like \"/admin\\*/*\" && context.method != \"GET\" }",
            "when { context.host == \"a\\\"}{\" } unless { context has posture && context.posture.age < 600 }",
            "unless { context has auth_age && context.auth_age <= 900 && context.amr.contains(\"otp\") }",
            "when { context.weekday > 5 || context.weekday >= 6 || -context.weekday < -6 }",
            "when { context.time.toTime() > duration(\"12h\") && !context.source_ip.isInRange(ip(\"192.0.2.0/24\")) }",
            "when { principal in [Group::\"a\", Group::\"b\"] && resource is App in AppGroup::\"internal\" }",
            "when { if context has acr then [\"a\", \"b\"].contains(context.acr) else context.device == Device::\"x\" }",
            "when { context has posture.firewall && !context.posture.firewall }",
            "when { { a: context.host }[\"a\"] == \"\\u{e9}\\n\" }",
        ] {
            assert!(screened(&[clause]) && screened(&[clause, clause, clause]), "{clause}");
        }
    }

    #[test]
    fn a_forbid_without_conditions_is_always_asked() {
        assert!(!screened(&[""]) && !screened(&["when { context.weekday == 7 }", ""]));
    }

    #[test]
    fn thousands_are_no_deeper_than_a_few() {
        let deep = |n: usize| balanced((0..n).map(|n| json!(n)).collect()).unwrap();
        fn depth(tree: &Value) -> usize {
            tree.get("||").map_or(0, |or| 1 + depth(&or["left"]).max(depth(&or["right"])))
        }
        assert_eq!((depth(&deep(1)), depth(&deep(5)), depth(&deep(4096))), (0, 3, 12));
        assert!(balanced(Vec::new()).is_none());
    }
}
