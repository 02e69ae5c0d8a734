//! What is no mistake and yet hardly meant: shown by `policy check`, and never in the way.

use super::entity;
use super::load::{self, PolicyFault, Rule};
use super::slice::{concerns, distance};
use crate::app::{App, AppTable};
use cedar_policy::{ActionConstraint, PrincipalConstraint};
use postern_protocol::control::AppKind;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Shortest group name that is compared letter by letter: of shorter ones nearly all are near each other.
const SHORTEST: usize = 4;

/// Looks through a policy that loads. `seen` are groups that somebody is known to have been in.
pub fn warnings(text: &str, apps: &AppTable, seen: &BTreeSet<String>) -> Vec<PolicyFault> {
    let Ok(rules) = load::rules(text, apps) else { return Vec::new() };
    let mut found = groups(text, &rules, seen);
    for rule in &rules {
        let id = rule.id();
        if !apps.iter().any(|app| can_match(rule, app)) {
            let message = format!("{id} can never match: no app in its scope is of the kind of its action");
            found.push(load::fault_at(text, rule.at.start, message));
        } else if rule.is_permit()
            && let Some(forbid) = rules.iter().find(|forbid| !forbid.is_permit() && covers(forbid, rule, apps))
        {
            let message = format!("{id} can never permit: {} forbids all of it", forbid.id());
            found.push(load::fault_at(text, rule.at.start, message));
        }
    }
    found.sort();
    found
}

/// The groups that the policy names, each with the place where it does so first.
fn named(text: &str, rules: &[Rule]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for rule in rules {
        for literal in rule.policy.entity_literals() {
            if literal.type_name().basename() == "Group" {
                let source = text.get(rule.at.clone()).unwrap_or_default();
                let at = rule.at.start + source.find(&literal.to_string()).unwrap_or(0);
                let name: &str = literal.id().as_ref();
                found.entry(name.to_owned()).and_modify(|first: &mut usize| *first = at.min(*first)).or_insert(at);
            }
        }
    }
    found
}

/// A group that nobody was ever in and that is spelt nearly like another is probably that other one. Where nothing is known
/// of anybody's groups, only such a one is told of.
fn groups(text: &str, rules: &[Rule], seen: &BTreeSet<String>) -> Vec<PolicyFault> {
    let named = named(text, rules);
    let unseen = named.iter().filter(|(name, _)| !seen.contains(*name));
    let twin = |(name, at): (&String, &usize)| {
        let others = seen.iter().chain(named.iter().filter(|(_, there)| *there < at).map(|(other, _)| other));
        let unknown = format!("nobody is known to be in the group \"{name}\"");
        let message = match others.into_iter().find(|other| near(name, other)) {
            Some(other) if seen.contains(other) => format!("{unknown}; people are in \"{other}\""),
            Some(other) => format!("{unknown}; another policy names \"{other}\""),
            None if seen.is_empty() => return None,
            None => unknown,
        };
        Some(load::fault_at(text, *at, message))
    };
    unseen.filter_map(twin).collect()
}

/// Do the names differ, and only in case, or by one slip of the keyboard?
fn near(one: &str, other: &str) -> bool {
    let long = one.chars().count() >= SHORTEST && other.chars().count() >= SHORTEST;
    one != other && (one.to_lowercase() == other.to_lowercase() || long && strsim::damerau_levenshtein(one, other) == 1)
}

fn can_match(rule: &Rule, app: &App) -> bool {
    let action = match app.kind {
        AppKind::Http => entity::request_action(),
        AppKind::Tcp => entity::connect_action(),
    };
    distance(rule, app).is_some() && concerns(rule, &action)
}

/// Does `forbid` strike wherever `permit` matches? Only what can be seen without reading conditions.
fn covers(forbid: &Rule, permit: &Rule, apps: &AppTable) -> bool {
    let (theirs, ours) = (forbid.policy.principal_constraint(), permit.policy.principal_constraint());
    let principals = matches!(theirs, PrincipalConstraint::Any | PrincipalConstraint::Is(_)) || theirs == ours;
    let (theirs, ours) = (forbid.policy.action_constraint(), permit.policy.action_constraint());
    let actions = theirs == ActionConstraint::Any || theirs == ours;
    let apps = apps.iter().filter(|app| can_match(permit, app)).all(|app| distance(forbid, app).is_some());
    let conditions = forbid.conditions.is_empty() || forbid.conditions == permit.conditions;
    principals && actions && apps && conditions
}

/// A policy as its author wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleText {
    /// Its `@id`.
    pub id: String,
    /// A permit, not a forbid?
    pub permit: bool,
    /// `@reason`.
    pub reason: Option<String>,
    /// `@fix`.
    pub fix: Option<String>,
    /// The line it begins on, from 1.
    pub line: usize,
    /// All of its text.
    pub(super) at: Range<usize>,
}

impl RuleText {
    /// Of each rule, which stand in the text's order.
    pub(super) fn all(text: &str, rules: &[Rule]) -> Vec<Self> {
        let (mut line, mut from) = (1, 0);
        let mut place = |rule: &Rule| {
            line += text.get(from..rule.at.start).unwrap_or_default().matches('\n').count();
            from = rule.at.start;
            Self {
                id: rule.id(),
                permit: rule.is_permit(),
                reason: rule.reason.clone(),
                fix: rule.fix.clone(),
                line,
                at: rule.at.clone(),
            }
        };
        rules.iter().map(&mut place).collect()
    }
}
