//! The one body type of every answer the relay gives, whoever wrote it.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, LengthLimitError, Limited};
use postern_protocol::{Code, Problem};
use std::time::Duration;

/// How long a control message may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// All of a short body: a control message. `body_too_large` beyond `most` bytes, `request_invalid` if it breaks off.
pub async fn collect<B>(body: B, most: usize) -> Result<Bytes, Problem>
where
    B: http_body::Body<Data: Send>,
    B::Error: Into<BoxError>,
{
    let too_large = || Problem::new(Code::BodyTooLarge).detail(format!("at most {most} bytes are read here"));
    // Announced too long: answered at once, while the caller still listens.
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    let collected = tokio::time::timeout(PATIENCE, Limited::new(body, most).collect()).await;
    match collected {
        Ok(Ok(all)) => Ok(all.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(Code::RequestInvalid).detail("the body broke off")),
        Err(_) => Err(Problem::new(Code::RequestInvalid).detail("the body did not arrive in time")),
    }
}

/// `value` as a JSON answer that nobody may keep.
pub fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Body> {
    let mut response = Response::new(full(serde_json::to_vec(value).unwrap_or_default()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
