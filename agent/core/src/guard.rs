//! Who may use the local HTTP listener: the user's own tools and the app's own pages, never another web site.
//!
//! Three facts carry this. A page cannot choose its `Host`, so a name that was rebound to loopback shows. A page
//! cannot forge `Origin`, `Sec-Fetch-*` or the origin in `Referer`. And a browser sends at least one of them with
//! whatever a page could exploit: every request that changes state and every one whose answer the page could read.

mod opening;

pub use opening::Opening;

use postern_protocol::{AppName, Code};

/// A header that may occur once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// It is not there.
    Absent,
    /// Its one value.
    One(&'a str),
    /// It occurs more than once or is not text.
    Invalid,
}

/// What a request says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a str,
    /// `Host`.
    pub host: Field<'a>,
    /// The authority of the request target, where it is written in absolute form.
    pub target: Option<&'a str>,
    /// `Origin`.
    pub origin: Field<'a>,
    /// `Referer`.
    pub referer: Field<'a>,
    /// `Sec-Fetch-Site`.
    pub site: Field<'a>,
    /// `Sec-Fetch-Mode`.
    pub mode: Field<'a>,
    /// `Sec-Fetch-Dest`.
    pub dest: Field<'a>,
}

/// What a `Host` of the listener stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `localhost`: the list of apps.
    Index,
    /// `<app>.localhost`.
    App(AppName),
}

/// What is to become of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on.
    Open(Place),
    /// Another site leads the user here: the user is asked, the app is not.
    Ask(Place),
    /// It may not.
    Refuse(Code, &'static str),
}

/// Judges a request to the listener on `port`.
pub fn judge(asked: &Asked<'_>, port: u16) -> Verdict {
    let (host, place) = match place_of(asked, port) {
        Ok(found) => found,
        Err((code, why)) => return Verdict::Refuse(code, why),
    };
    if matches!(asked.method, "CONNECT" | "TRACE") {
        return Verdict::Refuse(Code::MethodNotAllowed, "use an ordinary method");
    }
    match relation(asked, host, port) {
        Relation::Own => Verdict::Open(place),
        Relation::Foreign if leads_here(asked) => {
            if from_index(asked, port) {
                Verdict::Open(place)
            } else {
                Verdict::Ask(place)
            }
        }
        Relation::Foreign => Verdict::Refuse(Code::CrossSite, "the request comes from another site"),
        Relation::Malformed => Verdict::Refuse(Code::RequestInvalid, "a header occurs twice or is not text"),
    }
}

enum Relation {
    /// The user's own doing, or the app's own page.
    Own,
    Foreign,
    Malformed,
}

/// Who made the request, by the headers that a page cannot forge.
fn relation(asked: &Asked<'_>, host: &str, port: u16) -> Relation {
    let own_origin = match asked.origin {
        Field::Absent => None,
        Field::One(origin) => Some(is_origin(origin, host, port)),
        Field::Invalid => return Relation::Malformed,
    };
    match (asked.site, own_origin) {
        (Field::Invalid, _) => Relation::Malformed,
        // A page of the app whose referrer policy hides its origin still is a page of the app.
        (Field::One("same-origin"), Some(false)) if asked.origin == Field::One("null") => Relation::Own,
        (Field::One("same-origin" | "none") | Field::Absent, None | Some(true)) => Relation::Own,
        // `same-site` is foreign too: the same name at another port may be another user's server.
        _ => Relation::Foreign,
    }
}

/// Does the browser open this address in a tab of its own, changing nothing? Links from mail and chat do.
fn leads_here(asked: &Asked<'_>) -> bool {
    matches!(asked.method, "GET" | "HEAD")
        && asked.origin == Field::Absent
        && asked.mode == Field::One("navigate")
        && asked.dest == Field::One("document")
}

/// Was the link on our own list of apps?
fn from_index(asked: &Asked<'_>, port: u16) -> bool {
    match asked.referer {
        Field::One(referer) => is_origin(referer.strip_suffix('/').unwrap_or(referer), "localhost", port),
        Field::Absent | Field::Invalid => false,
    }
}

fn is_origin(origin: &str, host: &str, port: u16) -> bool {
    origin.strip_prefix("http://").and_then(|authority| name_of(authority, port)) == Some(host)
}

fn place_of<'a>(asked: &Asked<'a>, port: u16) -> Result<(&'a str, Place), (Code, &'static str)> {
    let authority = match asked.host {
        Field::One(authority) => authority,
        Field::Absent => return Err((Code::RequestInvalid, "the request names no Host")),
        Field::Invalid => return Err((Code::RequestInvalid, "the request names several Hosts")),
    };
    if asked.target.is_some_and(|target| target != authority) {
        return Err((Code::AuthorityMismatch, "Host and request target differ"));
    }
    let refused = (Code::HostRefused, "the name is neither localhost nor <app>.localhost with this port");
    let host = name_of(authority, port).ok_or(refused)?;
    if host == "localhost" {
        return Ok((host, Place::Index));
    }
    let app = host.strip_suffix(".localhost").and_then(|label| label.parse().ok()).ok_or(refused)?;
    Ok((host, Place::App(app)))
}

/// The name in `authority`, if its port is ours; browsers leave out port 80.
fn name_of(authority: &str, port: u16) -> Option<&str> {
    match authority.split_once(':') {
        Some((name, digits)) => (digits == port.to_string()).then_some(name),
        None => (port == 80).then_some(authority),
    }
}

#[cfg(test)]
mod tests;
