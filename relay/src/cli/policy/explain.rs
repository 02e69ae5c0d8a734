//! `policy explain ID`: what a decision rested on. For administrators, and so with the policy's text.

use super::super::output::Output;
use super::super::{Failure, advised};
use super::history::History;
use super::{is_of_policy, load, result, snapshot};
use crate::config::Outline;
use postern_protocol::problem::printable;
use postern_protocol::{Code, DecisionId, Timestamp};
use postern_relay_core::access::{Answer, simulate};
use postern_relay_core::audit::{Context, Entry};
use postern_relay_core::policy::{PermitFor, Policy};
use serde_json::{Value, json};

pub(super) fn explain(outline: &Outline, id: &str, output: Output) -> Result<(), Failure> {
    const FIX: &str = "Copy the whole id: 32 digits and letters, as the refusal or `postern why` shows it.";
    let id: DecisionId = id.trim().parse().map_err(|error| advised(Code::RequestInvalid, error, FIX))?;
    let history = History::of(outline);
    let found = history
        .find(id.as_str())
        .map_err(|why| advised(Code::NotFound, why, "Run it as a user who may read the relay's audit log."))?;
    let Some((line, entry)) = found else {
        let detail =
            format!("no decision {id} is in {} nor in the logs rotated beside it", outline.audit_file.display());
        let fix = "The id tells the time: a log that was moved away since may have it. Give it with --config of a relay \
                   whose audit.file is that log.";
        return Err(advised(Code::NotFound, detail, fix));
    };
    let policy = load(outline, &outline.policy_file);
    let policy = policy.as_deref().ok();
    let today = today(outline, &entry, policy);
    let then = entry.time.and_then(|time| history.policy_at(time));
    let edited = policy.zip(then).map(|(policy, then)| policy.thumbprint() != then);
    if output.json {
        output.json(&as_json(&line, &entry, policy, &today, edited));
    } else {
        as_text(&entry, policy, &today, edited, outline).iter().for_each(|line| output.data(&printable(line)));
    }
    Ok(())
}

/// What today's policy would decide; or why that cannot be said.
pub(super) fn today(outline: &Outline, entry: &Entry, policy: Option<&Policy>) -> Result<Answer, &'static str> {
    if !is_of_policy(entry.code) {
        return Err("the policy was not what decided");
    }
    policy.ok_or("today's policy has mistakes: see postern-relay policy check")?;
    let policy = load(outline, &outline.policy_file).map_err(|_| "today's policy cannot be loaded")?;
    let replay = entry.replay()?;
    simulate(&replay.who, &replay.request, &snapshot(outline, policy), replay.at).ok_or("the record is out of bounds")
}

fn is_same(entry: &Entry, answer: &Answer) -> bool {
    answer.code == entry.code && answer.policies == entry.policies
}

pub(super) fn as_json(
    line: &str,
    entry: &Entry,
    policy: Option<&Policy>,
    today: &Result<Answer, &'static str>,
    edited: Option<bool>,
) -> Value {
    let policies: Vec<Value> = entry.policies.iter().map(|id| rule_json(policy, id)).collect();
    let today = match today {
        Ok(answer) => json!({
            "same": is_same(entry, answer), "result": if answer.allowed() { "allow" } else { "deny" },
            "code": answer.code, "policies": answer.policies,
        }),
        Err(why) => json!({ "unknown": why }),
    };
    let record: Value = serde_json::from_str(line).unwrap_or_default();
    let permits: Vec<Value> = permits(entry, policy)
        .into_iter()
        .map(|permit| json!({ "id": permit.id, "only": permit.only, "concerns": permit.concerns }))
        .collect();
    json!({ "record": record, "policies": policies, "policy_edited_since": edited, "permits": permits,
        "app_groups": app_groups(entry, policy), "today": today })
}

fn rule_json(policy: Option<&Policy>, id: &str) -> Value {
    match policy.and_then(|policy| policy.rule(id)) {
        Some((rule, source)) => json!({
            "id": id, "effect": if rule.permit { "permit" } else { "forbid" }, "line": rule.line,
            "reason": rule.reason, "fix": rule.fix, "source": source,
        }),
        None => json!({ "id": id, "source": null }),
    }
}

fn app_groups(entry: &Entry, policy: Option<&Policy>) -> Vec<String> {
    let name = entry.app.as_deref().and_then(|app| app.parse().ok());
    let app = name.and_then(|name| policy?.apps().get(&name).cloned());
    app.map(|app| app.groups.clone()).unwrap_or_default()
}

