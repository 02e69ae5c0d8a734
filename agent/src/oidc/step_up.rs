//! A further sign-in: what is asked of the provider, and whether it did so.

use super::{SignedIn, failed};
use postern_protocol::{Problem, StepUp};
use std::time::Duration;

/// Clocks of provider and device may differ by this much.
const CLOCKS: Duration = Duration::from_secs(60);

/// The parameters of the request (OpenID Connect Core §3.1.2.1).
pub(super) fn parameters(wanted: &StepUp) -> impl Iterator<Item = (&'static str, String)> + use<> {
    let max_age = wanted.max_age.map(|seconds| ("max_age", seconds.to_string()));
    let acr_values = wanted.acr_values.clone().map(|values| ("acr_values", values));
    max_age.into_iter().chain(acr_values)
}

/// OpenID Connect Core §3.1.3.7, rules 12 and 13: did the provider do what was asked of it?
pub(super) fn check(signed_in: &SignedIn, wanted: &StepUp) -> Result<(), Problem> {
    let SignedIn { auth_age, acr, .. } = signed_in;
    if let Some(max_age) = wanted.max_age {
        let limit = Duration::from_secs(max_age).saturating_add(CLOCKS);
        match auth_age {
            None => return Err(failed("the provider does not say when the person signed in, though it was asked to")),
            Some(age) if *age > limit => return Err(failed("the provider did not ask the person to sign in afresh")),
            Some(_) => {}
        }
    }
    match &wanted.acr_values {
        Some(values) if !acr.as_ref().is_some_and(|acr| values.split(' ').any(|value| value == acr)) => {
            Err(failed("the provider did not sign the person in as strongly as it was asked to"))
        }
        _ => Ok(()),
    }
}
