//! What a request asks for and what of it goes on: target, method, path and headers.
//!
//! Nothing in here decides access: it makes sure that what is judged is what the upstream gets, and that
//! only Postern speaks in Postern's name.

mod headers;
mod path;

pub use headers::{clean_request, clean_response, clean_trailers};
pub use path::check_path;
pub(crate) use path::readings;

use http::header::HOST;
use http::{HeaderMap, Method, Uri};
use postern_protocol::control::CONTROL_AUTHORITY;
use postern_protocol::{AppName, Code};

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The relay itself.
    Control,
    /// A request to an `http` app.
    Http(AppName),
    /// A stream to a `tcp` app.
    Connect(AppName, u16),
}

/// Reads the target off request line and `Host`, which must agree (A47): 400 where they do not, 421 where the
/// name is not one of ours to serve.
pub fn target(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Target, Code> {
    let host = single_host(headers)?;
    let named = uri.authority().map(http::uri::Authority::as_str);
    if method == Method::CONNECT {
        return connect_target(uri, named, host);
    }
    let name = match (named, host) {
        (Some(named), Some(host)) if !named.eq_ignore_ascii_case(host) => return Err(Code::AuthorityMismatch),
        (Some(named), _) => named,
        (None, Some(host)) => host,
        (None, None) => return Err(Code::RequestInvalid),
    };
    match uri.scheme_str() {
        None | Some("http" | "https") => {}
        Some(_) => return Err(Code::RequestInvalid),
    }
    check_method(method)?;
    if name.eq_ignore_ascii_case(CONTROL_AUTHORITY) {
        return Ok(Target::Control);
    }
    app_name(name).map(Target::Http)
}

/// RFC 9112 §3.2: exactly one `Host`, or none where the request line names the authority.
fn single_host(headers: &HeaderMap) -> Result<Option<&str>, Code> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Ok(None),
        (Some(host), None) => host.to_str().map(Some).map_err(|_| Code::RequestInvalid),
        (Some(_), Some(_)) => Err(Code::RequestInvalid),
    }
}

/// `CONNECT app:port`; a `Host` beside it must say the same.
fn connect_target(uri: &Uri, named: Option<&str>, host: Option<&str>) -> Result<Target, Code> {
    let named = named.filter(|_| uri.scheme().is_none() && uri.path_and_query().is_none_or(|p| p.as_str() == "/"));
    let named = named.ok_or(Code::RequestInvalid)?;
    if host.is_some_and(|host| !host.eq_ignore_ascii_case(named)) {
        return Err(Code::AuthorityMismatch);
    }
    let (name, port) = named.rsplit_once(':').ok_or(Code::RequestInvalid)?;
    let plain = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|port| plain && *port != 0).ok_or(Code::RequestInvalid)?;
    app_name(name).map(|name| Target::Connect(name, port))
}

/// A name that is no app name belongs to another server.
fn app_name(name: &str) -> Result<AppName, Code> {
    name.to_ascii_lowercase().parse().map_err(|_| Code::Misdirected)
}

/// `TRACE` would send the identity assertion back to the browser. Methods are case-sensitive (RFC 9110 §9.1), but apps
/// that read `delete` as `DELETE` exist: a policy must not be passed by spelling.
fn check_method(method: &Method) -> Result<(), Code> {
    let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-';
    let known = method.as_str().len() <= 32 && method.as_str().bytes().all(plain) && *method != Method::TRACE;
    if known { Ok(()) } else { Err(Code::MethodNotAllowed) }
}

#[cfg(test)]
mod tests;
