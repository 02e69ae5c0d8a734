//! Headers: what belongs to one hop stays there, and what only Postern may say is said by Postern alone.

use http::HeaderMap;
use http::header::{
    CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};

/// Fields that end at this hop (RFC 9110 §7.6.1) besides those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 6] =
    [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE];

/// The same, where the `http` crate has no name for them. `proxy-status` of an upstream would pass for ours.
const HOP_BY_HOP_NAMES: [&str; 4] = ["keep-alive", "proxy-connection", "proxy-authentication-info", "proxy-status"];

/// Beginnings of names that speak for Postern, for the way here, or for another path or method than the one that is
/// judged, in the form of [`plain`].
const RESERVED: [&str; 11] = [
    "x-postern-",
    "postern-",
    "x-forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "x-original-",
    "x-rewrite-",
    "x-http-method",
    "x-method-override",
];

/// Takes from a request what may not reach the upstream: hop-by-hop fields, credentials for the relay, everything
/// in Postern's name in any spelling (A44), and all claims of other proxies (A45). To be called before Postern's
/// own fields are set. An upgrade that is wanted must be read before and set again after.
pub fn clean_request(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    headers.remove(FORWARDED);
    remove_reserved(headers, &RESERVED);
}

/// Takes from a response what may not reach the agent: hop-by-hop fields and what would pass for the relay's word.
pub fn clean_response(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    remove_reserved(headers, &["x-postern-", "postern-"]);
}

/// Trailers carry no framing, routing, credentials or identity (RFC 9110 §6.5.1), in either direction.
pub fn clean_trailers(trailers: &mut HeaderMap) {
    clean_request(trailers);
    for name in [HOST, CONTENT_LENGTH, TRAILER, http::header::AUTHORIZATION, http::header::COOKIE] {
        trailers.remove(name);
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // A client may not have the framing or the target removed by naming it.
        .filter(|name| ![HOST, CONTENT_LENGTH].contains(name))
        .collect();
    for name in listed.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP_NAMES {
        headers.remove(name);
    }
}

fn remove_reserved(headers: &mut HeaderMap, reserved: &[&str]) {
    let doomed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let plain = plain(name.as_str());
            reserved.iter().any(|prefix| plain.starts_with(prefix))
        })
        .cloned()
        .collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// A name as CGI, WSGI and their kin read it: `X_Postern.Identity` reaches an app as `X-Postern-Identity` does.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}
