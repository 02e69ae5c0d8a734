//! What a request may say of itself: A19, A44, A45, A46, A47.

use crate::Site;
use postern_tests::client::{split_head, status_of};
use postern_tests::forge::{claims_of, header_of};
use postern_tests::{App, Device, Relay, Settings, StandIn, Upstream, World};
use serde_json::json;

/// A19: a redirect of the app to a foreign host is the browser's to follow: no credential of ours goes along.
#[tokio::test]
async fn a19_a_foreign_redirect_takes_no_credential_along() {
    let world = World::new();
    let provider = StandIn::start().await;
    let foreign = Upstream::plain().await;
    let location = format!("http://{}/collect", foreign.address);
    let wiki = Upstream::http(move |_| {
        let head = format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n");
        // A hostile app also tries to hand back what it was given, and to speak as the relay.
        let ours = "x-postern-identity: forged\r\npostern-code: forged\r\npostern-decision: forged\r\n";
        format!("{head}{ours}proxy-authenticate: Basic\r\n\r\n").into_bytes()
    })
    .await;
    let relay = Relay::start(&world, Settings::new(&provider.issuer).app(App::http("wiki", wiki.address))).await;
    let (device, quic) = Device::signed_in(&relay, &provider, "ada").await;
    for (method, body) in [("GET", ""), ("POST", "x")] {
        let reply = quic.send(device.request(method, "wiki", "/go").body(body).unwrap()).await.unwrap();
        assert_eq!(reply.status, 302);
        assert!(reply.header("location").ends_with("/collect"), "the browser gets to see it");
        for name in ["x-postern-identity", "postern-code", "proxy-authenticate", "proxy-authorization"] {
            assert_eq!(reply.header(name), "", "{name} came back");
        }
        assert_eq!(reply.headers.get_all("postern-decision").iter().count(), 1);
        assert_ne!(reply.header("postern-decision"), "forged", "only the relay names a decision");
    }
    assert_eq!(foreign.log().connections.len(), 0, "the relay followed the redirect");
    assert_eq!(wiki.last().count("proxy-authorization"), 0, "the app got the session token");
    assert!(!String::from_utf8_lossy(&wiki.log().connections.concat()).contains(&device.token));
}

/// A44: only the relay speaks in `x-postern-*`: in whatever form a client sends such a header, the app gets ours alone.
#[tokio::test]
async fn a44_identity_headers_of_clients_never_arrive() {
    let site = Site::new().await;
    let (device, quic) = site.signed_in("ada").await;
    let forms = [
        "x-postern-identity: forged\r\n",
        "X-Postern-Identity: forged\r\n",
        "X-POSTERN-IDENTITY: forged\r\nX-Postern-Identity: again\r\n",
        "x_postern_identity: forged\r\n",
        "x-postern_identity: forged\r\n",
        "X_POSTERN_IDENTITY: forged\r\n",
        "x-postern-user: root\r\n",
        "postern-decision: forged\r\n",
        "postern_decision: forged\r\n",
        "postern-code: forged\r\n",
        "postern-local-authority: evil.example\r\n",
        // Named in Connection, our own header would be taken off as hop-by-hop after the relay has set it.
        "connection: x-postern-identity, close\r\n",
        "connection: keep-alive, X-Postern-Identity, Host\r\nx-postern-identity: forged\r\n",
        "connection: host, content-length, proxy-authorization\r\n",
    ];
    for lines in forms {
        let answer = quic.raw(&device.head("GET /headers HTTP/1.1", "wiki", lines)).await;
        let Some(200) = status_of(&answer) else {
            assert_eq!(status_of(&answer), Some(400), "{lines}");
            continue;
        };
        let seen = site.wiki.last();
        assert_eq!(seen.count("x-postern-identity"), 1, "{lines}: {:?}", seen.headers);
        let assertion = seen.header("x-postern-identity").unwrap();
        assert_eq!(claims_of(assertion)["sub"], "ada", "{lines}");
        assert_eq!(header_of(assertion)["typ"], "postern-identity+jwt");
        let ours =
            |name: &str| name.replace('_', "-").starts_with("postern-") || name.replace('_', "-") == "x-postern-user";
        assert!(!seen.headers.iter().any(|(name, _)| ours(name)), "{lines}: {:?}", seen.headers);
        let raw = String::from_utf8_lossy(&site.wiki.log().connections.concat()).into_owned();
        assert!(!raw.contains("forged") && !raw.contains("evil.example"), "{lines}");
    }
    let trailers = "transfer-encoding: chunked\r\ntrailer: x-postern-identity, postern-code, x-sum\r\n";
    let mut request = device.head("POST /trailers HTTP/1.1", "wiki", trailers);
    request.extend_from_slice(b"1\r\nx\r\n0\r\nx-postern-identity: forged\r\nX_Postern_Identity: forged\r\n");
    request.extend_from_slice(b"postern-code: forged\r\nproxy-authorization: forged\r\nx-sum: 1\r\n\r\n");
    let answer = quic.raw(&request).await;
    assert_eq!(status_of(&answer), Some(200));
    let seen = site.wiki.last();
    assert_eq!((seen.target.as_str(), seen.count("x-postern-identity")), ("/trailers", 1), "{:?}", seen.trailers);
    assert!(!seen.trailers.iter().any(|(_, value)| value == "forged"), "{:?}", seen.trailers);
}

