//! `tcp` apps: a stream is decided when it opens and again when its permit ends; in between, bytes pass as they are,
//! unless the stream is held: then none passes, and none is lost.

use crate::body::{self, Body};
use crate::service::Stream;
use crate::streams::Live;
use crate::transport::{QuicStream, Raw, Receiving, Sending};
use crate::{gate, refusal, upstream};
use bytes::{Buf, Bytes, BytesMut};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use postern_protocol::{AppName, Code, DecisionId, Problem};
use std::io::{self, IoSlice};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

/// Answers `CONNECT`: 200, and from there on the stream is the app's.
pub(crate) async fn answer(stream: &Stream, request: Request<Incoming>, app: AppName) -> Response<Body> {
    match open(stream, request, app).await {
        Ok(decision) => {
            let mut answer = Response::new(body::empty());
            refusal::decided(answer.headers_mut(), &decision);
            answer
        }
        Err(problem) => refusal::response(&problem),
    }
}

async fn open(stream: &Stream, request: Request<Incoming>, app: AppName) -> Result<DecisionId, Problem> {
    let admitted = gate::admit(&stream.peer, &stream.cut, &request, app).await?;
    let live = admitted.live;
    let upstream = upstream::dial(&live).await.map_err(|failure| failure.problem(&live))?;
    let upgrade =
        stream.upgrade().ok_or_else(|| Problem::new(Code::Internal).decision(live.permit().decision().clone()))?;
    let decision = live.permit().decision().clone();
    stream.afterwards(carry(upgrade, Upstream { tcp: upstream, orderly: false }, live));
    Ok(decision)
}

/// A connection to an upstream. Dropped before both directions ended in order, it is reset, so that the app does
/// not take what it got for the whole.
struct Upstream {
    tcp: TcpStream,
    orderly: bool,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if !self.orderly {
            let _it_closes_in_any_case = self.tcp.set_zero_linger();
        }
    }
}

/// Carries bytes both ways until both directions ended, or one broke. Being dropped resets everything.
async fn carry(upgrade: OnUpgrade, mut upstream: Upstream, live: Live) {
    let Ok(upgraded) = upgrade.await else { return };
    let carried = match Raw::from_upgraded(upgraded) {
        (Raw::Quic(stream), early) => carry_chunks(*stream, early, &mut upstream.tcp, &live).await,
        (Raw::Other(mut stream), _) => match tokio::io::copy_bidirectional(&mut stream, &mut upstream.tcp).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Code::UpstreamUnreachable),
        },
    };
    match carried {
        Ok(()) => upstream.orderly = true,
        Err(code) => live.fail(code),
    }
}

/// The same for a QUIC stream, where chunks pass without being copied.
async fn carry_chunks(stream: QuicStream, early: Bytes, tcp: &mut TcpStream, live: &Live) -> Result<(), Code> {
    let QuicStream { recv, mut send } = stream;
    let (mut from_app, mut to_app) = tcp.split();
    let down = app_to_device(&mut from_app, &mut send, live);
    let mut up = std::pin::pin!(device_to_app(recv, early, &mut to_app, live));
    let mut down = std::pin::pin!(down);
    let carried = tokio::select! {
        ended = &mut up => match ended {
            // An app that takes no more may have said why: that still goes down.
            Ok(()) | Err(Broken::App) => down.await,
            Err(Broken::Device) => Err(Broken::Device),
        },
        ended = &mut down => match (ended, up) {
            (Ok(()), up) => match up.await {
                // All that the app had to say is on its way, and it has gone.
                Ok(()) | Err(Broken::App) => Ok(()),
                broken => broken,
            },
            (broken, _) => broken,
        },
    };
    carried.map_err(|broken| {
        let code = match broken {
            Broken::App => Code::UpstreamUnreachable,
            Broken::Device => Code::Internal,
        };
        // Before the halves are dropped, so that the reset carries the code.
        live.fail(code);
        code
    })
}

/// Which side of a stream broke off.
#[derive(Clone, Copy, Debug)]
enum Broken {
    Device,
    App,
}

async fn device_to_app(mut recv: Receiving, early: Bytes, app: &mut WriteHalf<'_>, live: &Live) -> Result<(), Broken> {
    let (mut chunks, mut valve) = (Chunks::new(early), live.valve());
    loop {
        live.stream().count_sent(chunks.remaining());
        while chunks.has_remaining() {
            valve.open().await;
            tokio::select! {
                biased;
                () = valve.shut() => {}
                written = app.write_buf(&mut chunks) => match written {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Err(Broken::App),
                },
            }
        }
        if !chunks.refill(&mut recv).await? {
            valve.open().await;
            // The app may have much to say yet: only this direction ends.
            return app.shutdown().await.map_err(|_| Broken::App);
        }
    }
}

/// Sizes of one read. A stream that lies idle holds no buffer at all.
const SMALL: usize = 4 * 1024;
const LARGE: usize = 64 * 1024;

async fn app_to_device(app: &mut ReadHalf<'_>, send: &mut Sending, live: &Live) -> Result<(), Broken> {
    let (mut size, mut valve) = (SMALL, live.valve());
    loop {
        valve.open().await;
        app.readable().await.map_err(|_| Broken::App)?;
        let mut buffer = BytesMut::with_capacity(size);
        match app.try_read_buf(&mut buffer) {
            Ok(0) => {
                valve.open().await;
                send.finish();
                return Ok(());
            }
            Ok(read) => {
                size = if read == buffer.capacity() { (size * 2).min(LARGE) } else { (read * 2).clamp(SMALL, size) };
                live.stream().count_received(read);
                let mut chunk = buffer.freeze();
                while !chunk.is_empty() {
                    valve.open().await;
                    tokio::select! {
                        biased;
                        () = valve.shut() => {}
                        sent = send.write_some(&mut chunk) => sent.map_err(|_| Broken::Device)?,
                    }
                }
            }
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Broken::App),
        }
    }
}

/// Chunks of a QUIC stream on their way into one vectored write.
struct Chunks {
    chunks: [Bytes; Self::MOST],
    next: usize,
}

impl Chunks {
    /// About 40 KB of full packets: enough to fill a write, little enough to stay in the cache.
    const MOST: usize = 32;

    fn new(first: Bytes) -> Self {
        let mut chunks = [const { Bytes::new() }; Self::MOST];
        if let Some(slot) = chunks.first_mut() {
            *slot = first;
        }
        Self { chunks, next: 0 }
    }

    /// Takes what has arrived; false at the end.
    async fn refill(&mut self, recv: &mut Receiving) -> Result<bool, Broken> {
        self.next = 0;
        let taken = recv.read_chunks(&mut self.chunks).await.map_err(|_| Broken::Device)?;
        Ok(taken.is_some())
    }

    fn left(&self) -> &[Bytes] {
        self.chunks.get(self.next..).unwrap_or_default()
    }
}

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.left().iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.left().iter().find(|chunk| !chunk.is_empty()).map_or(&[], Bytes::as_ref)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let full = self.left().iter().filter(|chunk| !chunk.is_empty());
        slices.iter_mut().zip(full).map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(chunk) = self.chunks.get_mut(self.next).filter(|_| count > 0) {
            let here = count.min(chunk.len());
            chunk.advance(here);
            count -= here;
            if chunk.is_empty() {
                // Frees the packet's memory before the rest is written.
                *chunk = Bytes::new();
                self.next += 1;
            }
        }
    }
}
