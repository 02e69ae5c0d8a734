//! `policy test FILE`: cases with the expected answer, each decided as a request is.

use super::super::output::{self, Output};
use super::super::{Failure, failed};
use super::{load, read, result, snapshot};
use crate::clock::Clock;
use crate::config::{Found, Outline, Section, Source};
use postern_protocol::control::{AppKind, Posture};
use postern_protocol::{Code, DecisionId, DeviceId, Timestamp};
use postern_relay_core::access::{Action, Answer, PostureReport, Request, Supposed, simulate};
use postern_relay_core::policy::Policy;
use postern_relay_core::principal::PrincipalKey;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Whose issuer a case means that names none, where the configuration names none either.
const SOME_ISSUER: &str = "https://provider.example";

/// One case of the file.
pub(super) struct Case {
    name: String,
    who: Supposed,
    request: Request,
    at: Timestamp,
    expected: Expected,
}

/// What the answer should be.
struct Expected {
    allow: bool,
    code: Option<Code>,
    policies: Option<Vec<String>>,
}

pub(super) fn test(outline: &Outline, file: &Path, policy: Option<&Path>, output: Output) -> Result<(), Failure> {
    let judged = judged(outline, file, policy)?;
    let wrong = judged.iter().filter(|(case, answer)| !case.expected.is(answer)).count();
    if output.json {
        let cases: Vec<Value> = judged.iter().map(|(case, answer)| as_json(case, answer)).collect();
        output.json(&json!({ "ok": wrong == 0, "cases": cases }));
    } else {
        judged.iter().for_each(|(case, answer)| output.line(&as_text(case, answer)));
        let all = output::count(judged.len(), "case");
        output.line(&format!("{all}: {} as expected, {wrong} otherwise", judged.len() - wrong));
    }
    if wrong == 0 { Ok(()) } else { Err(Failure::Said) }
}

/// Each case of the file with its answer; or every mistake in the file.
pub(super) fn judged(outline: &Outline, file: &Path, policy: Option<&Path>) -> Result<Vec<(Case, Answer)>, Failure> {
    let policy = load(outline, policy.unwrap_or(&outline.policy_file))?;
    let source = Source::new(file.to_owned(), read(file)?);
    let now = Clock::new().now();
    let cases = source.read(|root| cases(&source, root, outline, &policy, now));
    let mut faults = source.into_faults();
    if !faults.is_empty() {
        faults.sort();
        return Err(Failure::Faults(faults));
    }
    if cases.is_empty() {
        return Err(failed(Code::ConfigInvalid, format!("{}: there is no [[case]]", file.display())));
    }
    let snapshot = snapshot(outline, policy);
    let judge = |case: Case| {
        let answer = simulate(&case.who, &case.request, &snapshot, case.at)?;
        Some((case, answer))
    };
    Ok(cases.into_iter().filter_map(judge).collect())
}

impl Expected {
    fn is(&self, answer: &Answer) -> bool {
        let mut policies = answer.policies.clone();
        policies.sort();
        self.allow == answer.allowed()
            && self.code.is_none_or(|code| answer.code == Some(code))
            && self.policies.as_ref().is_none_or(|expected| *expected == policies)
    }
}

fn by(policies: &[String]) -> String {
    if policies.is_empty() { String::new() } else { format!(" by {}", policies.join(", ")) }
}

pub(super) fn as_text(case: &Case, answer: &Answer) -> String {
    let (got, name) = (result(answer.code) + &by(&answer.policies), &case.name);
    if case.expected.is(answer) {
        return format!("ok    {name}: {got}");
    }
    let Expected { allow, code, policies } = &case.expected;
    let expected =
        if *allow { result(None) } else { code.map_or_else(|| "deny".to_owned(), |code| result(Some(code))) };
    format!("FAIL  {name}: expected {expected}{}, got {got}", by(policies.as_deref().unwrap_or_default()))
}

fn as_json(case: &Case, answer: &Answer) -> Value {
    let word = |allow: bool| if allow { "allow" } else { "deny" };
    let told = answer.told.as_ref();
    json!({
        "name": case.name, "ok": case.expected.is(answer),
        "expected": { "result": word(case.expected.allow), "code": case.expected.code, "policies": case.expected.policies },
        "got": {
            "result": word(answer.allowed()), "code": answer.code, "policies": answer.policies,
            "reason": told.and_then(|told| told.reason.clone()), "fix": told.and_then(|told| told.fix.clone()),
            "step_up": told.and_then(|told| told.step_up.clone()),
        },
    })
}

fn cases(source: &Source, mut root: Section<'_>, outline: &Outline, policy: &Policy, now: Timestamp) -> Vec<Case> {
    let sections = root.children("case");
    root.finish();
    sections.into_iter().filter_map(|section| case(source, section, outline, policy, now)).collect()
}

