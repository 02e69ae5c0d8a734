//! Waiting: always for a condition, never for luck, always with a deadline.

use std::time::Duration;

/// How long a thing may take that should happen soon. Generous: the machine may be busy with other tests.
pub const WAIT: Duration = Duration::from_secs(30);

/// How long one exchange on an open connection may take.
pub const SHORT: Duration = Duration::from_secs(10);

/// Asks `probe` until it answers, and returns the answer; panics with `what` after [`WAIT`].
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = probe().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT, asking).await.unwrap_or_else(|_| panic!("did not happen within {WAIT:?}: {what}"))
}

/// `future`, or a panic with `what` after `limit`.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| panic!("took longer than {limit:?}: {what}"))
}
