//! Step-up: what a policy's `@max_age` and `@acr_values` ask of the next sign-in, and whether a session lacks it.

use super::uses::Uses;
use crate::limits::MAX_CLAIM_BYTES;
use crate::token::SessionGrant;
use cedar_policy::Policy;
use postern_protocol::{StepUp, Timestamp};

/// Longest `@max_age`: a year. A sign-in older than that is no statement about freshness.
const MAX_AGE: u64 = 366 * 86_400;
/// Most classes in one `@acr_values`.
const MAX_VALUES: usize = 16;

/// The annotations of step-up.
pub(super) const NAMES: [&str; 2] = ["max_age", "acr_values"];

/// What the annotation is worth, or what is wrong with it. `uses` is what its policy looks at.
pub(super) fn check(name: &str, value: &str, uses: &Uses) -> Result<(), String> {
    let (sound, rule, attribute) = match name {
        "max_age" => (max_age(value).is_some(), format!("a whole number of seconds from 1 to {MAX_AGE}"), "auth_age"),
        _ => (acr_values(value).is_some(), format!("1 to {MAX_VALUES} classes with one space between"), "acr"),
    };
    if !sound {
        return Err(format!("@{name} is {rule}"));
    }
    // Otherwise a new sign-in could not change the answer, and the person would be asked for it in vain.
    if !uses.has(attribute) {
        return Err(format!("@{name} stands on a policy that does not look at context.{attribute}"));
    }
    Ok(())
}

/// What a checked policy asks for.
pub(super) fn of(policy: &Policy) -> Option<StepUp> {
    let step_up = StepUp {
        max_age: policy.annotation("max_age").and_then(max_age),
        acr_values: policy.annotation("acr_values").and_then(acr_values),
    };
    (step_up != StepUp::default()).then_some(step_up)
}

/// Does the session lack what is asked for? If not, a new sign-in is no remedy: something else must be wrong.
pub(super) fn unmet(asked: &StepUp, grant: &SessionGrant, now: Timestamp) -> bool {
    let stale = |most: u64| grant.auth_time.is_none_or(|at| now.since(at).as_secs() >= most);
    let weak = |wanted: &str| grant.acr.as_deref().is_none_or(|acr| !wanted.split(' ').any(|value| value == acr));
    asked.max_age.is_some_and(stale) || asked.acr_values.as_deref().is_some_and(weak)
}

/// One sign-in that satisfies both, as far as there is one.
pub(super) fn join(one: StepUp, other: StepUp) -> StepUp {
    let max_age = one.max_age.into_iter().chain(other.max_age).min();
    let acr_values = match (one.acr_values, other.acr_values) {
        (Some(one), Some(other)) => {
            let common: Vec<_> = one.split(' ').filter(|value| other.split(' ').any(|there| there == *value)).collect();
            // Without a class that satisfies both there is no such sign-in; the first policy asks first.
            Some(if common.is_empty() { one } else { common.join(" ") })
        }
        (one, other) => one.or(other),
    };
    StepUp { max_age, acr_values }
}

fn max_age(value: &str) -> Option<u64> {
    let plain = value.bytes().all(|b| b.is_ascii_digit());
    value.parse().ok().filter(|age| plain && (1..=MAX_AGE).contains(age))
}

/// The classes, fit for a quoted string of a header (RFC 9110 §5.6.4).
fn acr_values(value: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
    let classes: Vec<&str> = value.split(' ').collect();
    let sound =
        classes.len() <= MAX_VALUES && classes.iter().all(|class| !class.is_empty() && class.bytes().all(plain));
    (sound && value.len() <= MAX_CLAIM_BYTES).then(|| value.to_owned())
}