pub(super) fn as_text(
    entry: &Entry,
    policy: Option<&Policy>,
    today: &Result<Answer, &'static str>,
    edited: Option<bool>,
    outline: &Outline,
) -> Vec<String> {
    let mut lines = Vec::new();
    let mut field = |name: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("{name:<10} {value}")));
    };
    field("decision", entry.decision.as_ref().map(ToString::to_string));
    field("when", entry.time.map(|time| time.to_string()));
    field("who", entry.principal.as_ref().map(|who| format!("{} of {}", who.subject(), who.issuer())));
    field("device", entry.device.as_ref().map(ToString::to_string));
    field("session", entry.session.as_ref().map(ToString::to_string));
    field("app", entry.app.clone());
    field("asked", asked(entry));
    field("from", entry.source.map(|source| source.to_string()));
    field("result", Some(result(entry.code)));
    field("meaning", entry.code.map(|code| code.summary().to_owned()));
    if let Some(asked) = &entry.step_up {
        let age = asked.max_age.map(|age| format!("at most {age} s old"));
        let class = asked.acr_values.as_ref().map(|values| format!("of class {values}"));
        let words: Vec<String> = age.into_iter().chain(class).collect();
        field("asked for", Some(format!("a sign-in {}", words.join(", "))));
    }
    field("detail", entry.detail.clone());
    lines.push(String::new());
    lines.extend(rules(entry, policy, outline));
    if edited == Some(true) {
        lines.push("  The policy has been edited since; its text here is today's.".to_owned());
    }
    if let Some(context) = &entry.context {
        lines.push(String::new());
        lines.extend(entities(entry, context, policy));
    }
    lines.push(String::new());
    lines.push(match today {
        Ok(answer) if is_same(entry, answer) => format!("Today's policy decides the same: {}", result(answer.code)),
        Ok(answer) => {
            let by = if answer.policies.is_empty() { "no policy".to_owned() } else { answer.policies.join(", ") };
            format!("Today's policy decides otherwise: {}, by {by}", result(answer.code))
        }
        Err(why) => format!("What today's policy would decide cannot be said: {why}"),
    });
    lines
}

fn asked(entry: &Entry) -> Option<String> {
    let words =
        [entry.action.clone(), entry.method.clone(), entry.path.clone(), entry.port.map(|port| port.to_string())];
    let words: Vec<String> = words.into_iter().flatten().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn rules(entry: &Entry, policy: Option<&Policy>, outline: &Outline) -> Vec<String> {
    if entry.policies.is_empty() {
        let why = match entry.code {
            Some(Code::PolicyDenied | Code::StepUpRequired) => "No policy permits it, and none forbids it.",
            _ => "No policy was asked.",
        };
        let near = permits(entry, policy).into_iter().map(|permit| {
            let why = match permit.only {
                Some(only) if !permit.concerns => format!("is for {only} alone"),
                _ => "its conditions did not hold, or it is newer".to_owned(),
            };
            let line = policy.and_then(|policy| policy.rule(&permit.id)).map_or(0, |(rule, _)| rule.line);
            format!("  {} ({}:{line}): {why}", permit.id, outline.policy_file.display())
        });
        let mut lines = vec![why.to_owned()];
        lines.extend(near);
        return lines;
    }
    let mut lines = vec!["Decided by".to_owned()];
    for id in &entry.policies {
        let Some((rule, source)) = policy.and_then(|policy| policy.rule(id)) else {
            lines.push(format!("  {id}: not in today's policy"));
            continue;
        };
        lines.push(format!("  {id} ({}:{})", outline.policy_file.display(), rule.line));
        lines.extend(rule.reason.iter().map(|reason| format!("    reason: {reason}")));
        lines.extend(rule.fix.iter().map(|fix| format!("    fix:    {fix}")));
        lines.extend(source.lines().map(|line| format!("    | {line}")));
    }
    lines
}

/// Today's permits for what no policy permitted.
fn permits(entry: &Entry, policy: Option<&Policy>) -> Vec<PermitFor> {
    let unpermitted =
        entry.policies.is_empty() && matches!(entry.code, Some(Code::PolicyDenied | Code::StepUpRequired));
    let asked = entry.replay().ok().filter(|_| unpermitted).zip(policy);
    asked.map(|(asked, policy)| policy.permits(&asked.request, &asked.who)).unwrap_or_default()
}

fn entities(entry: &Entry, context: &Context, policy: Option<&Policy>) -> Vec<String> {
    let within = |kind: &str, groups: &[String]| match groups {
        [] => String::new(),
        groups => {
            let names: Vec<String> = groups.iter().map(|group| format!("{kind}::\"{group}\"")).collect();
            format!(" in {}", names.join(", "))
        }
    };
    let mut lines = vec!["Entities".to_owned()];
    let mut push = |line: Option<String>| lines.extend(line.map(|line| format!("  {line}")));
    push(entry.principal.as_ref().map(|who| format!("User::\"{who}\"{}", within("Group", &context.groups))));
    push(
        (context.groups_cut > 0)
            .then(|| format!("and {} groups more, which the record has no room for", context.groups_cut)),
    );
    push(entry.device.as_ref().map(|device| format!("Device::\"{device}\"")));
    push(entry.app.as_ref().map(|app| format!("App::\"{app}\"{}", within("AppGroup", &app_groups(entry, policy)))));
    lines.push("Context".to_owned());
    let mut push = |name: &str, value: Option<String>| lines.extend(value.map(|value| format!("  {name:<10} {value}")));
    push("host", entry.host.clone());
    push("acr", context.acr.clone());
    push("amr", (!context.amr.is_empty()).then(|| context.amr.join(", ")));
    push("sign-in", context.auth_time.map(|at| ago(at, entry.time)));
    push("posture", context.posture_at.map(|at| ago(at, entry.time)));
    if let Some(posture) = &context.posture {
        let fields = serde_json::to_value(posture).unwrap_or_default();
        for (name, value) in fields.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            push(&format!("  {name}"), Some(value));
        }
    }
    lines
}

fn ago(at: Timestamp, now: Option<Timestamp>) -> String {
    let age = now.map_or(0, |now| now.since(at).as_secs());
    format!("{at}, {age} s before")
}
