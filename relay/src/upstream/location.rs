//! Where an app sends the browser next: its own address becomes the one the browser knows it by.

use super::Door;
use http::HeaderValue;
use http::uri::Authority;
use postern_protocol::AppName;

/// The address under which the browser reaches an app: `app.localhost:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location(Authority);

impl Location {
    /// What the agent says the browser used, if it is an address of this very app. Anything else would let a device
    /// put a foreign name into the app's links and mails.
    pub(crate) fn parse(text: &HeaderValue, app: &AppName) -> Option<Self> {
        let authority: Authority = text.to_str().ok()?.parse().ok()?;
        let (name, suffix) = authority.host().split_once('.')?;
        let own = name.eq_ignore_ascii_case(app.as_str()) && suffix.eq_ignore_ascii_case("localhost");
        (own && !authority.as_str().contains('@') && authority.port().is_some()).then_some(Self(authority))
    }

    /// As a header value.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(self.0.as_str()).ok()
    }
}

/// A `location` that names the app by its upstream's address, rewritten to `local`, or to a path where that is
/// unknown. `None`: it leads elsewhere and stays as it is.
pub(crate) fn localise(value: &HeaderValue, door: &Door, local: Option<&Location>) -> Option<HeaderValue> {
    let text = value.to_str().ok()?;
    let (scheme, rest) = match text.strip_prefix("//") {
        Some(rest) => ("http", rest),
        None => text.split_once("://")?,
    };
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    if !door.is(scheme, authority) {
        return None;
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    let new = match local {
        Some(Location(local)) => format!("http://{local}{slash}{path}"),
        // `//x` would be read as another host.
        None if path.starts_with("//") => return None,
        None => format!("{slash}{path}"),
    };
    HeaderValue::try_from(new).ok()
}

/// An `origin` or `referer` that names the app by its local address, as the upstream knows itself: what the browser
/// holds for the same origin, an app that compares it with `Host` does too. `None`: it names something else and
/// stays as it is.
pub(crate) fn globalise(value: &HeaderValue, door: &Door, local: &Location) -> Option<HeaderValue> {
    let rest = value.to_str().ok()?.strip_prefix("http://")?.strip_prefix(local.0.as_str())?;
    if !rest.is_empty() && !rest.starts_with(['/', '?']) {
        return None;
    }
    HeaderValue::try_from(format!("{}{rest}", door.origin())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(upstream: &str, location: &str, local: Option<&str>) -> Option<String> {
        let door = Door::new(&upstream.parse().unwrap()).unwrap();
        let local = local.map(|text| Location::parse(&text.parse().unwrap(), &"wiki".parse().unwrap()).unwrap());
        localise(&location.parse().unwrap(), &door, local.as_ref()).map(|value| value.to_str().unwrap().into())
    }

    #[test]
    fn the_upstreams_own_address_becomes_the_local_one() {
        let local = Some("wiki.localhost:7070");
        for (upstream, location, expected) in [
            (
                "http://10.0.0.1:8080",
                "http://10.0.0.1:8080/login?x=1#y",
                Some("http://wiki.localhost:7070/login?x=1#y"),
            ),
            ("http://Wiki.corp", "http://wiki.CORP", Some("http://wiki.localhost:7070/")),
            ("http://wiki.corp", "HTTP://wiki.corp:80?a", Some("http://wiki.localhost:7070/?a")),
            ("https://wiki.corp", "https://wiki.corp/a", Some("http://wiki.localhost:7070/a")),
            ("http://wiki.corp:8080", "//wiki.corp:8080/a", Some("http://wiki.localhost:7070/a")),
            ("http://wiki.corp", "https://wiki.corp/a", None),
            ("http://wiki.corp:8080", "http://wiki.corp/a", None),
            ("http://wiki.corp", "http://wiki.corp@evil.example/", None),
            ("http://wiki.corp", "http://wiki.corp.evil.example/", None),
            ("http://wiki.corp", "/a", None),
            ("http://wiki.corp", "a", None),
            ("http://wiki.corp", "javascript://wiki.corp/%0aalert(1)", None),
        ] {
            assert_eq!(rewritten(upstream, location, local).as_deref(), expected, "{upstream} {location}");
        }
        assert_eq!(rewritten("http://a", "http://a/b", None).as_deref(), Some("/b"));
        assert_eq!(rewritten("http://a", "http://a//evil.example/", None), None);
    }

    #[test]
    fn the_local_address_becomes_the_upstreams_own() {
        let door = Door::new(&"https://wiki.corp".parse().unwrap()).unwrap();
        let local = Location::parse(&"wiki.localhost:7070".parse().unwrap(), &"wiki".parse().unwrap()).unwrap();
        for (value, expected) in [
            ("http://wiki.localhost:7070", Some("https://wiki.corp")),
            ("http://wiki.localhost:7070/a?b", Some("https://wiki.corp/a?b")),
            ("http://wiki.localhost:70701", None),
            ("http://wiki.localhost:7070.evil.example", None),
            ("https://wiki.localhost:7070", None),
            ("null", None),
        ] {
            let globalised = globalise(&value.parse().unwrap(), &door, &local);
            assert_eq!(globalised.as_ref().map(|value| value.to_str().unwrap()), expected, "{value}");
        }
    }

    #[test]
    fn only_an_apps_own_address_counts_as_local() {
        let app = "wiki".parse().unwrap();
        for good in ["wiki.localhost:1", "WIKI.localhost:65535"] {
            assert!(Location::parse(&good.parse().unwrap(), &app).is_some(), "{good}");
        }
        for bad in [
            "evil.example:80",
            "other.localhost:1",
            "wiki.localhost",
            "x@wiki.localhost:1",
            "wiki.localhost.evil:1",
            "",
        ] {
            assert!(Location::parse(&bad.parse().unwrap(), &app).is_none(), "{bad}");
        }
    }
}