/// A45: who the client says it came from changes no decision, and the app gets the relay's word, not the client's.
#[tokio::test]
async fn a45_forwarding_headers_change_no_decision() {
    let policy = r#"@id("not-from-here") @reason("Not from there.") @fix("Move.")
        forbid(principal, action, resource) when { context.source_ip.isInRange(ip("203.0.113.0/24")) };
        @id("staff") permit(principal in Group::"staff", action, resource);"#;
    let site =
        Site::with(|settings| settings.policy(policy).app(App::http("vault", "127.0.0.1:9".parse().unwrap()).denied()))
            .await;
    let (device, quic) = site.signed_in("ada").await;
    let mut outsider = Device::new();
    outsider.enroll_as(&site.relay, &site.provider, "eve", json!({"groups": []})).await;
    let outsider_quic = outsider.connect(&site.relay).await;
    outsider.exchange_as(&outsider_quic, &site.provider, "eve", json!({"groups": []})).await;
    for value in [
        "203.0.113.7",
        "127.0.0.1",
        "10.0.0.1, 203.0.113.7",
        "unknown",
        "[::1]:80",
        "\"a, b\"",
        "for=203.0.113.7;host=evil",
        "",
    ] {
        for name in
            ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "true-client-ip"]
        {
            let request = device.request("GET", "wiki", "/").header(name, value);
            let reply = quic.send(request.body("").unwrap()).await.unwrap();
            assert_eq!(reply.status, 200, "{name}: {value} turned a permit into a denial");
            let seen = site.wiki.last();
            if name.contains("forwarded") {
                assert!(
                    !seen.headers.iter().any(|(n, v)| n == name && v == value && v != "127.0.0.1"),
                    "{:?}",
                    seen.headers
                );
            }
            let request = outsider.request("GET", "wiki", "/").header(name, value);
            let reply = outsider_quic.send(request.body("").unwrap()).await.unwrap();
            assert_eq!(reply.refusal(), (403, "policy_denied"), "{name}: {value} turned a denial into a permit");
        }
    }
}

/// A45, A46: nor does a header that some servers read in the place of path, method or client address get through.
#[tokio::test]
async fn a46_headers_that_would_replace_path_or_method_never_arrive() {
    let site = Site::new().await;
    let (device, quic) = site.signed_in("ada").await;
    for name in [
        "x-original-url",
        "x-rewrite-url",
        "x-original-uri",
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "x-forwarded-prefix",
        "x-forwarded-user",
        "x-forwarded",
        "true-client-ip",
        "x-client-ip",
        "x-cluster-client-ip",
    ] {
        for spelling in [name.to_owned(), name.replace('-', "_"), name.to_uppercase()] {
            let answer = quic.raw(&device.head("GET / HTTP/1.1", "wiki", &format!("{spelling}: /forged\r\n"))).await;
            assert!(matches!(status_of(&answer), Some(200 | 400)), "{spelling}");
            let raw = String::from_utf8_lossy(&site.wiki.log().connections.concat()).into_owned();
            assert!(!raw.contains("forged"), "{spelling} arrived");
        }
    }
    // A method is judged in the letters that the app reads.
    for method in ["get", "delete", "Post", "trace", "TRACE", "GE T"] {
        let answer = quic.raw(&device.head(&format!("{method} /method HTTP/1.1"), "wiki", "")).await;
        assert!(matches!(status_of(&answer), Some(400 | 405) | None), "{method}: {:?}", status_of(&answer));
    }
    assert!(site.wiki.requests().iter().all(|seen| seen.target != "/method"));
}

