//! The policy: Cedar, strictly validated when it is loaded, sliced by app, action and principal, and asked by
//! [`access::decide`](crate::access::decide) alone.

mod context;
mod entity;
mod load;
mod screen;
mod slice;
mod step_up;
mod uses;
mod warnings;

pub use load::{NO_SUCH, PolicyFault};
pub use warnings::{RuleText, warnings};

pub(crate) use context::Facts;
pub(crate) use entity::Subject;

use crate::access::{Action, Supposed};
use crate::app::AppTable;
use cedar_policy::{EntityUid, Request};
use postern_protocol::{AppName, StepUp};
use slice::{AppSlice, Slice};
use std::collections::HashMap;
use std::sync::Arc;

/// The schema that policies are validated against.
pub const SCHEMA: &str = include_str!("policy/schema.cedarschema");

/// What stands before a policy's thumbprint in the audit log, in `start` and `policy_load`.
pub const SHA256_IS: &str = "policy sha256: ";

/// A loaded policy. It belongs to the apps it was loaded for.
#[derive(Debug)]
pub struct Policy {
    apps: Arc<AppTable>,
    slices: HashMap<AppName, AppSlice>,
    rules: Vec<RuleText>,
    text: Box<str>,
}

/// A permit that may lead to an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermitFor {
    /// Its `@id`.
    pub id: String,
    /// The user or group that it is for, as Cedar writes it; absent: for everybody.
    pub only: Option<String>,
    /// Is it for the person asked about?
    pub concerns: bool,
}

/// What the policy says to one question.
pub(crate) struct Verdict {
    pub(crate) allowed: bool,
    /// The determining policies by `@id`.
    pub(crate) policies: Vec<String>,
    /// What the refused requester is told, in the author's words where there are any.
    pub(crate) reason: Option<String>,
    pub(crate) fix: Option<String>,
    /// Of a denial that a fresher or stronger sign-in would mend: which.
    pub(crate) step_up: Option<StepUp>,
    /// Does a permit match? Of a denial it is known only where a sign-in would mend it.
    pub(crate) permitted: bool,
}

impl Policy {
    /// Parses and validates `text` for `apps`; or every fault in it, with line and column.
    pub fn load(text: &str, apps: Arc<AppTable>) -> Result<Self, Vec<PolicyFault>> {
        let rules = load::rules(text, &apps)?;
        let slices = slice::by_app(&rules, &apps).map_err(|fault| vec![fault])?;
        let rules = RuleText::all(text, &rules);
        Ok(Self { apps, slices, rules, text: text.into() })
    }

    /// A commented policy to begin with.
    pub fn sample() -> &'static str {
        include_str!("policy/sample.cedar")
    }

    /// The apps it was loaded for.
    pub fn apps(&self) -> &Arc<AppTable> {
        &self.apps
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Is there no policy? Then nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What it was loaded from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// base64url(SHA-256) of [`Self::text`].
    pub fn thumbprint(&self) -> String {
        postern_protocol::binding::thumbprint(self.text.as_bytes())
    }

    /// The policy of this `@id`, and all of its text.
    pub fn rule(&self, id: &str) -> Option<(&RuleText, &str)> {
        let rule = self.rules.iter().find(|rule| rule.id == id)?;
        Some((rule, self.text.get(rule.at.clone())?))
    }

    /// The permits for an app and an action, in the order of the text, and whether they are for this person. Of those that
    /// are, it is their conditions that did not hold where the request was denied all the same.
    pub fn permits(&self, request: &crate::access::Request, who: &Supposed) -> Vec<PermitFor> {
        let subject = Subject::new(&who.principal, &who.groups, &who.device);
        let slice = self.slices.get(&request.app).map(|slices| slices.of(&request.action));
        let permits = slice.map(Slice::permits).unwrap_or_default().into_iter();
        let is_in = |scope: &EntityUid| subject.as_ref().is_some_and(|subject| subject.is_in(scope));
        permits
            .map(|(id, scope)| PermitFor {
                id,
                concerns: scope.as_ref().is_none_or(is_in),
                only: scope.map(|scope| scope.to_string()),
            })
            .collect()
    }

    /// Can the answer for this app and action change by the passing of time alone?
    pub(crate) fn is_timed(&self, app: &AppName, action: &Action) -> bool {
        self.slices.get(app).is_some_and(|slices| slices.of(action).uses().timed())
    }

    /// May it? Without a slice for the app, no.
    pub(crate) fn ask(&self, app: &AppName, facts: &Facts<'_>) -> Verdict {
        let asked = self.slices.get(app).and_then(|slices| {
            let action = match facts.request.action {
                Action::Request { .. } => entity::request_action(),
                Action::Connect { .. } => entity::connect_action(),
            };
            ask(slices.of(&facts.request.action), slices, action, facts)
        });
        asked.unwrap_or_else(|| Verdict::broken(Vec::new()))
    }
}

fn ask(slice: &Slice, app: &AppSlice, action: EntityUid, facts: &Facts<'_>) -> Option<Verdict> {
    let subject = facts.session.subject();
    let context = context::build(facts, slice.uses())?;
    let request = Request::new(subject.uid().clone(), action, app.uid.clone(), context, None).ok()?;
    if !slice.uses().app() {
        return Some(slice.ask(&request, subject.entities(), facts));
    }
    let entities = subject.entities().clone().add_entities([app.entity.clone()], None).ok()?;
    Some(slice.ask(&request, &entities, facts))
}

impl Verdict {
    /// The policy could not be asked, wholly or in part: no.
    pub(crate) fn broken(policies: Vec<String>) -> Self {
        Self {
            allowed: false,
            policies,
            reason: Some("A rule could not be evaluated, so nothing is allowed.".into()),
            fix: Some("Tell your administrator; the relay's audit log names the rule.".into()),
            step_up: None,
            permitted: false,
        }
    }
}

#[cfg(test)]
mod tests;
