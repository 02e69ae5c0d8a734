//! An HTTP app that answers with 128 bytes and does nothing else: what is measured is the way there.

use axum::Router;
use tokio::net::TcpListener;

const ANSWER: [u8; 128] = [b'.'; 128];

pub(crate) async fn serve(listener: TcpListener) {
    let app = Router::new().fallback(|| async { ANSWER.as_slice() });
    // An accept that fails is tried again by axum itself; it never returns.
    let _ = axum::serve(listener, app).await;
}
