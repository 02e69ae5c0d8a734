//! Loading: text to validated rules, or every fault in the text with its place.
//!
//! Statements are parsed one by one, so that a slip in the first does not hide those in the others.

use super::screen::Condition;
use super::uses::Uses;
use super::{SCHEMA, step_up};
use crate::app::AppTable;
use crate::limits::MAX_POLICY_BYTES;
use cedar_policy::{
    Effect, EntityUid, Policy, PolicyId, PolicySet, Schema, ValidationError, ValidationMode, ValidationWarning,
    Validator,
};
use miette::Diagnostic;
use postern_protocol::StepUp;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::ops::Range;

/// A fault in the policy's text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyFault {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for PolicyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// A parsed and validated policy; its Cedar id is its `@id`.
pub(super) struct Rule {
    pub(super) policy: Policy,
    pub(super) reason: Option<String>,
    pub(super) fix: Option<String>,
    pub(super) step_up: Option<StepUp>,
    pub(super) uses: Uses,
    /// Where it stands in the text.
    pub(super) at: Range<usize>,
    /// Its `when` and `unless`, as trees.
    pub(super) conditions: Vec<serde_json::Value>,
    /// The same joined, where a screen can have it.
    pub(super) condition: Option<Condition>,
}

impl Rule {
    pub(super) fn is_permit(&self) -> bool {
        self.policy.effect() == Effect::Permit
    }

    /// Its `@id`.
    pub(super) fn id(&self) -> String {
        self.policy.id().to_string()
    }
}

/// How a fault begins that is about an app, or a group of apps, that the configuration does not have.
pub const NO_SUCH: &str = "there is no";

/// Most characters of `@id`, and of `@reason` and `@fix`.
const MAX_ID: usize = 64;
const MAX_TEXT: usize = 500;

/// The rules in `text`, in its order.
pub(super) fn rules(text: &str, apps: &AppTable) -> Result<Vec<Rule>, Vec<PolicyFault>> {
    if text.len() > MAX_POLICY_BYTES {
        let message = format!("the policy is larger than {MAX_POLICY_BYTES} bytes");
        return Err(vec![PolicyFault { line: 1, column: 1, message }]);
    }
    let mut loader = Loader { text, faults: BTreeSet::new() };
    let parsed: Vec<(Range<usize>, Policy)> =
        statements(text).into_iter().filter_map(|range| loader.parse(&range).map(|policy| (range, policy))).collect();
    loader.check_ids(&parsed);
    loader.check_annotations(&parsed);
    loader.check_apps(&parsed, apps);
    loader.validate(&parsed);
    if loader.faults.is_empty() {
        Ok(parsed.into_iter().map(|(at, policy)| rule(text, &policy, at)).collect())
    } else {
        Err(loader.faults.into_iter().collect())
    }
}

fn rule(text: &str, policy: &Policy, at: Range<usize>) -> Rule {
    let note = |name: &str| policy.annotation(name).map(String::from);
    let id = PolicyId::new(policy.annotation("id").unwrap_or_default());
    let (reason, fix, step_up) = (note("reason"), note("fix"), step_up::of(policy));
    let tree = policy.to_json().unwrap_or_default();
    let conditions = tree.get("conditions").and_then(|found| found.as_array()).cloned().unwrap_or_default();
    let condition = text.get(at.clone()).and_then(|source| Condition::of(source, &conditions));
    Rule { policy: policy.new_id(id), reason, fix, step_up, uses: Uses::of(policy), at, conditions, condition }
}

/// Where each statement stands: from its first character that is neither space nor comment to its semicolon.
fn statements(text: &str) -> Vec<Range<usize>> {
    let (mut found, mut start) = (Vec::new(), None);
    for (at, byte) in code(text).filter(|(_, byte)| !byte.is_ascii_whitespace()) {
        let begin = *start.get_or_insert(at);
        if byte == b';' {
            found.push(begin..at + 1);
            start = None;
        }
    }
    found.extend(start.map(|begin| begin..text.len()));
    found
}

/// The bytes that stand in no comment, and of strings the opening quote, with their places.
pub(super) fn code(text: &str) -> impl Iterator<Item = (usize, u8)> {
    let (mut quoted, mut escaped, mut comment) = (false, false, false);
    let mut bytes = text.bytes().enumerate().peekable();
    std::iter::from_fn(move || {
        loop {
            let (at, byte) = bytes.next()?;
            if comment {
                comment = byte != b'\n';
            } else if quoted {
                quoted = escaped || byte != b'"';
                escaped = !escaped && byte == b'\\';
            } else if byte == b'/' && bytes.peek().is_some_and(|(_, next)| *next == b'/') {
                comment = true;
            } else {
                quoted = byte == b'"';
                return Some((at, byte));
            }
        }
    })
}

/// `message`, at a byte offset of `text`.
pub(super) fn fault_at(text: &str, offset: usize, message: String) -> PolicyFault {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    PolicyFault { line, column, message }
}

struct Loader<'a> {
    text: &'a str,
    faults: BTreeSet<PolicyFault>,
}