/// A46: the path that is judged is the path that is sent on, byte for byte; what could be read in two ways is refused.
#[tokio::test]
async fn a46_the_path_judged_is_the_path_sent_on() {
    let policy = r#"@id("staff") permit(principal in Group::"staff", action, resource);
        @id("no-admin") @reason("Admin pages are closed.") @fix("Ask.")
        forbid(principal, action, resource) when { context has path && context.path like "/admin*" };"#;
    let site = Site::with(|settings| settings.policy(policy)).await;
    let (device, quic) = site.signed_in("ada").await;
    assert_eq!(device.get(&quic, "wiki", "/admin/users").await.refusal(), (403, "policy_denied"));
    for path in [
        "/x/../admin",
        "/./admin",
        "/x/%2e%2e/admin",
        "/x/%2E%2E/admin",
        "/x/.%2e/admin",
        "//admin",
        "/x//../admin",
        "/%5cadmin",
        "/\\admin",
        "/x/..\\admin",
        "/x%2f..%2fadmin",
        "/admin%00",
        "/x/..;/admin",
        "/%2e/admin",
        "/%2fadmin",
        "/a%0d%0ab",
        "/%",
        "/%zz",
        "/%c0%ae%c0%ae/admin",
        "/x/..",
        "/x/.",
        "/..",
    ] {
        let answer = quic.raw(&device.head(&format!("GET {path} HTTP/1.1"), "wiki", "")).await;
        let seen = site.wiki.requests();
        match status_of(&answer) {
            Some(400 | 403) | None => assert!(seen.iter().all(|seen| seen.target != path), "{path} went on"),
            status => panic!("{path}: {status:?}"),
        }
    }
    // A fragment has no place in a request: cut off or refused, but never sent on.
    let answer = quic.raw(&device.head("GET /a#/../admin HTTP/1.1", "wiki", "")).await;
    assert!(matches!(status_of(&answer), Some(200 | 400) | None));
    assert!(site.wiki.requests().iter().all(|seen| !seen.target.contains('#')));
    for path in
        ["/a%20b?x=/../y&z=//w#", "/%C3%A4/~u/a;v=1", "/a?b=%2e%2e", "/A-._~!$&'()*+,;=:@z", "/x/...", "/.well-known/x"]
    {
        let path = path.trim_end_matches('#');
        let answer = quic.raw(&device.head(&format!("GET {path} HTTP/1.1"), "wiki", "")).await;
        assert_eq!(status_of(&answer), Some(200), "{path}");
        assert_eq!(site.wiki.last().target, path, "sent on as it was judged");
    }
}

/// A47: a request names one app. Two names are an error (400); a name that is not served here is misdirected (421).
#[tokio::test]
async fn a47_authority_and_host_must_agree_and_be_ours() {
    let other = Upstream::plain().await;
    let address = other.address;
    let site =
        Site::with(|settings| settings.app(App::http("other", address)).app(App::http("vault", address).denied()))
            .await;
    let (device, quic) = site.signed_in("ada").await;
    let send = async |bytes: Vec<u8>| {
        let answer = quic.raw(&bytes).await;
        let (_, body) = split_head(&answer).unwrap_or_default();
        let code = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default()["code"].clone();
        (status_of(&answer), code.as_str().unwrap_or_default().to_owned())
    };
    let mismatch = (Some(400), "authority_mismatch".to_owned());
    assert_eq!(send(device.head("GET http://wiki/ HTTP/1.1", "vault", "")).await, mismatch);
    assert_eq!(send(device.head("GET http://vault/ HTTP/1.1", "wiki", "")).await, mismatch);
    assert_eq!(send(device.head("GET https://postern.relay/apps HTTP/1.1", "wiki", "")).await, mismatch);
    assert_eq!(send(device.head("CONNECT wiki:80 HTTP/1.1", "other:80", "")).await, mismatch);
    for (line, host, lines) in [
        ("GET / HTTP/1.1", "wiki", "host: other\r\n"),
        ("GET / HTTP/1.1", "wiki", "Host: wiki\r\n"),
        ("GET http://wiki:81/ HTTP/1.1", "wiki:82", ""),
        ("GET http://other@wiki/ HTTP/1.1", "wiki", ""),
        ("GET / HTTP/1.1", "wiki, other", ""),
        ("GET / HTTP/1.1", "other@wiki", ""),
        ("GET / HTTP/1.1", "wiki/..", ""),
        ("GET / HTTP/1.1", "wi ki", ""),
        ("GET / HTTP/1.1", "", ""),
    ] {
        let (status, _) = send(device.head(line, host, lines)).await;
        assert!(matches!(status, Some(400 | 421) | None), "{line} {host:?} {lines:?}: {status:?}");
    }
    for host in [
        "evil.example",
        "wiki.evil.example",
        "postern.relay.evil.example",
        "127.0.0.1",
        "[::1]",
        "xn--wiki",
        "wiki:8080",
    ] {
        let (status, code) = send(device.head("GET / HTTP/1.1", host, "")).await;
        assert!(
            (status, code.as_str()) == (Some(421), "misdirected")
                || (status, code.as_str()) == (Some(404), "app_unknown"),
            "{host}: {status:?} {code}"
        );
    }
    let no_host =
        quic.raw(format!("GET / HTTP/1.1\r\nproxy-authorization: Bearer {}\r\n\r\n", device.token).as_bytes()).await;
    assert!(matches!(status_of(&no_host), Some(400) | None));
    assert_eq!(site.wiki.requests().len() + other.requests().len(), 0, "one of them arrived");
    assert_eq!(send(device.head("GET http://wiki/ HTTP/1.1", "wiki", "")).await.0, Some(200));
}
