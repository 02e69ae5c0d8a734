//! The one window. It shows the program's own pages and goes nowhere else.

use tauri::webview::NewWindowResponse;
use tauri::{AppHandle, Manager as _, WebviewUrl, WebviewWindowBuilder};

/// Its name in the capability.
pub(crate) const LABEL: &str = "main";

/// Makes it.
pub(crate) fn make(app: &AppHandle, visible: bool) -> tauri::Result<()> {
    WebviewWindowBuilder::new(app, LABEL, WebviewUrl::default())
        .title("Postern")
        .inner_size(1120.0, 760.0)
        .min_inner_size(360.0, 480.0)
        .visible(visible)
        .on_navigation(|url| {
            let ours = is_ours(url);
            if !ours {
                tracing::warn!(scheme = url.scheme(), "the window was asked to go elsewhere");
            }
            ours
        })
        .on_new_window(|_, _| NewWindowResponse::Deny)
        .build()
        .map(|_| ())
}

/// Brings it to the front.
pub(crate) fn show(app: &AppHandle) {
    let Some(window) = app.get_webview_window(LABEL) else { return };
    let shown = window.unminimize().and_then(|()| window.show()).and_then(|()| window.set_focus());
    if let Err(error) = shown {
        tracing::warn!(%error, "the window does not come to the front");
    }
}

/// Does the person look at it?
pub(crate) fn is_looked_at(app: &AppHandle) -> bool {
    let window = app.get_webview_window(LABEL);
    window.is_some_and(|window| window.is_visible().unwrap_or(false) && window.is_focused().unwrap_or(false))
}

/// The pages that are built in; while they are worked on, those of the development server. An app of the relay may be named
/// `tauri`, and is then at `http://tauri.localhost` with a port.
fn is_ours(url: &tauri::Url) -> bool {
    let built_in = if cfg!(windows) {
        url.scheme() == "http" && url.host_str() == Some("tauri.localhost") && url.port().is_none()
    } else {
        url.scheme() == "tauri" && url.host_str() == Some("localhost")
    };
    built_in || (!cfg!(feature = "custom-protocol") && url.as_str().starts_with("http://localhost:5173/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a16_the_window_goes_nowhere_else() {
        let ours = |text: &str| is_ours(&text.parse().unwrap());
        let own = if cfg!(windows) { "http://tauri.localhost/index.html" } else { "tauri://localhost/index.html" };
        assert!(ours(own));
        for elsewhere in [
            "https://evil.example/",
            "http://localhost:5173/",
            "http://tauri.localhost:7080/",
            "https://tauri.localhost/",
            "tauri://evil.example/",
            "file:///etc/passwd",
            "data:text/html,x",
            "about:blank",
        ] {
            assert!(!ours(elsewhere), "{elsewhere}");
        }
    }
}