impl Loader<'_> {
    fn fault(&mut self, offset: usize, message: impl Into<String>) {
        self.faults.insert(fault_at(self.text, offset, message.into()));
    }

    /// Reports what Cedar says of the statement that begins at `start`.
    fn diagnostic(&mut self, start: usize, told: &dyn Diagnostic) {
        let label = told.labels().and_then(|mut labels| labels.next());
        let offset = label.as_ref().map_or(0, miette::LabeledSpan::offset);
        let mut message = told.to_string();
        // The validator names policies by our numbers, which say nothing to the reader.
        if let Some((_, rest)) = message.strip_prefix("for policy `").and_then(|rest| rest.split_once("`, ")) {
            message = rest.to_owned();
        }
        let hints = [label.and_then(|label| label.label().map(String::from)), told.help().map(|help| help.to_string())];
        for hint in hints.into_iter().flatten().filter(|hint| !hint.is_empty()) {
            message.push_str(&format!(" ({hint})"));
        }
        self.fault(start + offset, message);
    }

    fn parse(&mut self, range: &Range<usize>) -> Option<Policy> {
        let source = self.text.get(range.clone())?;
        match Policy::parse(None, source) {
            Ok(policy) => Some(policy),
            Err(errors) => {
                for error in errors.iter() {
                    self.diagnostic(range.start, error);
                }
                None
            }
        }
    }

    /// Every policy is named, and no two alike: the audit log tells policies by their names.
    fn check_ids(&mut self, parsed: &[(Range<usize>, Policy)]) {
        let mut seen = HashMap::new();
        for (range, policy) in parsed {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            match policy.annotation("id") {
                None => self.fault(range.start, "the policy has no name: put @id(\"name\") before it"),
                Some(id) if id.is_empty() || id.len() > MAX_ID || !id.chars().all(plain) => {
                    self.fault(range.start, "an @id is 1 to 64 letters, digits, hyphens, underscores and dots");
                }
                Some(id) => {
                    if let Some(first) = seen.insert(id, range.start) {
                        let line = self.text.get(..first).unwrap_or_default().matches('\n').count() + 1;
                        self.fault(range.start, format!("@id(\"{id}\") stands at line {line} already"));
                    }
                }
            }
        }
    }

    fn check_annotations(&mut self, parsed: &[(Range<usize>, Policy)]) {
        for (range, policy) in parsed {
            for (name, value) in policy.annotations() {
                match name {
                    "id" | "note" => {}
                    "reason" | "fix" => {
                        if value.is_empty() || value.chars().count() > MAX_TEXT || value.chars().any(char::is_control) {
                            let message = format!("@{name} is 1 to {MAX_TEXT} characters on one line: people read it");
                            self.fault(range.start, message);
                        }
                    }
                    _ if step_up::NAMES.contains(&name) => {
                        if let Err(message) = step_up::check(name, value, &Uses::of(policy)) {
                            self.fault(range.start, message);
                        }
                    }
                    _ => {
                        let known = "@id, @reason, @fix, @note, @max_age and @acr_values";
                        let message = format!("@{name} is not known here: there are {known}");
                        self.fault(range.start, message);
                    }
                }
            }
        }
    }

    /// A misspelt app in a `forbid` is a hole, in a `permit` a riddle.
    fn check_apps(&mut self, parsed: &[(Range<usize>, Policy)], apps: &AppTable) {
        let known: BTreeSet<EntityUid> = apps
            .iter()
            .flat_map(|app| {
                let groups = app.groups.iter().map(|group| super::entity::app_group_uid(group));
                groups.chain([super::entity::app_uid(app)])
            })
            .collect();
        for (range, policy) in parsed {
            let literals: BTreeSet<EntityUid> = policy.entity_literals().into_iter().collect();
            for literal in literals.difference(&known) {
                let what = match literal.type_name().basename() {
                    "App" => "app",
                    "AppGroup" => "app group",
                    _ => continue,
                };
                let written = literal.to_string();
                let offset = self.text.get(range.clone()).and_then(|source| source.find(&written)).unwrap_or(0);
                self.fault(range.start + offset, format!("{NO_SUCH} {what} {written} in the configuration"));
            }
        }
    }

    fn validate(&mut self, parsed: &[(Range<usize>, Policy)]) {
        let schema = match Schema::from_cedarschema_str(SCHEMA) {
            Ok((schema, _)) => schema,
            Err(error) => return self.fault(0, format!("the built-in schema is not valid: {error}")),
        };
        // Numbered, so that the validator tells apart even policies whose names are missing or alike.
        let starts: HashMap<PolicyId, usize> =
            parsed.iter().enumerate().map(|(n, (range, _))| (PolicyId::new(n.to_string()), range.start)).collect();
        let numbered = parsed.iter().enumerate().map(|(n, (_, policy))| policy.new_id(PolicyId::new(n.to_string())));
        let set = match PolicySet::from_policies(numbered) {
            Ok(set) => set,
            Err(error) => return self.fault(0, error.to_string()),
        };
        let result = Validator::new(schema).validate(&set, ValidationMode::Strict);
        let start = |id: &PolicyId| starts.get(id).copied().unwrap_or(0);
        for error in result.validation_errors() {
            self.diagnostic(start(error.policy_id()), error);
        }
        let faulty: HashSet<&PolicyId> = result.validation_errors().map(ValidationError::policy_id).collect();
        // A policy with an error often never applies either; that is no second fault.
        for warning in result.validation_warnings().filter(|w| is_fault(w) && !faulty.contains(w.policy_id())) {
            self.diagnostic(start(warning.policy_id()), warning);
        }
    }
}

/// A policy that never applies is a slip; text that reads otherwise than it runs is an attack. The rest is style.
fn is_fault(warning: &ValidationWarning) -> bool {
    matches!(
        warning,
        ValidationWarning::ImpossiblePolicy(_)
            | ValidationWarning::InvalidActionApplication(_)
            | ValidationWarning::BidiCharsInString(_)
            | ValidationWarning::BidiCharsInIdentifier(_)
    )
}
