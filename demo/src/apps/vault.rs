//! An app that the policy denies to everyone in the demo. It counts the requests that reach it: none should.

use axum::Router;
use axum::response::Html;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;

pub(crate) async fn serve(listener: TcpListener, count: Arc<AtomicU64>) {
    let app = Router::new().fallback(move || async move {
        count.fetch_add(1, Ordering::SeqCst);
        Html(super::page::page("The vault", "<p>You are in the vault. The policy should have kept you out.</p>"))
    });
    // An accept that fails is tried again by axum itself; it never returns.
    let _ = axum::serve(listener, app).await;
}
