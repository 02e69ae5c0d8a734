//! macOS and Windows: there is always a place for icons.

/// Would an icon be seen now?
pub(crate) async fn exists() -> bool {
    true
}

/// Waits until an icon would be seen.
pub(crate) async fn appears() {}
