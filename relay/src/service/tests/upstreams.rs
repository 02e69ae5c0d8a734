//! Upstreams to stand behind the relay: an HTTP one that a test programs, and raw TCP ones.

use super::world::{BoxError, Outgoing, full};
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// An upstream and how many connections it has had.
pub(super) struct Upstream {
    pub(super) addr: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    /// Hands each connection to `serve`.
    pub(super) async fn tcp<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { addr, connections }
    }

    /// Answers each request with `answer`.
    pub(super) async fn http<F>(answer: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Outgoing>> + Send + 'static,
    {
        let answer = Arc::new(answer);
        Self::tcp(move |stream| {
            let answer = answer.clone();
            async move {
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let served = hyper::server::conn::http1::Builder::new();
                let _either_side_may_go = served.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
            }
        })
        .await
    }

    /// Answers each request with what it looked like.
    pub(super) async fn echo() -> Self {
        Self::http(|request| async move { Response::new(full(describe(&request))) }).await
    }

    /// Sends back what it gets, and ends when the other side ends.
    pub(super) async fn tcp_echo() -> Self {
        Self::tcp(|mut stream| async move {
            let (mut read, mut write) = stream.split();
            let _either_side_may_go = tokio::io::copy(&mut read, &mut write).await;
        })
        .await
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(super) fn http_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(super) fn tcp_url(&self) -> String {
        format!("tcp://{}", self.addr)
    }
}

/// Request line and headers, one a line.
fn describe(request: &Request<Incoming>) -> Bytes {
    let mut lines = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        lines.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    lines.into()
}

/// A body of this many bytes, made as it is asked for; tells how many were.
pub(super) struct Generated {
    left: usize,
    made: Arc<AtomicUsize>,
}

impl Generated {
    const CHUNK: usize = 64 * 1024;

    pub(super) fn new(bytes: usize) -> (Self, Arc<AtomicUsize>) {
        let made = Arc::new(AtomicUsize::new(0));
        (Self { left: bytes, made: made.clone() }, made)
    }
}

impl Body for Generated {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        static ZEROS: [u8; Generated::CHUNK] = [0; Generated::CHUNK];
        let here = self.left.min(Self::CHUNK);
        self.left -= here;
        self.made.fetch_add(here, Ordering::SeqCst);
        Poll::Ready((here > 0).then(|| Ok(Frame::data(Bytes::from_static(&ZEROS[..here])))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

/// Waits until `count` has stood still for a while, and returns it.
pub(super) async fn settled(count: &AtomicUsize) -> usize {
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = count.load(Ordering::SeqCst);
        if now == before && now > 0 {
            return now;
        }
        before = now;
    }
}
