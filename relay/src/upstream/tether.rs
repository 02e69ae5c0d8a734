//! What binds an upload to the app's connection. An app may answer and then stop reading: whoever writes to it waits
//! for room, asks nobody anything, and would keep socket and place for as long as the app likes. The fuse in the
//! connection ends that from outside.

use futures_util::future::BoxFuture;
use futures_util::task::AtomicWaker;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tower_service::Service;

/// One request's upload, seen from its stream.
#[derive(Debug, Default)]
pub(crate) struct Tether(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    /// Nothing goes up, or no more: the connection may be another request's by now.
    #[default]
    Loose,
    /// It goes up, and nothing has come back.
    Going,
    Tied(Fuse),
    Broken,
}

impl Tether {
    /// A body goes up from now on.
    pub(super) fn begin(&self) {
        *self.0.lock() = State::Going;
    }

    /// It has been sent, or was dropped.
    pub(super) fn end(&self) {
        *self.0.lock() = State::Loose;
    }

    /// This is the connection that it goes to.
    pub(super) fn tie(&self, fuse: &Fuse) {
        let mut state = self.0.lock();
        match *state {
            State::Going => *state = State::Tied(fuse.clone()),
            State::Broken => fuse.blow(),
            State::Loose | State::Tied(_) => {}
        }
    }

    /// Breaks the connection if something still goes up on it.
    pub(crate) fn let_go(&self) {
        let mut state = self.0.lock();
        match &*state {
            State::Loose | State::Broken => return,
            State::Going => {}
            // Under the lock: the upload cannot end meanwhile and leave the connection to another request.
            State::Tied(fuse) => fuse.blow(),
        }
        *state = State::Broken;
    }
}

/// The means to break one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Fuse(Arc<Wire>);

#[derive(Debug, Default)]
struct Wire {
    blown: AtomicBool,
    /// Whoever drives the connection: one task reads and writes.
    driver: AtomicWaker,
}

impl Fuse {
    fn blow(&self) {
        self.0.blown.store(true, Ordering::Release);
        self.0.driver.wake();
    }
}

/// Connects as [`HttpConnector`] does, with a fuse in each connection.
#[derive(Clone, Debug)]
pub(super) struct Fused(HttpConnector);

impl Fused {
    pub(super) fn new(connector: HttpConnector) -> Self {
        Self(connector)
    }
}

impl Service<Uri> for Fused {
    type Response = Wired;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = BoxFuture<'static, Result<Wired, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = self.0.call(to);
        Box::pin(async move { connecting.await.map(|io| Wired { io, fuse: Fuse::default() }) })
    }
}

/// A connection with its fuse.
#[derive(Debug)]
pub(super) struct Wired {
    io: TokioIo<TcpStream>,
    fuse: Fuse,
}

impl Wired {
    /// The connection, if its fuse is whole.
    fn whole(&mut self, cx: &Context<'_>) -> io::Result<Pin<&mut TokioIo<TcpStream>>> {
        let Wire { blown, driver } = &*self.fuse.0;
        driver.register(cx.waker());
        // After the waker stands there, so that neither order of the two loses anything.
        if blown.load(Ordering::Acquire) {
            // What waits in the system's buffer is not sent any more.
            let _it_closes_in_any_case = self.io.inner().set_zero_linger();
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the stream was cut"));
        }
        Ok(Pin::new(&mut self.io))
    }
}

impl Connection for Wired {
    fn connected(&self) -> Connected {
        self.io.connected().extra(self.fuse.clone())
    }
}

impl Read for Wired {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().whole(cx) {
            Ok(io) => io.poll_read(cx, buffer),
            Err(broken) => Poll::Ready(Err(broken)),
        }
    }
}

impl Write for Wired {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut().whole(cx) {
            Ok(io) => io.poll_write(cx, bytes),
            Err(broken) => Poll::Ready(Err(broken)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().whole(cx) {
            Ok(io) => io.poll_flush(cx),
            Err(broken) => Poll::Ready(Err(broken)),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().whole(cx) {
            Ok(io) => io.poll_shutdown(cx),
            Err(broken) => Poll::Ready(Err(broken)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut().whole(cx) {
            Ok(io) => io.poll_write_vectored(cx, slices),
            Err(broken) => Poll::Ready(Err(broken)),
        }
    }
}
