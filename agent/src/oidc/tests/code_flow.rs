//! The code flow: what is asked, what is answered, who is believed.

use super::*;

#[tokio::test]
async fn signs_in_with_pkce_state_and_the_key_bound_nonce() {
    let mock = MockProvider::start().await;
    let waiting = begin(discover(&mock).await).await;
    let query: std::collections::HashMap<_, _> = waiting.url.query_pairs().into_owned().collect();
    assert_eq!(query["code_challenge_method"], "S256");
    assert_eq!(query["nonce"], NONCE);
    assert_eq!(query["scope"], "openid email offline_access");
    assert!(query["redirect_uri"].starts_with("http://127.0.0.1:") && query["redirect_uri"].ends_with("/callback"));
    assert!(!query.contains_key("prompt"), "a provider that does not know the prompt is not asked for it");
    let signed_in = finish(&mock, waiting).await.unwrap();
    let principal = signed_in.principal.unwrap();
    assert_eq!((principal.subject.as_str(), principal.email.as_deref()), ("user-1", Some("ada@example.com")));
    assert_eq!(signed_in.proof.kind, ProofKind::IdToken);
    assert!((290..=300).contains(&signed_in.proof.fresh_for.as_secs()));
    assert!(signed_in.refresh_token.is_some());
}

/// A01: whoever takes the code from the redirect has no verifier, and so gets no tokens.
#[tokio::test]
async fn a01_a_stolen_code_is_worth_nothing_without_its_verifier() {
    let mock = MockProvider::start().await;
    let provider = discover(&mock).await;
    let victim = begin(Arc::clone(&provider)).await;
    let (stolen, query) = mock.person_signs_in(&victim.url);
    assert!(!victim.url.as_str().contains("verifier"));
    // The thief brings the code to a sign-in of their own: the verifier there is another one.
    let thief = begin(provider).await;
    let (_, own) = mock.person_signs_in(&thief.url);
    assert_ne!(query["code_challenge"], own["code_challenge"]);
    let port = port_of(&own);
    send(port, &get(port, &format!("code={stolen}&state={}", own["state"]), "")).await;
    assert_eq!(thief.flow.await.unwrap().err().map(|p| p.code), Some(Code::SignInFailed));
    victim.flow.abort();
}

/// A02: no S256, no sign-in; the address is not even shown.
#[tokio::test]
async fn a02_a_provider_without_s256_is_refused() {
    for methods in [json!(null), json!([]), json!(["plain"])] {
        let mock = MockProvider::start().await;
        mock.state.lock().metadata = json!({ "code_challenge_methods_supported": methods });
        let provider = discover(&mock).await;
        let shown = AtomicUsize::new(0);
        let result = provider.sign_in(NONCE, Browser::System, |_| shown.store(1, Ordering::Relaxed)).await;
        assert_eq!(result.err().map(|p| p.code), Some(Code::ProviderNoS256));
        assert_eq!(shown.load(Ordering::Relaxed), 0);
    }
}

/// A03: an answer from someone else than the provider that was asked: no token request leaves.
#[tokio::test]
async fn a03_an_answer_with_the_wrong_iss_sends_no_token_request() {
    for (advertised, iss) in [(true, None), (true, Some("https://evil.example")), (false, Some("https://evil.example"))]
    {
        let mock = MockProvider::start().await;
        mock.state.lock().metadata = json!({ "authorization_response_iss_parameter_supported": advertised });
        let waiting = begin(discover(&mock).await).await;
        let (code, query) = mock.person_signs_in(&waiting.url);
        let iss = iss.map(|iss| format!("&iss={iss}")).unwrap_or_default();
        let port = port_of(&query);
        send(port, &get(port, &format!("code={code}&state={}{iss}", query["state"]), "")).await;
        assert_eq!(waiting.flow.await.unwrap().err().map(|p| p.code), Some(Code::CallbackRejected));
        assert_eq!(mock.token_requests().len(), 0);
    }
    // And the right one is taken.
    let mock = MockProvider::start().await;
    mock.state.lock().metadata = json!({ "authorization_response_iss_parameter_supported": true });
    let waiting = begin(discover(&mock).await).await;
    let (code, query) = mock.person_signs_in(&waiting.url);
    let (port, issuer) = (port_of(&query), mock.state.lock().issuer.clone());
    send(port, &get(port, &format!("code={code}&state={}&iss={issuer}", query["state"]), "")).await;
    assert!(waiting.flow.await.unwrap().is_ok());
}

