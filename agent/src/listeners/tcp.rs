//! A `tcp` app's own port: each connection to it becomes a stream to the app.

use super::accept;
use crate::peer::Uid;
use crate::uplink::Access;
use postern_agent_core::guard;
use postern_protocol::{AppName, Code, Problem};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// More than a relay permits on one connection; the rest waits to be accepted.
const MAX_CONNECTIONS: usize = 128;

/// Serves until dropped.
pub(super) async fn serve(listener: TcpListener, user: Uid, app: AppName, access: Access) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let stream = accept(&listener).await;
        let (app, access) = (app.clone(), access.clone());
        tokio::spawn(async move {
            carry(stream, user, &app, &access).await;
            drop(place);
        });
    }
}

/// Nothing is read before it is known who asks and that the relay agrees.
async fn carry(stream: TcpStream, user: Uid, app: &AppName, access: &Access) {
    if let Err(problem) = user.check_tcp(&stream) {
        tracing::warn!(%app, detail = problem.detail, "refused another user's connection");
        return reset(&stream);
    }
    // A refusal is told by the uplink's events: a TCP client can only be shown a reset.
    let Ok(app_stream) = access.connect(app).await else { return reset(&stream) };
    let port = stream.local_addr().map_or(0, |address| address.port());
    let (from_local, mut to_local) = tokio::io::split(stream);
    let mut from_local = Screened { from: from_local, port, opened: false, refused: false };
    let Err(end) = app_stream.splice(&mut from_local, &mut to_local).await else { return };
    if from_local.refused {
        access.uplink().denied(app.clone(), Problem::new(Code::CrossSite));
    } else {
        tracing::debug!(%app, %end, "stream ended early");
    }
    reset(&from_local.from.unsplit(to_local));
}

/// What a local client sends, unless its first bytes show that a web page of another site makes a browser send them.
struct Screened<R> {
    from: R,
    port: u16,
    opened: bool,
    refused: bool,
}

impl<R: AsyncRead + Unpin> AsyncRead for Screened<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.opened {
            return Pin::new(&mut self.from).poll_read(cx, buf);
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.from).poll_read(cx, buf);
        let opening = buf.filled().get(before..).unwrap_or_default();
        if opening.is_empty() {
            return polled;
        }
        self.opened = true;
        self.refused = guard::from_foreign_page(opening, self.port);
        if self.refused {
            buf.set_filled(before);
            return Poll::Ready(Err(io::ErrorKind::PermissionDenied.into()));
        }
        polled
    }
}

/// Closing then sends a reset, so that the client does not take a cut for an orderly end.
fn reset(stream: &TcpStream) {
    // Fails only on a connection that is gone already.
    let _ = stream.set_zero_linger();
}
