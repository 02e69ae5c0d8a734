//! The tray of a desktop environment, as programs meet it: a watcher on the person's bus (StatusNotifierWatcher), and the menu
//! of the one item that registers there (StatusNotifierItem, `com.canonical.dbusmenu`).

use crate::eventually;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use zbus::message::Header;
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Structure, Value};
use zbus::{Connection, Proxy};

/// A tray; it is gone with this value.
pub struct Tray {
    connection: Connection,
    items: Items,
}

/// Who registered, and where its item is.
type Items = Arc<Mutex<Vec<(String, String)>>>;

/// `(ia{sv}av)`: id, properties, children.
type Layout = (i32, HashMap<String, OwnedValue>, Vec<OwnedValue>);

/// One line of a menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it says; empty for a line between others.
    pub label: String,
    /// Can it be chosen?
    pub enabled: bool,
    id: i32,
}

struct Watcher(Items);

#[zbus::interface(name = "org.kde.StatusNotifierWatcher")]
impl Watcher {
    fn register_status_notifier_item(&self, service: String, #[zbus(header)] header: Header<'_>) {
        let sender = header.sender().map(ToString::to_string).unwrap_or_default();
        let path = if service.starts_with('/') { service } else { "/StatusNotifierItem".to_owned() };
        self.0.lock().unwrap().push((sender, path));
    }

    fn register_status_notifier_host(&self, _service: String) {}

    #[zbus(property)]
    fn registered_status_notifier_items(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|(sender, path)| format!("{sender}{path}")).collect()
    }

    #[zbus(property)]
    fn is_status_notifier_host_registered(&self) -> bool {
        true
    }

    #[zbus(property)]
    fn protocol_version(&self) -> i32 {
        0
    }
}

impl Tray {
    /// On the bus at this address.
    pub async fn on(bus: &str) -> Self {
        let items = Items::default();
        let builder = zbus::connection::Builder::address(bus).unwrap();
        let builder = builder.name("org.kde.StatusNotifierWatcher").unwrap();
        let builder = builder.serve_at("/StatusNotifierWatcher", Watcher(Arc::clone(&items))).unwrap();
        Self { connection: builder.build().await.unwrap(), items }
    }

    /// The menu of what registered last, from top to bottom; `None` as long as there is none.
    pub async fn menu(&self) -> Option<Vec<Line>> {
        let arguments = (0_i32, -1_i32, Vec::<&str>::new());
        let answer = self.item_menu().await?.call_method("GetLayout", &arguments).await.ok()?;
        let (_, (_, _, children)): (u32, Layout) = answer.body().deserialize().unwrap();
        Some(children.into_iter().map(line).collect())
    }

    /// Waits until the menu has all these lines, in this order, perhaps among others.
    pub async fn shows(&self, labels: &[&str]) -> Vec<Line> {
        let what = format!("the tray shows {labels:?}");
        eventually(&what, async || {
            let menu = self.menu().await?;
            let mut lines = menu.iter();
            labels.iter().all(|label| lines.any(|line| line.label == *label)).then_some(menu)
        })
        .await
    }

    /// Chooses a line.
    pub async fn choose(&self, label: &str) {
        let menu = self.shows(&[label]).await;
        let id = menu.iter().find(|line| line.label == label).unwrap().id;
        let arguments = (id, "clicked", Value::from(0_i32), 0_u32);
        self.item_menu().await.unwrap().call_method("Event", &arguments).await.unwrap();
    }

    async fn item_menu(&self) -> Option<Proxy<'static>> {
        let (sender, path) = self.items.lock().unwrap().last().cloned()?;
        let item = Proxy::new(&self.connection, sender.clone(), path, "org.kde.StatusNotifierItem").await.ok()?;
        let menu: OwnedObjectPath = item.get_property("Menu").await.ok()?;
        Proxy::new(&self.connection, sender, menu, "com.canonical.dbusmenu").await.ok()
    }
}

fn line(value: OwnedValue) -> Line {
    let (id, properties, _): Layout = Structure::try_from(value).unwrap().try_into().unwrap();
    let text = |name: &str| properties.get(name).and_then(|value| value.downcast_ref::<String>().ok());
    let enabled = properties.get("enabled").is_none_or(|value| value.downcast_ref::<bool>().unwrap_or(true));
    Line { label: text("label").unwrap_or_default(), enabled, id }
}
