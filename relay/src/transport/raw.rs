//! The app's bytes after a `CONNECT`: the transport's own stream where it can be had, for the sake of speed.

use super::{Guarded, QuicStream};
use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

/// A stream that hyper has let go.
pub(crate) enum Raw {
    /// Of the QUIC transport: chunks pass without being copied.
    Quic(Box<QuicStream>),
    /// Of any other.
    Other(TokioIo<Upgraded>),
}

impl Raw {
    /// The stream, and what hyper had read of it already.
    pub(crate) fn from_upgraded(upgraded: Upgraded) -> (Self, Bytes) {
        match upgraded.downcast::<TokioIo<Guarded<QuicStream>>>() {
            Ok(parts) => (Self::Quic(Box::new(parts.io.into_inner().into_inner())), parts.read_buf),
            Err(upgraded) => (Self::Other(TokioIo::new(upgraded)), Bytes::new()),
        }
    }
}
