//! What went wrong, in words for the person who watches.

use std::fmt;
use std::time::Duration;

/// Why the demonstration cannot go on.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says what an error or an absent value stopped.
pub(crate) trait Because<T> {
    fn because(self, what: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> Because<T> for Result<T, E> {
    fn because(self, what: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure(format!("{what}: {error}")))
    }
}

impl<T> Because<T> for Option<T> {
    fn because(self, what: impl fmt::Display) -> Result<T, Failure> {
        self.ok_or_else(|| Failure(what.to_string()))
    }
}

/// Fails unless `held`.
pub(crate) fn check(held: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failure> {
    if held { Ok(()) } else { Err(Failure(otherwise())) }
}

/// Waits for `work`, at most `limit`, and says what it waited for.
pub(crate) async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> Result<T, Failure> {
    let late = |_| Failure(format!("{what}: nothing within {} s", limit.as_secs()));
    tokio::time::timeout(limit, work).await.map_err(late)
}
