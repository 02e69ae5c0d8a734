//! The guard against pages of other sites, rebound names and wrong Hosts.

use super::*;
use proptest::prelude::*;

const PORT: u16 = 8700;

/// What `curl http://wiki.localhost:8700/` asks.
fn curl() -> Asked<'static> {
    Asked {
        method: "GET",
        host: Field::One("wiki.localhost:8700"),
        target: None,
        origin: Field::Absent,
        referer: Field::Absent,
        site: Field::Absent,
        mode: Field::Absent,
        dest: Field::Absent,
    }
}

/// A link to the wiki that the user follows from another site.
fn link_from_elsewhere() -> Asked<'static> {
    Asked { site: Field::One("cross-site"), mode: Field::One("navigate"), dest: Field::One("document"), ..curl() }
}

fn wiki() -> Place {
    Place::App("wiki".parse().unwrap())
}

fn refusal(asked: &Asked<'_>) -> Option<Code> {
    match judge(asked, PORT) {
        Verdict::Refuse(code, _) => Some(code),
        Verdict::Open(_) | Verdict::Ask(_) => None,
    }
}

#[test]
fn the_user_and_the_apps_own_pages_pass() {
    let own = Field::One("http://wiki.localhost:8700");
    let same = Field::One("same-origin");
    for asked in [
        curl(),
        Asked { method: "POST", ..curl() },
        Asked { site: Field::One("none"), ..link_from_elsewhere() },
        Asked { method: "POST", origin: own, site: same, ..curl() },
        Asked { method: "POST", origin: own, ..curl() },
        Asked { method: "POST", origin: Field::One("null"), site: same, ..curl() },
        Asked { target: Some("wiki.localhost:8700"), ..curl() },
    ] {
        assert_eq!(judge(&asked, PORT), Verdict::Open(wiki()), "{asked:?}");
    }
    let index = Asked { host: Field::One("localhost:8700"), ..curl() };
    assert_eq!(judge(&index, PORT), Verdict::Open(Place::Index));
    assert_eq!(judge(&Asked { host: Field::One("wiki.localhost"), ..curl() }, 80), Verdict::Open(wiki()));
}

/// A18: DNS rebinding and wrong Host.
#[test]
fn a18_every_other_host_is_refused() {
    for host in [
        "evil.example:8700",
        "127.0.0.1:8700",
        "[::1]:8700",
        "wiki.localhost",
        "wiki.localhost:80",
        "wiki.localhost:08700",
        "wiki.localhost:8700:8700",
        "wiki.localhost.:8700",
        "wiki.localhost.evil.example:8700",
        "a.wiki.localhost:8700",
        "WIKI.localhost:8700",
        ".localhost:8700",
        "wiki.localhost:8700 ",
        "user@wiki.localhost:8700",
        "",
    ] {
        assert_eq!(refusal(&Asked { host: Field::One(host), ..curl() }), Some(Code::HostRefused), "{host:?}");
    }
    assert_eq!(refusal(&Asked { host: Field::Absent, ..curl() }), Some(Code::RequestInvalid));
    assert_eq!(refusal(&Asked { host: Field::Invalid, ..curl() }), Some(Code::RequestInvalid));
    let two_names = Asked { target: Some("crm.localhost:8700"), ..curl() };
    assert_eq!(refusal(&two_names), Some(Code::AuthorityMismatch));
}

/// A18: cross-site requests of every kind.
#[test]
fn a18_pages_of_other_sites_are_refused() {
    let elsewhere = Field::One("https://evil.example");
    for asked in [
        Asked { origin: elsewhere, ..curl() },
        Asked { method: "OPTIONS", origin: elsewhere, ..curl() },
        Asked { method: "POST", origin: Field::One("null"), ..curl() },
        Asked { method: "POST", origin: Field::One("null"), site: Field::One("none"), ..curl() },
        Asked { origin: Field::One("http://crm.localhost:8700"), ..curl() },
        Asked { origin: Field::One("http://wiki.localhost:9999"), ..curl() },
        Asked { origin: Field::One("https://wiki.localhost:8700"), ..curl() },
        Asked { site: Field::One("same-site"), ..curl() },
        Asked { site: Field::One("cross-site"), ..curl() },
        Asked { site: Field::One("made-up"), ..curl() },
        Asked { method: "POST", ..link_from_elsewhere() },
        Asked { dest: Field::One("iframe"), ..link_from_elsewhere() },
        Asked { mode: Field::One("no-cors"), dest: Field::One("image"), ..link_from_elsewhere() },
        Asked { mode: Field::Absent, ..link_from_elsewhere() },
        Asked { origin: elsewhere, ..link_from_elsewhere() },
    ] {
        assert_eq!(refusal(&asked), Some(Code::CrossSite), "{asked:?}");
    }
    assert_eq!(refusal(&Asked { origin: Field::Invalid, ..curl() }), Some(Code::RequestInvalid));
    assert_eq!(refusal(&Asked { site: Field::Invalid, ..curl() }), Some(Code::RequestInvalid));
}

