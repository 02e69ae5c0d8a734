//! A screen before the forbids of a set: one expression that is false where none of them can match.
//!
//! Most forbids do not match most requests, and asking Cedar for each of them costs four times as much as evaluating
//! their joined conditions once. The screen only ever saves the question: unless it is plainly false, all are asked.

use super::load::{Rule, code};
use cedar_policy::{Entities, EvalResult, Expression, Policy, Request, eval_expression};
use serde_json::{Value, json};

/// `condition of the first || condition of the second || ...`, without their scopes.
#[derive(Debug)]
pub(super) struct Screen(Expression);

/// What the `when` and `unless` of a rule demand together, as it is written and as the tree that must be read there.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    text: String,
    tree: Value,
}

/// How deep a rule may be to be screened, in brackets and in its tree. Cedar reads what is deep with much stack; a rule
/// that loads by itself must load among thousands.
const MAX_BRACKETS: usize = 8;
const MAX_DEPTH: usize = 48;
const MAX_CLAUSES: usize = 8;

/// How many stand in one chain of the screen: a tree of chains is neither deep in brackets nor in operators.
const CHAIN: usize = 8;

impl Screen {
    /// Nothing where there is no rule, or one that cannot be screened.
    pub(super) fn new(rules: &[&Rule]) -> Option<Self> {
        let conditions: Option<Vec<Condition>> = rules.iter().map(|rule| rule.condition.clone()).collect();
        let Condition { text, tree } = joined(conditions?)?;
        read(&text, &tree).map(Self)
    }

    /// May one of the rules match, or fail to evaluate?
    pub(super) fn lets_through(&self, request: &Request, entities: &Entities) -> bool {
        !matches!(eval_expression(request, entities, &self.0), Ok(EvalResult::Bool(false)))
    }
}

impl Condition {
    /// That of the rule in `source`, whose clauses Cedar has read as these trees. Nothing where there is none, for then
    /// there is nothing to tell beforehand, and where it is too deep or long.
    pub(super) fn of(source: &str, clauses: &[Value]) -> Option<Self> {
        let bodies = bodies(source)?;
        if bodies.len() != clauses.len() || clauses.len() > MAX_CLAUSES {
            return None;
        }
        let clauses = bodies.into_iter().zip(clauses).map(|(body, clause)| {
            let tree = clause.get("body").filter(|tree| is_flat(tree, MAX_DEPTH))?.clone();
            match clause.get("kind")?.as_str()? {
                "when" => Some(Self { text: format!("({body})"), tree }),
                "unless" => Some(Self { text: format!("!({body})"), tree: json!({ "!": { "arg": tree } }) }),
                _ => None,
            }
        });
        clauses.collect::<Option<Vec<_>>>()?.into_iter().reduce(|left, right| left.with("&&", &right))
    }

    fn with(self, operator: &str, right: &Self) -> Self {
        let text = format!("{} {operator} {}", self.text, right.text);
        Self { text, tree: json!({ operator: { "left": self.tree, "right": right.tree } }) }
    }
}

/// The condition in `text`: Cedar makes expressions from text alone. It must read as what was meant.
fn read(text: &str, meant: &Value) -> Option<Expression> {
    let policy: Policy = format!("forbid(principal, action, resource) when {{ {text} }};").parse().ok()?;
    let same = *policy.to_json().ok()?.get("conditions")? == json!([{ "kind": "when", "body": meant }]);
    text.parse().ok().filter(|_| same)
}

/// What stands in the braces of each `when` and `unless` of a rule; nothing: it is too deep.
fn bodies(source: &str) -> Option<Vec<&str>> {
    let (mut found, mut begin, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, byte) in code(source) {
        match byte {
            b'(' | b'[' | b'{' => {
                if depth == 0 {
                    begin = at + 1;
                }
                depth += 1;
            }
            b')' | b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 && byte == b'}' {
                    found.push(source.get(begin..at)?);
                }
            }
            _ => {}
        }
        if depth > MAX_BRACKETS {
            return None;
        }
    }
    Some(found)
}

/// Is nothing in the tree deeper than this?
fn is_flat(tree: &Value, depth: usize) -> bool {
    match tree {
        Value::Object(fields) => depth > 0 && fields.values().all(|field| is_flat(field, depth - 1)),
        Value::Array(items) => depth > 0 && items.iter().all(|item| is_flat(item, depth - 1)),
        _ => true,
    }
}

