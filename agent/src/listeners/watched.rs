//! The body of an answer on its way to a local client: if the relay cuts it, the user is told why.

use crate::activity::InUse;
use crate::link::{Body, StreamEnd};
use crate::uplink::Uplink;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use postern_protocol::AppName;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A body, and who is to hear how it ended.
pub(super) struct Watched {
    body: Body,
    of: Option<(AppName, Arc<Uplink>)>,
    /// The request is under way until the answer has gone.
    _in_use: Option<InUse>,
}

impl Watched {
    /// What an app answers.
    pub(super) fn of(body: Body, app: AppName, uplink: Arc<Uplink>, in_use: InUse) -> Self {
        Self { body, of: Some((app, uplink)), _in_use: Some(in_use) }
    }

    /// What the agent answers by itself.
    pub(super) fn own(body: Body) -> Self {
        Self { body, of: None, _in_use: None }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Err(error)) = &frame
            && let Some((app, uplink)) = self.of.take()
        {
            let error = error.downcast_ref::<hyper::Error>();
            uplink.ended(&app, error.map_or(StreamEnd::Broken, StreamEnd::of_body));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
