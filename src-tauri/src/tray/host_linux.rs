//! Linux: where icons are shown is a matter of the desktop environment, which may have no such place, or make it later.

use futures_util::StreamExt as _;
use std::time::Duration;
use zbus::fdo::DBusProxy;

/// Whoever shows icons owns this name on the session's bus.
const WATCHER: &str = "org.kde.StatusNotifierWatcher";
/// A bus that does not answer is none: a press on the window's close button waits for this.
const LIMIT: Duration = Duration::from_secs(1);

/// Would an icon be seen now?
pub(crate) async fn exists() -> bool {
    let asked = async {
        let bus = DBusProxy::new(&zbus::Connection::session().await?).await?;
        Ok::<_, zbus::Error>(bus.name_has_owner(WATCHER.try_into()?).await?)
    };
    tokio::time::timeout(LIMIT, asked).await.is_ok_and(|answer| answer.unwrap_or(false))
}

/// Waits until an icon would be seen; without a bus for ever.
pub(crate) async fn appears() {
    let waited = async {
        let bus = DBusProxy::new(&zbus::Connection::session().await?).await?;
        // Listened for before it is looked for, so that it cannot come in between.
        let mut owners = bus.receive_name_owner_changed_with_args(&[(0, WATCHER)]).await?;
        if bus.name_has_owner(WATCHER.try_into()?).await? {
            return Ok(());
        }
        while let Some(change) = owners.next().await {
            if change.args()?.new_owner().is_some() {
                return Ok(());
            }
        }
        Err(zbus::Error::InputOutput(std::io::Error::other("the bus is gone").into()))
    };
    if let Err(error) = waited.await {
        tracing::info!(%error, "this system has no tray");
        std::future::pending::<()>().await;
    }
}
