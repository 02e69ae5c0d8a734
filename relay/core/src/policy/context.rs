//! The context of a question: what is asked, when, from where and in which state.

use super::uses::Uses;
use crate::access::{Action, PostureReport, Request};
use crate::token::VerifiedSession;
use cedar_policy::{Context, RestrictedExpression as Value};
use postern_protocol::Timestamp;

/// What a question to the policy is made of.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) session: &'a VerifiedSession,
    pub(crate) request: &'a Request,
    /// One reading of the request's path.
    pub(crate) path: &'a str,
    pub(crate) now: Timestamp,
}

/// The context as the schema declares it for the action, but for the attributes that no rule uses.
pub(super) fn build(facts: &Facts<'_>, uses: &Uses) -> Option<Context> {
    let Facts { session, request, path, now } = *facts;
    let grant = session.grant();
    let mut pairs = Vec::with_capacity(12);
    let mut put = |name: &str, value: &dyn Fn() -> Option<Value>| {
        if uses.has(name) {
            pairs.extend(value().map(|value| (name.to_owned(), value)));
        }
    };
    match &request.action {
        Action::Request { method, .. } => {
            put("method", &|| text(method));
            put("path", &|| text(path));
        }
        Action::Connect { port } => put("port", &|| Some(Value::new_long((*port).into()))),
    }
    put("host", &|| text(&request.host));
    put("time", &|| Some(Value::new_datetime(now.to_string())));
    put("weekday", &|| Some(Value::new_long(weekday(now))));
    put("source_ip", &|| Some(Value::new_ip(request.source.to_canonical().to_string())));
    put("device", &|| Some(Value::new_entity_uid(session.subject().device().clone())));
    put("amr", &|| Some(Value::new_set(grant.amr.iter().filter_map(|method| text(method)))));
    put("acr", &|| grant.acr.as_deref().and_then(text));
    put("auth_age", &|| grant.auth_time.map(|at| seconds(now, at)));
    put("posture", &|| request.posture.as_ref().and_then(|report| posture(report, uses, now)));
    Context::from_pairs(pairs).ok()
}

fn posture(report: &PostureReport, uses: &Uses, now: Timestamp) -> Option<Value> {
    let said = &report.posture;
    let mut fields = Vec::with_capacity(10);
    let mut put = |name: &str, value: &dyn Fn() -> Option<Value>| {
        if uses.has_posture(name) {
            fields.extend(value().map(|value| (name.to_owned(), value)));
        }
    };
    put("self_asserted", &|| Some(Value::new_bool(true)));
    put("age", &|| Some(seconds(now, report.at)));
    put("os", &|| text(&said.os));
    put("os_version", &|| text(&said.os_version));
    put("kernel_version", &|| said.kernel_version.as_deref().and_then(text));
    put("agent_version", &|| text(&said.agent_version));
    put("key_storage", &|| text(&said.key_storage));
    put("disk_encrypted", &|| said.disk_encrypted.map(Value::new_bool));
    put("firewall", &|| said.firewall.map(Value::new_bool));
    put("screen_lock", &|| said.screen_lock.map(Value::new_bool));
    Value::new_record(fields).ok()
}

fn text(text: &str) -> Option<Value> {
    Some(Value::new_string(text.to_owned()))
}

fn seconds(now: Timestamp, since: Timestamp) -> Value {
    Value::new_long(i64::try_from(now.since(since).as_secs()).unwrap_or(i64::MAX))
}

/// 1 is Monday. The epoch was a Thursday.
fn weekday(now: Timestamp) -> i64 {
    let days = now.seconds() / 86_400;
    i64::try_from((days + 3) % 7 + 1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weekdays_count_from_monday() {
        for (seconds, day) in [(0, 4), (86_400 * 3, 7), (86_400 * 4, 1), (951_782_400, 2)] {
            assert_eq!(weekday(Timestamp::from_seconds(seconds)), day);
        }
    }
}
