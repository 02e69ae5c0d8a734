//! The one body type of every answer the relay gives, whoever wrote it.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};

/// Whatever broke a body off.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body made here or streamed from an upstream.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// No body at all.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is all there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