/// One that is true where one of these is.
fn joined(mut level: Vec<Condition>) -> Option<Condition> {
    while level.len() > 1 {
        let (mut above, mut conditions) =
            (Vec::with_capacity(level.len().div_ceil(CHAIN)), level.into_iter().peekable());
        while conditions.peek().is_some() {
            let chain = conditions.by_ref().take(CHAIN).reduce(|left, right| left.with("||", &right));
            above.extend(chain.map(|chain| Condition { text: format!("({})", chain.text), ..chain }));
        }
        level = above;
    }
    level.pop()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::policy::load;
    use cedar_policy::{Context, EntityUid, RestrictedExpression};

    /// The screen for forbids with these clauses.
    fn screen(clauses: &[&str]) -> Option<Screen> {
        let texts = clauses.iter().enumerate().map(|(n, clause)| {
            format!("@id(\"rule-{n}\") forbid(principal, action == Action::\"request\", resource) {clause};")
        });
        let rules = load::rules(&texts.collect::<String>(), &fixture::apps()).unwrap();
        Screen::new(&rules.iter().collect::<Vec<_>>())
    }

    fn screened(clauses: &[&str]) -> bool {
        screen(clauses).is_some()
    }

    /// Whether forbids with these clauses would be asked of a request for `host` on this day of the week.
    fn asked(clauses: &[&str], host: &str, weekday: i64) -> bool {
        let host = RestrictedExpression::new_string(host.into());
        let weekday = RestrictedExpression::new_long(weekday);
        let context = Context::from_pairs([("host".into(), host), ("weekday".into(), weekday)]).unwrap();
        let uid = |text: &str| text.parse::<EntityUid>().unwrap();
        let (user, action, app) = (uid("User::\"u\""), uid("Action::\"request\""), uid("App::\"wiki\""));
        let request = Request::new(user, action, app, context, None).unwrap();
        screen(clauses).unwrap().lets_through(&request, &Entities::empty())
    }

    /// Asked exactly where one of them may match or fail: in vain would be slow, and too seldom would open a door.
    #[test]
    fn what_plainly_cannot_match_is_not_asked() {
        let both = "when { context.host == \"a\" } unless { context.weekday > 5 }";
        for (host, weekday, through) in [("a", 1, true), ("a", 6, false), ("b", 1, false), ("b", 6, false)] {
            assert_eq!(asked(&[both], host, weekday), through, "{host} {weekday}");
            assert_eq!(asked(&["when { context.host == \"c\" }", both], host, weekday), through, "{host} {weekday}");
        }
        let of = |host: &str| format!("when {{ context.host == \"{host}\" }}");
        let five = ["a", "b", "c", "d", "e"].map(of);
        let five: Vec<&str> = five.iter().map(String::as_str).collect();
        assert!(["a", "b", "c", "d", "e"].iter().all(|host| asked(&five, host, 1)) && !asked(&five, "f", 1));
        // What cannot be evaluated is no: it is asked, and Cedar tells which it is.
        let overflow = "context.weekday * 9223372036854775807 > 0";
        assert!(asked(&[&format!("when {{ {overflow} }} when {{ context.host == \"a\" }}")], "b", 2));
        assert!(!asked(&[&format!("when {{ context.host == \"a\" }} when {{ {overflow} }}")], "b", 2));
        assert!(asked(&[&of("a"), &format!("when {{ {overflow} }}")], "b", 2));
    }

    #[test]
    fn text_that_reads_otherwise_makes_no_screen() {
        let policy: Policy = "forbid(principal, action, resource) when { 1 != 2 };".parse().unwrap();
        let meant = policy.to_json().unwrap()["conditions"][0]["body"].clone();
        assert!(read("1 != 2", &meant).is_some() && read("(1 != (2 // no more\n))", &meant).is_some());
        for other in ["1 == 2", "2 != 1", "!(1 != 2)", "1 != 2 || 1 != 2", "1 != 2 } when { 1 != 2", "1 != 2 }; //", ""]
        {
            assert!(read(other, &meant).is_none(), "{other}");
        }
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
            "when { // why \" } {\n context.host == \"// }\" // why not }\n} unless { context.weekday == 7 //\n}",
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
        let one = Condition { text: "x".into(), tree: json!(1) };
        let deep = |n: usize| joined(vec![one.clone(); n]).unwrap();
        fn depth(tree: &Value) -> usize {
            tree.get("||").map_or(0, |or| 1 + depth(&or["left"]).max(depth(&or["right"])))
        }
        assert_eq!([1, 5, 8, 9, 4096].map(|n| depth(&deep(n).tree)), [0, 4, 7, 8, 28]);
        assert_eq!(deep(9).text, "((x || x || x || x || x || x || x || x) || (x))");
        assert!(joined(Vec::new()).is_none());
    }

    /// Cedar's readers take stack for what is deep: no rule loads by itself and not among others.
    #[test]
    fn what_is_deep_is_asked_and_not_screened() {
        let chain = |n: usize| format!("when {{ {} }}", vec!["context.host == \"a\""; n].join(" || "));
        assert!(screened(&[&chain(10)]) && !screened(&[&chain(60)]));
        let whens = |n: usize| vec!["when { context.host == \"a\" }"; n].join(" ");
        assert!(screened(&[&whens(8)]) && !screened(&[&whens(2000)]));
        let nested = |n: usize| format!("when {{ {}context.host == \"a\"{} }}", "(".repeat(n), ")".repeat(n));
        assert!(screened(&[&nested(7)]) && !screened(&[&nested(8)]));
        let whole = chain(10);
        assert!(screened(&vec![whole.as_str(); 200]));
    }
}