#[test]
fn a_link_from_elsewhere_asks_the_user_first_but_one_on_our_list_does_not() {
    assert_eq!(judge(&link_from_elsewhere(), PORT), Verdict::Ask(wiki()));
    for (referer, verdict) in [
        ("http://localhost:8700/", Verdict::Open(wiki())),
        ("http://localhost:8700", Verdict::Open(wiki())),
        ("http://crm.localhost:8700/", Verdict::Ask(wiki())),
        ("http://localhost:8701/", Verdict::Ask(wiki())),
        ("http://localhost:8700.evil.example/", Verdict::Ask(wiki())),
    ] {
        let asked = Asked { referer: Field::One(referer), ..link_from_elsewhere() };
        assert_eq!(judge(&asked, PORT), verdict, "{referer}");
    }
}

#[test]
fn methods_that_proxies_abuse_are_refused() {
    for method in ["CONNECT", "TRACE"] {
        assert_eq!(refusal(&Asked { method, ..curl() }), Some(Code::MethodNotAllowed));
    }
}

proptest! {
    /// A18: whatever else a page says, its foreign origin gives it away.
    #[test]
    fn a18_no_foreign_origin_passes(
        origin in "(null|https?://[a-z.]{1,12}(localhost)?(:[0-9]{1,5})?)",
        method in "(GET|POST|PUT|OPTIONS)",
        mode in "(cors|no-cors|navigate|websocket)",
        site in "(cross-site|same-site|none)",
        referer in "http://localhost:8700/.{0,5}",
    ) {
        prop_assume!(origin != "http://wiki.localhost:8700");
        let asked = Asked {
            method: &method, origin: Field::One(&origin), mode: Field::One(&mode), site: Field::One(&site),
            referer: Field::One(&referer), ..curl()
        };
        prop_assert_eq!(refusal(&asked), Some(Code::CrossSite));
        prop_assert_eq!(refusal(&Asked { site: Field::Absent, ..asked }), Some(Code::CrossSite));
    }

    /// A18, A30: an arbitrary `Host` is an app's own name on our port, or refused.
    #[test]
    fn a18_an_arbitrary_host_opens_nothing_but_its_app(host in "([a-z0-9.-]{0,9}(localhost)?(:8700)?|.*)") {
        match judge(&Asked { host: Field::One(&host), ..curl() }, PORT) {
            Verdict::Open(Place::App(app)) => prop_assert_eq!(format!("{app}.localhost:8700"), host),
            Verdict::Open(Place::Index) => prop_assert_eq!("localhost:8700", host),
            Verdict::Ask(place) => prop_assert!(false, "asked for {:?}", place),
            Verdict::Refuse(code, _) => prop_assert_eq!(code, Code::HostRefused),
        }
    }

    /// A30: nothing panics, and only GET and HEAD navigations ever ask the user.
    #[test]
    fn a30_any_headers_give_a_verdict(method in ".*", origin in ".*", referer in ".*", site in ".*", mode in ".*", dest in ".*") {
        let asked = Asked {
            method: &method, origin: Field::One(&origin), referer: Field::One(&referer), site: Field::One(&site),
            mode: Field::One(&mode), dest: Field::One(&dest), ..curl()
        };
        let verdict = judge(&asked, PORT);
        prop_assert!(!matches!(verdict, Verdict::Ask(_)) || matches!(method.as_str(), "GET" | "HEAD"));
    }
}
