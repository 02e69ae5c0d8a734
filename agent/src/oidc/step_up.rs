//! A further sign-in: what is asked of the provider, and whether it did so.

use super::{SignedIn, failed};
use postern_protocol::{Problem, StepUp, Timestamp};
use std::time::{Duration, SystemTime};

/// Clocks of provider and device may differ by this much.
const CLOCKS: Duration = Duration::from_secs(60);

/// Why somebody signs in again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Again {
    /// A policy wants it as fresh or strong as this.
    Wanted(StepUp),
    /// To prolong the session: the person is to prove themself anew. A provider that does not say when they did is
    /// believed, for nothing is allowed because of it.
    ToProlong,
}

impl Again {
    /// The parameters of the request (OpenID Connect Core §3.1.2.1). `usual`: how old any sign-in may be.
    pub(super) fn parameters(
        again: Option<&Self>,
        usual: Option<u64>,
    ) -> impl Iterator<Item = (&'static str, String)> + use<> {
        let (max_age, acr_values) = match again {
            Some(Self::Wanted(StepUp { max_age, acr_values })) => (max_age.or(usual), acr_values.clone()),
            Some(Self::ToProlong) => (Some(0), None),
            None => (usual, None),
        };
        let max_age = max_age.map(|seconds| ("max_age", seconds.to_string()));
        max_age.into_iter().chain(acr_values.map(|values| ("acr_values", values)))
    }

    /// OpenID Connect Core §3.1.3.7, rules 12 and 13: did the provider do what was asked of it?
    pub(super) fn check(&self, signed_in: &SignedIn) -> Result<(), Problem> {
        let now =
            Timestamp::default().plus(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        let age = signed_in.auth_time.map(|at| now.since(at));
        let wanted = match self {
            Self::Wanted(wanted) => wanted,
            Self::ToProlong => return age.map_or(Ok(()), |age| check_age(age, 0)),
        };
        match (wanted.max_age, age) {
            (Some(_), None) => {
                return Err(failed("the provider does not say when the person signed in, though it was asked to"));
            }
            (Some(max_age), Some(age)) => check_age(age, max_age)?,
            (None, _) => {}
        }
        match &wanted.acr_values {
            Some(values) if !signed_in.acr.as_ref().is_some_and(|acr| values.split(' ').any(|value| value == acr)) => {
                Err(failed("the provider did not sign the person in as strongly as it was asked to"))
            }
            _ => Ok(()),
        }
    }
}

fn check_age(age: Duration, max_age: u64) -> Result<(), Problem> {
    if age > Duration::from_secs(max_age).saturating_add(CLOCKS) {
        return Err(failed("the provider did not ask the person to sign in afresh"));
    }
    Ok(())
}
