//! Bodies on their way: counted, without trailers, and never longer alive than the stream they belong to.

use crate::body::BoxError;
use crate::streams::Live;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use postern_protocol::Code;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

/// A request's body, from device to upstream. Trailers end here: they could carry an identity that nobody
/// gave (A44), and no app needs them of a browser.
#[derive(Debug)]
pub(crate) struct Upload(Option<(Incoming, Arc<Live>)>);

impl Upload {
    /// The body of the request that `live` is filed for. An app may answer before it has read it: until its end the
    /// stream lives and can be cut.
    pub(crate) fn new(body: Incoming, live: Arc<Live>) -> Self {
        if body.is_end_stream() {
            return Self::none();
        }
        live.stream().upload.begin();
        Self(Some((body, live)))
    }

    /// No body.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    fn end(&mut self) {
        if let Some((_, live)) = self.0.take() {
            live.stream().upload.end();
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.end();
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some((body, live)) = &mut self.0 else { return Poll::Ready(None) };
        if live.stream().is_cut() {
            return Poll::Ready(Some(Err("the stream was cut".into())));
        }
        let frame = ready!(poll_data(body, cx));
        match &frame {
            Some(Ok(data)) => live.stream().count_sent(data.len()),
            Some(Err(_)) => live.stream().upload_broken.store(true, Ordering::Relaxed),
            None => self.end(),
        }
        Poll::Ready(frame.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |(body, _)| body.size_hint())
    }
}

/// An answer's body, from upstream to device. It holds the stream's place in the registry to its end.
#[derive(Debug)]
pub(crate) struct Download {
    body: Incoming,
    live: Arc<Live>,
}

impl Download {
    /// The body of the answer to the request that `live` is filed for.
    pub(crate) fn new(body: Incoming, live: Arc<Live>) -> Self {
        Self { body, live }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(poll_data(&mut self.body, cx));
        match &frame {
            Some(Ok(data)) => self.live.stream().count_received(data.len()),
            // The head is out already, so only a reset can tell that the answer is not whole.
            Some(Err(_)) => self.live.fail(Code::UpstreamInvalid),
            None => {}
        }
        Poll::Ready(frame.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The next data; trailers are passed over.
fn poll_data(body: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
    loop {
        match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(why)) => return Poll::Ready(Some(Err(why.into()))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Poll::Ready(Some(Ok(data)));
                }
            }
        }
    }
}