/// A04: only the browser bringing this sign-in's answer is believed, only once, and only on 127.0.0.1.
#[tokio::test]
async fn a04_nothing_but_the_one_answer_is_taken_and_only_once() {
    let mock = MockProvider::start().await;
    let waiting = begin(discover(&mock).await).await;
    let (code, query) = mock.person_signs_in(&waiting.url);
    let (port, state) = (port_of(&query), &query["state"]);
    let good = format!("code={code}&state={state}");
    let with_host = |host: &str| format!("GET /callback?{good} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for (request, status, what) in [
        (with_host("evil.example"), 421, "a name rebound to loopback"),
        (with_host(&format!("localhost:{port}")), 421, "another name of loopback"),
        (with_host("127.0.0.1"), 421, "no port"),
        (get(port, &good, "Host: 127.0.0.1\r\n"), 421, "two hosts"),
        (get(port, &good, "Origin: https://evil.example\r\n"), 403, "a script of a page"),
        (get(port, &good, "Origin: null\r\n"), 403, "a sandboxed page"),
        (get(port, &good, "Sec-Fetch-Mode: no-cors\r\n"), 403, "an image of a page"),
        (get(port, &good, "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n"), 403, "a frame of a page"),
        (get(port, &good, "").replace("GET", "POST"), 405, "a form"),
        (get(port, &good, "").replace("/callback", "/other"), 404, "another path"),
        (get(port, &format!("code={code}"), ""), 400, "no state"),
        (get(port, &format!("code={code}&state=guess"), ""), 400, "a guessed state"),
        (get(port, &format!("error=access_denied&state={state}x"), ""), 400, "a forged refusal"),
        (get(port, &format!("code=x&{good}"), ""), 400, "two codes"),
        (get(port, &good, &format!("x: {}\r\n", "y".repeat(100_000))), 431, "a head without end"),
    ] {
        let got = send(port, &request).await;
        assert!(got == Some(status) || (status == 431 && got.is_none()), "{what}: {got:?}");
        assert!(!waiting.flow.is_finished(), "{what}");
    }
    assert_eq!(mock.token_requests().len(), 0);
    assert_eq!(
        send(port, &get(port, &good, "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n")).await,
        Some(200)
    );
    assert!(waiting.flow.await.unwrap().is_ok());
    assert_eq!(send(port, &get(port, &good, "")).await, None, "nobody listens any more");
    // Another sign-in listens elsewhere.
    let again = begin(discover(&mock).await).await;
    let (_, query) = mock.person_signs_in(&again.url);
    assert_ne!(port_of(&query), port);
    again.flow.abort();
}

#[tokio::test]
async fn a_person_who_declines_is_not_asked_again() {
    let mock = MockProvider::start().await;
    let waiting = begin(discover(&mock).await).await;
    let (_, query) = mock.person_signs_in(&waiting.url);
    let port = port_of(&query);
    send(port, &get(port, &format!("error=access_denied&state={}", query["state"]), "")).await;
    assert_eq!(waiting.flow.await.unwrap().err().map(|p| p.code), Some(Code::SignInCancelled));
}

#[tokio::test]
async fn a_fixed_redirect_port_is_used_or_told_as_taken() {
    let mock = MockProvider::start().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut sign_in = mock.sign_in();
    sign_in.redirect_port = Some(taken.local_addr().unwrap().port());
    let provider = Provider::discover(&sign_in).await.unwrap();
    let problem = provider.sign_in(NONCE, Browser::Shown, |_| ()).await.err().unwrap();
    assert_eq!(problem.code, Code::PortInUse);
}

/// A05, A17: an address that is none of the web, or none to the letter, is never opened, and nothing is sent to it.
#[tokio::test]
async fn a05_hostile_endpoints_are_never_opened() {
    let hostile = [
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://idp.example/a b",
        "https://idp.example/\"--x",
        "--version",
        "-a Calculator",
        "https://user:pass@idp.example/",
        "http://idp.example/",
        "https://169.254.169.254/",
        " https://idp.example/",
        "https://idp.example/\nx",
        "",
    ];
    for endpoint in
        ["authorization_endpoint", "token_endpoint", "jwks_uri", "device_authorization_endpoint", "revocation_endpoint"]
    {
        for address in hostile {
            let mock = MockProvider::start().await;
            mock.state.lock().metadata = json!({ endpoint: address });
            let problem =
                Provider::discover(&mock.sign_in()).await.err().unwrap_or_else(|| panic!("{endpoint} {address:?}"));
            assert_eq!(problem.code, Code::ProviderInvalid, "{endpoint} {address:?}");
        }
    }
}

/// A17: bodies are cut off, redirects not followed, nonsense told as such.
#[tokio::test]
async fn a17_a_hostile_provider_gets_nowhere() {
    let mock = MockProvider::start().await;
    for metadata in [
        json!({ "issuer": "https://evil.example" }),
        json!({ "x": "y".repeat(2_000_000) }),
        json!({ "token_endpoint": null }),
        json!({ "response_types_supported": 7 }),
    ] {
        mock.state.lock().metadata = metadata;
        let problem = Provider::discover(&mock.sign_in()).await.err().unwrap();
        assert_eq!(problem.code, Code::ProviderInvalid);
    }
    let elsewhere = crate::testing::serve_http(|_| (302, String::new())).await;
    let sign_in = SignIn { issuer: elsewhere.url.clone(), ..mock.sign_in() };
    assert_eq!(Provider::discover(&sign_in).await.err().unwrap().code, Code::ProviderInvalid);
    let sign_in = SignIn { issuer: Url::parse("http://127.0.0.1:1/").unwrap(), ..mock.sign_in() };
    assert_eq!(Provider::discover(&sign_in).await.err().unwrap().code, Code::ProviderUnreachable);
}
