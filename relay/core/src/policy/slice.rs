//! Slices: the rules that can apply, by app and action when the policy is loaded, by principal when it is asked.
//!
//! A rule is left out only where its scope, which Cedar evaluates first, cannot match. Cedar allows when
//! some permit and no forbid is satisfied, so asking disjoint sets and joining the answers is asking them all.

use super::entity::{Subject, app_entity, app_group_uid, app_uid, connect_action, request_action};
use super::load::{PolicyFault, Rule};
use super::screen::Screen;
use super::uses::Uses;
use super::{Facts, Verdict, step_up};
use crate::access::Action;
use crate::app::{App, AppTable};
use cedar_policy::{
    ActionConstraint, AuthorizationError, Authorizer, Decision, Effect, Entities, Entity, EntityUid, PolicyId,
    PolicySet, PrincipalConstraint, Request, ResourceConstraint,
};
use postern_protocol::{AppName, StepUp};
use std::collections::HashMap;

/// What concerns one app.
#[derive(Debug)]
pub(super) struct AppSlice {
    pub(super) uid: EntityUid,
    pub(super) entity: Entity,
    request: Slice,
    connect: Slice,
}

impl AppSlice {
    /// The rules for an action.
    pub(super) fn of(&self, action: &Action) -> &Slice {
        match action {
            Action::Request { .. } => &self.request,
            Action::Connect { .. } => &self.connect,
        }
    }
}

/// The rules for one app and action.
#[derive(Debug, Default)]
pub(super) struct Slice {
    /// Those whose scope any principal may match.
    open: Rules,
    /// Those for one user or group, by it.
    scoped: HashMap<EntityUid, Rules>,
    /// What these look at.
    uses: Uses,
    /// What the permits advise, the most specific first.
    advice: Vec<Advice>,
    /// Where each rule stands in the text.
    order: HashMap<PolicyId, usize>,
    /// What the forbids among them ask of a sign-in.
    step_ups: HashMap<PolicyId, StepUp>,
}

/// Rules that are asked together.
#[derive(Debug, Default)]
struct Rules {
    /// Asked always.
    always: PolicySet,
    /// Forbids that can be screened, asked when the screen lets the question through.
    screened: Option<(Screen, PolicySet)>,
}

impl Rules {
    fn new(rules: &[&Rule]) -> Result<Self, String> {
        let (forbids, others): (Vec<&Rule>, Vec<&Rule>) =
            rules.iter().partition(|rule| !rule.is_permit() && rule.condition.is_some());
        match Screen::new(&forbids) {
            Some(screen) => Ok(Self { always: set(&others)?, screened: Some((screen, set(&forbids)?)) }),
            None => Ok(Self { always: set(rules)?, screened: None }),
        }
    }

    /// The sets to ask; of an empty one there is nothing to learn.
    fn sets(&self, request: &Request, entities: &Entities) -> impl Iterator<Item = &PolicySet> {
        let screened = self.screened.as_ref().filter(|(screen, _)| screen.lets_through(request, entities));
        let always = Some(&self.always).filter(|set| !set.is_empty());
        always.into_iter().chain(screened.map(|(_, set)| set))
    }
}

fn set(rules: &[&Rule]) -> Result<PolicySet, String> {
    PolicySet::from_policies(rules.iter().map(|rule| rule.policy.clone())).map_err(|error| error.to_string())
}

/// What to tell whoever lacks a permit.
#[derive(Debug)]
struct Advice {
    scope: Option<EntityUid>,
    reason: Option<String>,
    fix: Option<String>,
    step_up: Option<StepUp>,
}

/// The slices of every app.
pub(super) fn by_app(rules: &[Rule], apps: &AppTable) -> Result<HashMap<AppName, AppSlice>, PolicyFault> {
    let fault = |message: String| PolicyFault { line: 1, column: 1, message };
    let mut slices = HashMap::new();
    for app in apps.iter() {
        let slice = |action| Slice::new(rules, app, &action).map_err(fault);
        let entity = app_entity(app).ok_or_else(|| fault(format!("app {} cannot be an entity", app.name)))?;
        let (request, connect) = (slice(request_action())?, slice(connect_action())?);
        slices.insert(app.name.clone(), AppSlice { uid: app_uid(app), entity, request, connect });
    }
    Ok(slices)
}

