//! Targets, paths and headers: one reading each, and only Postern speaks for Postern.

use super::*;
use http::HeaderValue;
use http::header::HeaderName;
use proptest::prelude::*;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())).fold(
        HeaderMap::new(),
        |mut map, (name, value)| {
            map.append(name, value);
            map
        },
    )
}

fn names(map: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<&str> = map.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

fn read(method: &str, uri: &str, hosts: &[&str]) -> Result<Target, Code> {
    let hosts: Vec<(&str, &str)> = hosts.iter().map(|host| ("host", *host)).collect();
    target(&method.parse().unwrap(), &uri.parse().unwrap(), &headers(&hosts))
}

fn app(name: &str) -> AppName {
    name.parse().unwrap()
}

#[test]
fn the_host_names_the_app() {
    let wiki = Ok(Target::Http(app("wiki")));
    assert_eq!(read("GET", "/x?q=1", &["wiki"]), wiki);
    assert_eq!(read("GET", "/", &["WIKI"]), wiki);
    assert_eq!(read("POST", "http://wiki/x", &["wiki"]), wiki);
    assert_eq!(read("GET", "https://wiki/x", &[]), wiki, "as HTTP/2 has it");
    assert_eq!(read("POST", "/session", &["postern.relay"]), Ok(Target::Control));
    assert_eq!(read("CONNECT", "db:5432", &["db:5432"]), Ok(Target::Connect(app("db"), 5432)));
    assert_eq!(read("CONNECT", "db:5432", &[]), Ok(Target::Connect(app("db"), 5432)));
}

#[test]
fn a47_authority_and_host_must_agree_and_be_ours() {
    for (method, uri, hosts, code) in [
        ("GET", "http://wiki/x", &["vault"][..], Code::AuthorityMismatch),
        ("GET", "http://wiki:80/x", &["wiki"], Code::AuthorityMismatch),
        ("CONNECT", "db:5432", &["vault:5432"], Code::AuthorityMismatch),
        ("CONNECT", "db:5432", &["db"], Code::AuthorityMismatch),
        ("GET", "http://postern.relay/enroll", &["wiki"], Code::AuthorityMismatch),
        ("GET", "/", &["wiki", "wiki"], Code::RequestInvalid),
        ("GET", "/", &["wiki", "vault"], Code::RequestInvalid),
        ("GET", "/", &[], Code::RequestInvalid),
        ("GET", "ftp://wiki/", &[], Code::RequestInvalid),
        ("CONNECT", "db", &[], Code::RequestInvalid),
        ("CONNECT", "db:0", &[], Code::RequestInvalid),
        ("CONNECT", "/db:5432", &["db:5432"], Code::RequestInvalid),
        ("CONNECT", "http://db:5432/x", &[], Code::RequestInvalid),
        ("GET", "/", &["evil.example"], Code::Misdirected),
        ("GET", "/", &["wiki.localhost"], Code::Misdirected),
        ("GET", "/", &["wiki:8080"], Code::Misdirected),
        ("GET", "/", &["user@wiki"], Code::Misdirected),
        ("GET", "/", &[""], Code::Misdirected),
        ("GET", "/", &["wiki."], Code::Misdirected),
        ("CONNECT", "evil.example:443", &[], Code::Misdirected),
        ("CONNECT", "127.0.0.1:22", &[], Code::Misdirected),
        ("CONNECT", "[::1]:22", &[], Code::Misdirected),
        ("CONNECT", "postern.relay:443", &[], Code::Misdirected),
        ("TRACE", "/", &["wiki"], Code::MethodNotAllowed),
        ("trace", "/", &["wiki"], Code::MethodNotAllowed),
        ("delete", "/", &["wiki"], Code::MethodNotAllowed),
    ] {
        assert_eq!(read(method, uri, hosts), Err(code), "{method} {uri} {hosts:?}");
    }
}

#[test]
fn a46_a_path_has_one_reading_or_none() {
    for bad in [
        "",
        "x",
        "*",
        "//",
        "//a",
        "/a//b",
        "/a//",
        "/.",
        "/..",
        "/a/./b",
        "/a/../b",
        "/a/..",
        "/%2e",
        "/%2E%2e/a",
        "/.%2e/a",
        "/a%2f..%2fb",
        "/a%2f%2fb",
        "/a\\b",
        "/a%5cb",
        "/a%5C..%5cb",
        "/a#b",
        "/a?b",
        "/a b",
        "/a%00",
        "/a%0d%0ab",
        "/a%7f",
        "/a%",
        "/a%2",
        "/a%zz",
        "/%252e%252e/a",
        "/a%25%32%65",
        "/a%ff",
        "/a%c0%ae",
        "/a\u{e9}",
        "/a%c2%85b",
        "/..;/a",
        "/a/..;x=1/b",
        "/;/a",
        "/%3b/a",
        "/a\"b",
        "/<a>",
    ] {
        assert_eq!(check_path(bad), Err(Code::PathAmbiguous), "{bad}");
    }
    for good in [
        "/",
        "/a",
        "/a/",
        "/a/b.html",
        "/a..b",
        "/...",
        "/.git",
        "/a%20b",
        "/a%2Fb",
        "/a;v=1/b",
        "/;s=1",
        "/a/;x",
        "/caf%C3%A9",
        "/100%25",
        "/~a/@b:c,d!$&'()*+=-_",
    ] {
        assert_eq!(check_path(good), Ok(()), "{good}");
    }
    assert!(check_path(&format!("/{}", "a".repeat(crate::limits::MAX_PATH_BYTES))).is_err());
    assert_eq!(readings("/a%2Fb;v=1/c").unwrap(), ["/a/b;v=1/c", "/a/b/c"]);
}

#[test]
fn a44_nobody_else_speaks_in_posterns_name() {
    let forged = [
        ("x-postern-identity", "1"),
        ("X-Postern-Identity", "2"),
        ("x_postern_identity", "3"),
        ("X-Postern_Identity", "4"),
        ("x.postern.identity", "5"),
        ("x-postern-", "6"),
        ("postern-code", "7"),
        ("postern_decision", "8"),
        ("Postern-Local-Authority", "9"),
        ("x-postern-anything", "10"),
        ("x~postern~identity", "11"),
    ];
    for map in [headers(&forged), headers(&[&forged[..], &[("connection", "x-postern-identity, close")]].concat())] {
        let mut request = map.clone();
        clean_request(&mut request);
        assert!(request.is_empty(), "{request:?}");
        let mut trailers = map.clone();
        clean_trailers(&mut trailers);
        assert!(trailers.is_empty(), "{trailers:?}");
        let mut response = map;
        clean_response(&mut response);
        assert!(response.is_empty(), "{response:?}");
    }
}

#[test]
fn a44_connection_removes_what_it_names_but_neither_target_nor_framing() {
    let mut map = headers(&[
        ("host", "wiki"),
        ("content-length", "3"),
        ("connection", "Host, Content-Length, x-hop"),
        ("connection", "keep-alive,,"),
        ("x-hop", "1"),
        ("keep-alive", "5"),
        ("proxy-connection", "x"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("transfer-encoding", "chunked"),
        ("proxy-authorization", "Bearer secret"),
        ("accept", "*/*"),
        ("cookie", "a=b"),
        ("authorization", "Bearer the-apps-own"),
    ]);
    clean_request(&mut map);
    assert_eq!(names(&map), ["accept", "authorization", "content-length", "cookie", "host"]);
}

#[test]
fn a45_claims_of_other_proxies_do_not_pass() {
    let mut map = headers(&[
        ("forwarded", "for=127.0.0.1;host=vault"),
        ("x-forwarded-for", "127.0.0.1"),
        ("X-Forwarded-Host", "vault"),
        ("x_forwarded_proto", "https"),
        ("x-forwarded-user", "root"),
        ("x-real-ip", "127.0.0.1"),
        ("x_real_ip", "::1"),
        ("x-original-url", "/admin"),
        ("x-rewrite-url", "/admin"),
        ("X_Rewrite_URL", "/admin"),
        ("x-http-method-override", "DELETE"),
        ("x-method-override", "DELETE"),
        ("x-client-ip", "127.0.0.1"),
        ("x-original-host", "vault"),
        ("x-rewrite-url", "/admin"),
        ("x-http-method-override", "DELETE"),
        ("x_method_override", "DELETE"),
        ("user-agent", "curl"),
    ]);
    clean_request(&mut map);
    assert_eq!(names(&map), ["user-agent"]);
}

#[test]
fn an_answer_keeps_its_own_and_loses_the_relays() {
    let mut map = headers(&[
        ("content-type", "text/html"),
        ("set-cookie", "a=b"),
        ("set-cookie", "c=d"),
        ("connection", "close"),
        ("proxy-authenticate", "Bearer"),
        ("proxy-status", "postern; error=x"),
        ("postern-code", "internal"),
        ("x-forwarded-host", "kept: it is the app's own affair"),
    ]);
    clean_response(&mut map);
    assert_eq!(names(&map), ["content-type", "set-cookie", "x-forwarded-host"]);
    assert_eq!(map.get_all("set-cookie").iter().count(), 2);
}

#[test]
fn trailers_carry_no_credentials_or_framing() {
    let mut map = headers(&[
        ("content-length", "9"),
        ("host", "vault"),
        ("authorization", "x"),
        ("cookie", "x"),
        ("trailer", "x"),
        ("x-checksum", "1"),
    ]);
    clean_trailers(&mut map);
    assert_eq!(names(&map), ["x-checksum"]);
}

proptest! {
    /// A30, A46: total; and what is accepted has no reading left in it that resolving or decoding would change.
    #[test]
    fn a30_fuzzed_paths_never_panic_and_have_one_reading(path in "(/([a.%;]|%2[eEfF5]|%5c|%[89a-f][0-9a-f]|[ -~]){0,3}){0,5}") {
        for reading in readings(&path).unwrap_or_default() {
            prop_assert!(reading.starts_with('/'));
            prop_assert!(!reading.contains(['\\', '\0']) && !reading.contains("//"));
            prop_assert!(!reading.split('/').any(|segment| segment == "." || segment == ".."));
        }
    }

    /// A30, A44: whatever the names, no reserved one stays and nothing panics.
    #[test]
    fn a30_fuzzed_headers_never_panic(
        list in prop::collection::vec(("[xX][-_.][pP]ostern[-_.~][a-z]{0,3}|[a-z]{1,8}|x-[a-z-]{1,9}", "[ -~]{0,9}"), 0..9),
        connection in "[ -~]{0,30}",
        raw: Vec<u8>,
    ) {
        let mut map = HeaderMap::new();
        for (name, value) in &list {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                map.append(name, value);
            }
        }
        if let Ok(value) = HeaderValue::from_str(&connection) {
            map.append("connection", value);
        }
        if let Ok(value) = HeaderValue::from_bytes(&raw) {
            map.append("connection", value.clone());
            map.append("host", value);
        }
        let _ = target(&Method::GET, &Uri::from_static("/"), &map);
        clean_request(&mut map);
        let speaks = |name: &HeaderName| name.as_str().replace(['_', '.', '~'], "-").starts_with("x-postern-");
        prop_assert!(!map.keys().any(speaks));
    }

    /// A30, A47: any authority and host end in a target or a refusal.
    #[test]
    fn a30_fuzzed_targets_never_panic(method in "[A-Z]{1,8}", uri in "[ -~]{1,20}", host in "[ -~]{0,20}") {
        if let (Ok(method), Ok(uri), Ok(host)) = (method.parse(), uri.parse(), HeaderValue::from_str(&host)) {
            let _ = target(&method, &uri, &HeaderMap::from_iter([(HOST, host)]));
        }
    }
}
