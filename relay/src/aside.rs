//! Work with files while the relay serves. A network file system may not answer for hours, and nothing else waits for it.

use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long files may take before that is told.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `work` returns, done in a thread of its own; nothing if that failed. `what` is done to which files is told where
/// it takes long.
pub(crate) async fn aside<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    told_after(PATIENCE, what, work).await
}

async fn told_after<T: Send + 'static>(
    patience: Duration,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, mut finished) = oneshot::channel();
    // Not of the runtime's pool: a relay that stops would wait for it.
    let thread = std::thread::Builder::new().name("files".into()).spawn(move || done.send(work()));
    if let Err(error) = thread {
        tracing::error!(%error, what, "no thread could be made to look at files");
        return None;
    }
    let done = match timeout(patience, &mut finished).await {
        Ok(done) => done,
        Err(_) => {
            tracing::error!(what, "files do not answer: what was read last stays; is their file system there?");
            let done = finished.await;
            tracing::info!(what, "the files answer again");
            done
        }
    };
    done.inspect_err(|_| tracing::error!(what, "looking at files failed by a mistake in the relay")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[tokio::test]
    async fn work_that_hangs_holds_up_nobody_and_is_waited_for() {
        let patience = Duration::from_millis(1);
        let (go_on, hangs) = channel::<u8>();
        let others = async {
            tokio::time::sleep(50 * patience).await;
            go_on.send(7).unwrap();
        };
        let (done, ()) = tokio::join!(told_after(patience, "a test", move || hangs.recv().unwrap()), others);
        assert_eq!(done, Some(7));
    }

    #[tokio::test]
    async fn work_that_panics_returns_nothing() {
        assert_eq!(aside::<()>("a test", || panic!("on purpose")).await, None);
    }
}
