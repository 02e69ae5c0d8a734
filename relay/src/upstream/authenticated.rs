//! Connections that know who they belong to. NTLM and Negotiate (RFC 4559) sign in a connection, not a request: whatever
//! comes over it afterwards counts as the same user's. Such a connection serves one request and no other.

use http::header::{AUTHORIZATION, PROXY_AUTHENTICATE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName};

/// Does this request sign in the connection it travels on?
pub(super) fn signs_in(request: &HeaderMap) -> bool {
    names(request, AUTHORIZATION)
}

/// Does this answer ask for that?
pub(super) fn asks(answer: &HeaderMap) -> bool {
    names(answer, WWW_AUTHENTICATE) || names(answer, PROXY_AUTHENTICATE)
}

/// A header that cannot be read might name them.
fn names(headers: &HeaderMap, name: HeaderName) -> bool {
    headers.get_all(name).iter().any(|value| {
        value.to_str().map_or(true, |value| {
            let words = value.split(|separator: char| separator.is_ascii_whitespace() || separator == ',');
            words.into_iter().any(|word| word.eq_ignore_ascii_case("ntlm") || word.eq_ignore_ascii_case("negotiate"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn every_spelling_is_recognised() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=x"));
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            asks(&headers)
        };
        for value in ["NTLM", "ntlm TlRMTVNT", "Negotiate", "negotiate YII=", "Basic realm=\"a\", Negotiate", "\u{e9}"]
        {
            assert!(of(value), "{value}");
        }
        for value in ["Bearer", "Digest realm=\"ntlm-users\"", "Basic"] {
            assert!(!of(value), "{value}");
        }
    }
}
