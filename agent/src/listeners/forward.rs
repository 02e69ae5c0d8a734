//! What changes in a request on its way to the relay and in an answer on its way back.

use crate::link::{Body, full};
use ::http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use ::http::uri::PathAndQuery;
use ::http::{HeaderMap, HeaderValue, Request, Response, Uri, Version};
use http_body_util::Either;
use hyper::body::{Body as _, Incoming};
use postern_protocol::{AppName, Code, Problem, headers};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const LOCAL_AUTHORITY: HeaderName = HeaderName::from_static(headers::LOCAL_AUTHORITY);
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
/// The `Connection` option that announces a protocol switch.
const UPGRADE_OPTION: HeaderValue = HeaderValue::from_static("upgrade");

/// The request as the relay gets it: only `Host` and path say where it goes, and nothing in it can pass for
/// Postern's own. The uplink adds the credential.
pub(super) fn to_relay(request: Request<Incoming>, app: &AppName) -> Result<Request<Body>, Problem> {
    let (mut parts, body) = request.into_parts();
    parts.uri = Uri::from(parts.uri.into_parts().path_and_query.unwrap_or(PathAndQuery::from_static("/")));
    parts.version = Version::HTTP_11;
    let websocket = asks_for_websocket(&parts.headers);
    let authority = parts.headers.remove(HOST);
    drop_hop_by_hop(&mut parts.headers);
    drop_reserved(&mut parts.headers);
    // The body's framing is hyper's to write anew; it also has answered an expectation already.
    for name in [CONTENT_LENGTH, EXPECT, TRAILER] {
        parts.headers.remove(name);
    }
    if websocket {
        parts.headers.insert(CONNECTION, UPGRADE_OPTION);
        parts.headers.insert(UPGRADE, WEBSOCKET);
    }
    let host =
        HeaderValue::try_from(app.as_str()).map_err(|error| Problem::new(Code::Internal).detail(error.to_string()))?;
    parts.headers.insert(HOST, host);
    if let Some(authority) = authority {
        parts.headers.insert(LOCAL_AUTHORITY, authority);
    }
    let body = if body.is_end_stream() { full("") } else { Either::Right(body) };
    Ok(Request::from_parts(parts, body))
}

/// The app's answer as the local client gets it.
pub(super) fn to_client(mut response: Response<Incoming>) -> Response<Body> {
    let headers = response.headers_mut();
    drop_hop_by_hop(headers);
    drop_reserved(headers);
    *response.version_mut() = Version::HTTP_11;
    response.map(Either::Right)
}

/// The answer that switches to WebSocket: the one time `Connection` and `Upgrade` go on.
pub(super) fn switching(response: Response<Incoming>) -> Response<Body> {
    let mut response = to_client(response).map(|_| full(""));
    response.headers_mut().insert(CONNECTION, UPGRADE_OPTION);
    response.headers_mut().insert(UPGRADE, WEBSOCKET);
    response
}

/// Does a client ask to switch to WebSocket (RFC 6455 §4.1)?
pub(super) fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let named = |name, wanted: &str| tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted));
    named(CONNECTION, "upgrade") && named(UPGRADE, "websocket")
}

/// What holds for one connection only (RFC 9110 §7.6.1), what `Connection` names among it.
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, CONNECTION).filter_map(|token| token.parse().ok()).collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        PROXY_CONNECTION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// Names that are Postern's own, also as a server may write them that takes `_` for `-`.
fn drop_reserved(headers: &mut HeaderMap) {
    let reserved = |name: &HeaderName| {
        let name = name.as_str();
        let is_prefix = |prefix: &str| {
            let mut both = prefix.bytes().zip(name.bytes());
            name.len() >= prefix.len() && both.all(|(p, n)| p == n || (p == b'-' && n == b'_'))
        };
        headers::RESERVED_PREFIXES.into_iter().any(is_prefix)
    };
    let found: Vec<HeaderName> = headers.keys().filter(|name| reserved(name)).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse::<HeaderName>().unwrap(), HeaderValue::try_from(*v).unwrap())).collect()
    }

    #[test]
    fn what_connection_names_does_not_travel() {
        let mut headers = map(&[("connection", "close, X-Secret"), ("x-secret", "1"), ("te", "trailers"), ("x", "2")]);
        drop_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("x", "2")]));
    }

    #[test]
    fn websocket_needs_both_headers() {
        assert!(asks_for_websocket(&map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")])));
        assert!(!asks_for_websocket(&map(&[("upgrade", "websocket")])));
        assert!(!asks_for_websocket(&map(&[("connection", "upgrade"), ("upgrade", "h2c")])));
    }

    proptest! {
        /// A44: no spelling of our names gets through.
        #[test]
        fn a44_reserved_names_are_dropped(name in "([xX][-_])?[pP][oO][sS][tT][eE][rR][nN][-_][a-zA-Z0-9_-]{0,12}", other in "[a-z]{1,8}") {
            let mut headers = map(&[(&name, "forged"), (&other, "kept")]);
            drop_reserved(&mut headers);
            prop_assert_eq!(headers, map(&[(&other, "kept")]));
        }
    }
}
