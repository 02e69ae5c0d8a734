//! What a person does to windows from outside: looks whether one is there, and closes it, as window managers have it done
//! (ICCCM §4.2.8.1).

use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::{AtomEnum, ClientMessageEvent, ConnectionExt as _, EventMask, MapState, Window};
use x11rb::rust_connection::RustConnection;

/// A screen that is looked at.
pub struct Screen {
    connection: RustConnection,
    root: Window,
}

impl Screen {
    /// The one with this name (`:1`).
    pub fn of(display: &str) -> Self {
        let (connection, number) = x11rb::connect(Some(display)).unwrap();
        let root = connection.setup().roots[number].root;
        Self { connection, root }
    }

    /// Is a window with this title to be seen?
    pub fn shows(&self, title: &str) -> bool {
        self.titled(title).is_some_and(|window| {
            let attributes = self.connection.get_window_attributes(window).unwrap().reply();
            attributes.is_ok_and(|attributes| attributes.map_state == MapState::VIEWABLE)
        })
    }

    /// Asks the window with this title to close.
    pub fn close(&self, title: &str) {
        let window = self.titled(title).unwrap_or_else(|| panic!("no window {title:?}"));
        let atom = |name: &str| self.connection.intern_atom(false, name.as_bytes()).unwrap().reply().unwrap().atom;
        let (protocols, delete) = (atom("WM_PROTOCOLS"), atom("WM_DELETE_WINDOW"));
        let message = ClientMessageEvent::new(32, window, protocols, [delete, x11rb::CURRENT_TIME, 0, 0, 0]);
        self.connection.send_event(false, window, EventMask::NO_EVENT, message).unwrap();
        self.connection.flush().unwrap();
    }

    /// Waits until it shows a window with this title, or shows it no more.
    pub async fn until(&self, title: &str, shown: bool) {
        let what = format!("the screen {} {title:?}", if shown { "shows" } else { "hides" });
        crate::eventually(&what, async || (self.shows(title) == shown).then_some(())).await;
    }

    fn titled(&self, title: &str) -> Option<Window> {
        let children = self.connection.query_tree(self.root).unwrap().reply().unwrap().children;
        children.into_iter().find(|window| {
            let name = self.connection.get_property(false, *window, AtomEnum::WM_NAME, AtomEnum::ANY, 0, 64).unwrap();
            name.reply().is_ok_and(|name| name.value == title.as_bytes())
        })
    }
}