/// One case; `None`: it has a mistake, which is noted.
fn case(source: &Source, mut section: Section<'_>, outline: &Outline, policy: &Policy, now: Timestamp) -> Option<Case> {
    let start = section.start();
    let name = section.needed_text("name", "staff read the wiki");
    let who = principal(section.child("principal"), outline);
    let device = section.text("device");
    let device = section.parsed("device", device, str::parse::<DeviceId>, "write 32 lower-case hexadecimal digits");
    let app = section.needed_text("app", "wiki");
    let app = section.parsed("app", app, str::parse, "write an app's name, as relay.toml has it");
    let (method, path) = (section.text("method"), section.text("path"));
    let port = section.number("port", 1, u16::MAX.into()).and_then(|port| u16::try_from(port).ok());
    let context = context(section.child("context"), now);
    let expected = expected(source, &mut section, policy);
    section.finish();

    let (name, who, Found { value: app, span }, context, expected) = (name?, who?, app?, context?, expected?);
    let known = policy.apps().get(&app);
    if known.is_none() && expected.code != Some(Code::AppUnknown) {
        let names: Vec<&str> = policy.apps().iter().map(|app| app.name.as_str()).collect();
        let fix = format!("write one of {}, or expect code = \"app_unknown\"", names.join(", "));
        source.fault(span.start, format!("there is no app `{app}` in the configuration"), fix);
        return None;
    }
    let stream = port.is_some() || known.is_some_and(|known| known.kind == AppKind::Tcp);
    if stream && (method.is_some() || path.is_some()) {
        source.fault(start, "a stream has no method and no path", "remove them, or the port");
        return None;
    }
    let text =
        |found: Option<Found<String>>, default: &str| found.map_or_else(|| default.to_owned(), |found| found.value);
    let action = if stream {
        Action::Connect { port: port.or(known.map(|known| known.upstream.port))? }
    } else {
        Action::Request { method: text(method, "GET"), path: text(path, "/") }
    };
    let device = device.map_or_else(|| DeviceId::from_key_hash(&[0; 32]), |found| found.value);
    let (principal, groups) = who;
    let Context { at, source: address, acr, amr, auth_time, posture, host } = context;
    let request = Request {
        id: DecisionId::new(at, 0),
        host: host.unwrap_or_else(|| app.as_str().to_owned()),
        app,
        action,
        source: address,
        within_rate: true,
        posture: Some(Arc::new(posture)),
    };
    let case = Case {
        name: name.value,
        who: Supposed { principal, groups, device, acr, amr, auth_time },
        request,
        at,
        expected,
    };
    if !case.who.is_possible() {
        source.fault(start, "no session token has room for this principal", "use fewer or shorter groups");
        return None;
    }
    Some(case)
}

fn principal(mut section: Section<'_>, outline: &Outline) -> Option<(PrincipalKey, Vec<String>)> {
    let issuer = section.text("issuer").map(|found| found.value).or_else(|| outline.provider.clone());
    let issuer = issuer.unwrap_or_else(|| SOME_ISSUER.to_owned());
    let subject = section.needed_text("subject", "ada");
    let key = |subject: &str| PrincipalKey::new(&issuer, subject);
    let key = section.parsed("subject", subject, key, "write issuer and subject as the audit log has them");
    let groups = section.list("groups").unwrap_or_default().into_iter().map(|group| group.value).collect();
    section.finish();
    Some((key?.value, groups))
}

/// When, whence and in which state.
struct Context {
    at: Timestamp,
    source: IpAddr,
    acr: Option<String>,
    amr: Vec<String>,
    auth_time: Option<Timestamp>,
    posture: PostureReport,
    host: Option<String>,
}

fn context(mut section: Section<'_>, now: Timestamp) -> Option<Context> {
    let seconds = |number: u32| Duration::from_secs(number.into());
    let at = section.time("time").unwrap_or(now);
    let source = section.text("source_ip");
    let source = section.parsed("source_ip", source, str::parse, "write an IP address, such as \"192.0.2.7\"");
    let host = section.text("host").map(|found| found.value);
    let acr = section.text("acr").map(|found| found.value);
    let amr = section.list("amr").unwrap_or_default().into_iter().map(|method| method.value).collect();
    let auth_time = section.number("auth_age", 0, u32::MAX).map(|age| at.minus(seconds(age)));
    let posture = posture(section.child("posture"), at);
    section.finish();
    let source = source.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |found| found.value);
    Some(Context { at, source, acr, amr, auth_time, posture, host })
}

/// A report; what is not said is not known. Without any it is one of this moment that says nothing.
fn posture(mut section: Section<'_>, at: Timestamp) -> PostureReport {
    let age = section.number("age", 0, u32::MAX).unwrap_or(0);
    let mut text = |key| section.text(key).map(|found| found.value).unwrap_or_default();
    let (os, os_version, agent_version) = (text("os"), text("os_version"), text("agent_version"));
    let key_storage = text("key_storage");
    let mut posture = Posture { os, os_version, agent_version, key_storage, ..Posture::default() };
    posture.kernel_version = section.text("kernel_version").map(|found| found.value);
    posture.disk_encrypted = section.choice("disk_encrypted");
    posture.firewall = section.choice("firewall");
    posture.screen_lock = section.choice("screen_lock");
    section.finish();
    PostureReport { posture, at: at.minus(Duration::from_secs(age.into())) }
}

fn expected(source: &Source, section: &mut Section<'_>, policy: &Policy) -> Option<Expected> {
    let word = section.needed_text("expect", "allow");
    let allow = |word: &str| match word {
        "allow" => Ok(true),
        "deny" => Ok(false),
        other => Err(format!("\"{other}\" is no answer")),
    };
    let allow = section.parsed("expect", word, allow, "write \"allow\" or \"deny\"");
    let code = section.text("code");
    let known = |text: &str| {
        let found = Code::ALL.iter().copied().find(|code| code.as_str() == text);
        found.ok_or_else(|| format!("there is no code \"{text}\""))
    };
    let code = section.parsed("code", code, known, "see docs/error-codes.md");
    if let (Some(true), Some(code)) = (allow.as_ref().map(|found| found.value), &code) {
        source.fault(code.span.start, "an allow has no code", "remove the code, or expect \"deny\"");
    }
    let policies = section.list("policies").map(|found| {
        for id in found.iter().filter(|id| policy.rule(&id.value).is_none()) {
            source.fault(id.span.start, format!("there is no policy \"{}\"", id.value), "write the @id of a policy");
        }
        let mut ids: Vec<String> = found.into_iter().map(|id| id.value).collect();
        ids.sort();
        ids
    });
    Some(Expected { allow: allow?.value, code: code.map(|found| found.value), policies })
}
