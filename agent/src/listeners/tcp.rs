//! A `tcp` app's own port: each connection to it becomes a stream to the app.

use super::accept;
use super::screen::Screened;
use crate::peer;
use crate::uplink::Access;
use postern_client::user::User;
use postern_protocol::local::DenialKind;
use postern_protocol::{AppName, Code, Problem};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// More than a relay permits on one connection; the rest waits to be accepted.
const MAX_CONNECTIONS: usize = 128;

/// Serves until dropped.
pub(super) async fn serve(listener: Arc<TcpListener>, user: User, app: AppName, access: Access) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let stream = accept(&listener).await;
        let (user, app, access) = (user.clone(), app.clone(), access.clone());
        tokio::spawn(async move {
            carry(stream, user, &app, &access).await;
            drop(place);
        });
    }
}

/// Nothing is read before it is known who asks and that the relay agrees.
async fn carry(stream: TcpStream, user: User, app: &AppName, access: &Access) {
    if peer::check(&user, &stream).is_err() {
        return reset(&stream);
    }
    // A refusal is told by the uplink's events: a TCP client can only be shown a reset.
    let Ok(app_stream) = access.connect(app).await else { return reset(&stream) };
    let port = stream.local_addr().map_or(0, |address| address.port());
    let (from_local, mut to_local) = tokio::io::split(stream);
    let mut from_local = Screened::new(from_local, port);
    let Err(end) = app_stream.splice(&mut from_local, &mut to_local).await else { return };
    if from_local.refused() {
        access.uplink().denied(DenialKind::Stream, app.clone(), Problem::new(Code::CrossSite));
    } else {
        let end = access.uplink().ended(app, end);
        tracing::debug!(%app, %end, "stream ended early");
    }
    reset(&from_local.into_inner().unsplit(to_local));
}

/// Closing then sends a reset, so that the client does not take a cut for an orderly end.
fn reset(stream: &TcpStream) {
    // Fails only on a connection that is gone already.
    let _ = stream.set_zero_linger();
}