impl Slice {
    fn new(rules: &[Rule], app: &App, action: &EntityUid) -> Result<Self, String> {
        let mut slice = Self::default();
        let mut advice = Vec::new();
        let mut scopes: HashMap<Option<EntityUid>, Vec<&Rule>> = HashMap::new();
        for (order, rule) in rules.iter().enumerate() {
            let Some(distance) = distance(rule, app).filter(|_| concerns(rule, action)) else { continue };
            let scope = scope(rule);
            scopes.entry(scope.clone()).or_default().push(rule);
            slice.uses.join(&rule.uses);
            slice.order.insert(rule.policy.id().clone(), order);
            if rule.is_permit() && (rule.reason.is_some() || rule.fix.is_some() || rule.step_up.is_some()) {
                let (reason, fix, step_up) = (rule.reason.clone(), rule.fix.clone(), rule.step_up.clone());
                advice.push((distance, Advice { scope, reason, fix, step_up }));
            } else if let Some(step_up) = &rule.step_up {
                slice.step_ups.insert(rule.policy.id().clone(), step_up.clone());
            }
        }
        for (scope, rules) in scopes {
            let rules = Rules::new(&rules)?;
            match scope {
                None => slice.open = rules,
                Some(uid) => drop(slice.scoped.insert(uid, rules)),
            }
        }
        advice.sort_by_key(|(distance, _)| *distance);
        slice.advice = advice.into_iter().map(|(_, advice)| advice).collect();
        Ok(slice)
    }

    /// The attributes of the context that its rules look at.
    pub(super) fn uses(&self) -> &Uses {
        &self.uses
    }

    /// The permits with the scopes of their principals, in the order of the text.
    pub(super) fn permits(&self) -> Vec<(String, Option<EntityUid>)> {
        let sets = std::iter::once((None, &self.open)).chain(self.scoped.iter().map(|(uid, rules)| (Some(uid), rules)));
        let all = sets.flat_map(|(scope, rules)| rules.always.policies().map(move |policy| (scope, policy)));
        let mut permits: Vec<_> = all.filter(|(_, policy)| policy.effect() == Effect::Permit).collect();
        permits.sort_by_key(|(_, policy)| self.order.get(policy.id()).copied());
        permits.into_iter().map(|(scope, policy)| (policy.id().to_string(), scope.cloned())).collect()
    }

    /// Cedar's answer over all rules of the slice.
    pub(super) fn ask(&self, request: &Request, entities: &Entities, facts: &Facts<'_>) -> Verdict {
        let subject = facts.session.subject();
        let (mut permits, mut forbids) = (Vec::new(), Vec::new());
        for set in self.sets(subject, request, entities) {
            let response = Authorizer::new().is_authorized(request, set, entities);
            // Cedar passes over a rule that fails to evaluate. For a forbid that would open a door.
            let failed =
                response.diagnostics().errors().map(|AuthorizationError::PolicyEvaluationError(e)| e.policy_id());
            let failed: Vec<String> =
                failed.filter(|id| effect(set, id) != Some(Effect::Permit)).map(ToString::to_string).collect();
            if !failed.is_empty() {
                return Verdict::broken(failed);
            }
            for id in response.diagnostics().reason() {
                match effect(set, id) {
                    Some(Effect::Permit) => permits.push((set, id.clone())),
                    _ => forbids.push((set, id.clone())),
                }
            }
        }
        match (forbids.is_empty(), permits.is_empty()) {
            (true, false) => self.allowed(permits),
            (true, true) => self.unpermitted(facts),
            (false, _) => {
                let permitted = || !permits.is_empty() || self.permitted_without(&forbids, request, entities, subject);
                self.forbidden(&forbids, permitted, facts)
            }
        }
    }

    /// The sets with rules whose scope the principal matches.
    fn sets<'a>(
        &'a self,
        subject: &'a Subject,
        request: &'a Request,
        entities: &'a Entities,
    ) -> impl Iterator<Item = &'a PolicySet> {
        let scoped = subject.ancestors().filter_map(|uid| self.scoped.get(uid));
        std::iter::once(&self.open).chain(scoped).flat_map(|rules| rules.sets(request, entities))
    }

    fn allowed(&self, permits: Vec<(&PolicySet, PolicyId)>) -> Verdict {
        let policies = self.sorted(permits).into_iter().map(|(_, id)| id.to_string()).collect();
        Verdict { allowed: true, policies, reason: None, fix: None, step_up: None, permitted: true }
    }

    /// The first forbid with something to say speaks. A new sign-in is asked for only where it lets the person in, as
    /// far as that can be told: each forbid must ask for one that the session lacks, and so must what is left without them.
    fn forbidden(
        &self,
        forbids: &[(&PolicySet, PolicyId)],
        permitted: impl FnOnce() -> bool,
        facts: &Facts<'_>,
    ) -> Verdict {
        let forbids = self.sorted(forbids.to_vec());
        let asked: Option<Vec<StepUp>> = forbids.iter().map(|(_, id)| lacking(self.step_ups.get(id)?, facts)).collect();
        let permitted = asked.is_some() && permitted();
        let rest = if permitted { Some(None) } else { self.unpermitted(facts).step_up.map(Some) };
        let step_up = asked.zip(rest).and_then(|(asked, rest)| asked.into_iter().chain(rest).reduce(step_up::join));
        let note = |set: &PolicySet, id: &PolicyId, name| set.annotation(id, name).map(String::from);
        let notes = forbids.iter().map(|(set, id)| (note(set, id, "reason"), note(set, id, "fix")));
        let (reason, fix) = notes.into_iter().find(|(r, f)| r.is_some() || f.is_some()).unwrap_or_default();
        let policies = forbids.into_iter().map(|(_, id)| id.to_string()).collect();
        let reason = reason.or_else(|| Some("A rule forbids this.".into()));
        Verdict { allowed: false, policies, reason, fix, step_up, permitted }
    }

    /// Would a permit match if these forbids were not there? Cedar names the permits of an allow only.
    fn permitted_without(
        &self,
        forbids: &[(&PolicySet, PolicyId)],
        request: &Request,
        entities: &Entities,
        subject: &Subject,
    ) -> bool {
        self.sets(subject, request, entities).any(|set| {
            let mut without = set.clone();
            for (_, id) in forbids {
                let _stands_in_another_set = without.remove_static(id.clone());
            }
            Authorizer::new().is_authorized(request, &without, entities).decision() == Decision::Allow
        })
    }

    /// A permit's own advice: of one whose scope fits the principal if there is such, for then only its conditions failed.
    fn unpermitted(&self, facts: &Facts<'_>) -> Verdict {
        let subject = facts.session.subject();
        let fits = |advice: &&Advice| advice.scope.as_ref().is_none_or(|uid| subject.is_in(uid));
        let fitting = self.advice.iter().find(fits);
        let step_up = fitting.and_then(|advice| lacking(advice.step_up.as_ref()?, facts));
        let advice = fitting.or(self.advice.first());
        let reason = advice.and_then(|advice| advice.reason.clone());
        let fix = advice.and_then(|advice| advice.fix.clone());
        let reason = reason.or_else(|| Some("No rule allows this.".into()));
        Verdict { allowed: false, policies: Vec::new(), reason, fix, step_up, permitted: false }
    }

    fn sorted<'a>(&self, mut found: Vec<(&'a PolicySet, PolicyId)>) -> Vec<(&'a PolicySet, PolicyId)> {
        found.sort_by_key(|(_, id)| self.order.get(id).copied());
        found
    }
}

/// What is asked for, if the session lacks it.
fn lacking(asked: &StepUp, facts: &Facts<'_>) -> Option<StepUp> {
    step_up::unmet(asked, facts.session.grant(), facts.now).then(|| asked.clone())
}

fn effect(set: &PolicySet, id: &PolicyId) -> Option<Effect> {
    set.policy(id).map(cedar_policy::Policy::effect)
}

/// How closely the rule's scope names the app: 0 itself, 1 its group, 2 any; nothing: it cannot match.
pub(super) fn distance(rule: &Rule, app: &App) -> Option<u8> {
    let own = app_uid(app);
    let within = |uid: &EntityUid| {
        if *uid == own { Some(0) } else { app.groups.iter().any(|group| app_group_uid(group) == *uid).then_some(1) }
    };
    match rule.policy.resource_constraint() {
        ResourceConstraint::Any | ResourceConstraint::Is(_) => Some(2),
        ResourceConstraint::Eq(uid) => (uid == own).then_some(0),
        ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => within(&uid),
    }
}

/// Can the rule's scope match the action? The schema has no action groups.
pub(super) fn concerns(rule: &Rule, action: &EntityUid) -> bool {
    match rule.policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => uid == *action,
        ActionConstraint::In(uids) => uids.contains(action),
    }
}

/// The user or group that the rule's scope names. Only a principal that is it or in it can match.
fn scope(rule: &Rule) -> Option<EntityUid> {
    match rule.policy.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        PrincipalConstraint::Eq(uid) | PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => Some(uid),
    }
}
