//! Sign-ins against a mock provider that does wrong whatever a provider, or someone in its place, can do wrong.

use super::mock_provider::{Mock, MockProvider, error, now};
use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use url::Url;

const NONCE: &str = "nonce-of-the-device-key";

/// A sign-in that waits for its callback.
struct Waiting {
    url: Url,
    flow: JoinHandle<Result<SignedIn, Problem>>,
}

async fn begin(provider: Arc<Provider>) -> Waiting {
    let (shown, url) = oneshot::channel();
    let flow =
        tokio::spawn(
            async move { provider.sign_in(NONCE, Browser::Shown, |url| shown.send(url.clone()).unwrap()).await },
        );
    Waiting { url: url.await.unwrap(), flow }
}

async fn discover(mock: &MockProvider) -> Arc<Provider> {
    Arc::new(Provider::discover(&mock.sign_in()).await.unwrap())
}

/// Sends raw bytes to the redirect; the status, or none if nobody answers.
async fn send(port: u16, request: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

fn get(port: u16, query: &str, more: &str) -> String {
    format!("GET /callback?{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{more}\r\n")
}

fn port_of(query: &std::collections::HashMap<String, String>) -> u16 {
    Url::parse(&query["redirect_uri"]).unwrap().port().unwrap()
}

async fn finish(mock: &MockProvider, waiting: Waiting) -> Result<SignedIn, Problem> {
    let (code, query) = mock.person_signs_in(&waiting.url);
    let answer =
        send(port_of(&query), &get(port_of(&query), &format!("code={code}&state={}", query["state"]), "")).await;
    let result = waiting.flow.await.unwrap();
    assert_eq!(answer, Some(if result.is_ok() { 200 } else { 400 }), "the page tells how it went");
    result
}

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

/// Signs in at a provider that answers the token request with this ID token.
async fn sign_in_with(token: impl Fn(&Mock) -> String + Send + 'static) -> Result<SignedIn, Problem> {
    let mock = MockProvider::start().await;
    mock.state.lock().hook = Some(Box::new(move |mock, _| {
        Some((200, json!({ "access_token": "a", "token_type": "bearer", "id_token": token(mock) }).to_string()))
    }));
    let waiting = begin(discover(&mock).await).await;
    finish(&mock, waiting).await
}

fn claims_with(mock: &Mock, patch: &Value) -> Value {
    let mut claims = json!({
        "iss": mock.issuer, "sub": "user-1", "aud": "postern", "iat": now(), "exp": now() + 300, "nonce": NONCE,
    });
    for (key, value) in patch.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(key);
        } else {
            claims[key] = value.clone();
        }
    }
    claims
}

/// A06: unsigned, symmetrically signed, or signed with a key named by a path: refused.
#[tokio::test]
async fn a06_forged_signatures_are_refused() {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = sign_in_with(move |mock| {
        format!("{}.{}.", part(&json!({ "alg": "none" })), part(&claims_with(mock, &json!({}))))
    });
    assert_eq!(unsigned.await.err().unwrap().code, Code::SignInFailed);
    let symmetric = sign_in_with(move |mock| {
        let message =
            format!("{}.{}", part(&json!({ "alg": "HS256", "kid": mock.kid })), part(&claims_with(mock, &json!({}))));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, mock.jwk().to_string().as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, message.as_bytes())))
    });
    assert_eq!(symmetric.await.err().unwrap().code, Code::SignInFailed);
    for kid in ["../../dev/null", "/proc/self/environ", "http://evil.example/key"] {
        let other = sign_in_with(move |mock| {
            mock.sign(
                &json!({ "alg": "ES256", "kid": kid, "jku": "http://127.0.0.1:1/" }),
                &claims_with(mock, &json!({})),
            )
        });
        assert_eq!(other.await.err().unwrap().code, Code::SignInFailed);
    }
    let cut = sign_in_with(|mock| {
        let token = mock.sign(&json!({ "alg": "ES256", "kid": mock.kid }), &claims_with(mock, &json!({})));
        format!("{}AAAA", &token[..token.len() - 4])
    });
    assert_eq!(cut.await.err().unwrap().code, Code::SignInFailed);
}

/// A07, A08: times that are no numbers, other audiences, other issuers, other clients, other nonces: refused.
#[tokio::test]
async fn a07_a08_wrong_claims_are_refused() {
    let soon = now() + 300;
    for patch in [
        json!({ "exp": soon.to_string() }),
        json!({ "exp": null }),
        json!({ "exp": now() - 1 }),
        json!({ "iat": null }),
        json!({ "iat": "now" }),
        json!({ "iat": now() + 3600, "exp": now() + 7200 }),
        json!({ "aud": "someone-else" }),
        json!({ "aud": [] }),
        json!({ "aud": ["postern", "someone-else"] }),
        json!({ "aud": ["postern", "someone-else"], "azp": "someone-else" }),
        json!({ "azp": "someone-else" }),
        json!({ "iss": "https://evil.example" }),
        json!({ "sub": null }),
        json!({ "nonce": null }),
        json!({ "nonce": "of another key" }),
    ] {
        let shown = patch.to_string();
        let result = sign_in_with(move |mock| {
            mock.sign(&json!({ "alg": "ES256", "kid": mock.kid }), &claims_with(mock, &patch))
        });
        assert!(result.await.is_err(), "{shown}");
    }
    let several = sign_in_with(|mock| {
        let claims = claims_with(mock, &json!({ "aud": ["postern", "x"], "azp": "postern", "auth_time": 1.5e9 }));
        mock.sign(&json!({ "alg": "ES256", "kid": mock.kid }), &claims)
    });
    assert!(several.await.is_ok(), "several audiences are fine where the token says for whom it is");
}

/// A09: what is no ID token is not taken for one.
#[tokio::test]
async fn a09_other_tokens_are_not_id_tokens() {
    for typ in ["at+jwt", "logout+jwt", "secevent+jwt", "postern-identity+jwt"] {
        let result = sign_in_with(move |mock| {
            mock.sign(&json!({ "alg": "ES256", "kid": mock.kid, "typ": typ }), &claims_with(mock, &json!({})))
        });
        assert!(result.await.is_err(), "{typ}");
    }
}

/// A10: identity is issuer and subject; what an e-mail address says, or a provider quotes, changes nothing.
#[tokio::test]
async fn a10_identity_is_issuer_and_subject() {
    let mock = MockProvider::start().await;
    mock.state.lock().claims = json!({ "email": "ada@example.com", "email_verified": "false" });
    let provider = discover(&mock).await;
    let ada = finish(&mock, begin(Arc::clone(&provider)).await).await.unwrap();
    mock.state.lock().claims = json!({ "sub": "user-2", "email": "ada@example.com", "email_verified": true });
    let other = finish(&mock, begin(Arc::clone(&provider)).await).await.unwrap();
    let [ada_id, other_id] = [&ada, &other].map(|s| s.principal.clone().unwrap());
    assert_ne!((&ada_id.issuer, &ada_id.subject), (&other_id.issuer, &other_id.subject));
    // The same address does not make the other user's token a continuation of Ada's session.
    let token = ada.refresh_token.unwrap();
    assert_eq!(provider.refresh(&token, Some("user-1")).await.err().map(|f| f.problem.code), Some(Code::SignInFailed));
}

#[tokio::test]
async fn refreshes_with_and_without_rotation_and_id_token() {
    let mock = MockProvider::start().await;
    let provider = discover(&mock).await;
    let old = SecretString::from("refresh-0");
    let rotated = provider.refresh(&old, Some("user-1")).await.unwrap();
    assert_ne!(rotated.refresh_token.unwrap().expose_secret(), "refresh-0");
    assert_eq!(mock.token_requests().last().unwrap().form("refresh_token").as_deref(), Some("refresh-0"));
    // Not rotated, no ID token, but an access token that the relay can take.
    mock.state.lock().hook = Some(Box::new(|mock, _| {
        let token =
            mock.sign(&json!({ "alg": "ES256", "typ": "at+jwt" }), &json!({ "iat": now(), "exp": now() + 120 }));
        Some((200, json!({ "access_token": token, "token_type": "Bearer" }).to_string()))
    }));
    let kept = provider.refresh(&old, Some("user-1")).await.unwrap();
    assert_eq!(kept.refresh_token.unwrap().expose_secret(), "refresh-0");
    assert_eq!((kept.proof.kind, kept.proof.fresh_for.as_secs()), (ProofKind::AccessToken, 120));
    mock.state.lock().hook =
        Some(Box::new(|_, _| Some((200, json!({ "access_token": "opaque", "token_type": "bearer" }).to_string()))));
    assert_eq!(provider.refresh(&old, None).await.err().map(|f| f.problem.code), Some(Code::SignInFailed));
}

#[tokio::test]
async fn a_refused_refresh_is_told_from_a_provider_in_trouble() {
    let mock = MockProvider::start().await;
    let provider = discover(&mock).await;
    for (answer, code) in [
        (error("invalid_grant"), Code::RefreshRefused),
        ((400, String::new()), Code::RefreshRefused),
        ((401, "<html>no</html>".to_owned()), Code::RefreshRefused),
        (error("login_required"), Code::RefreshRefused),
        (error("invalid_client"), Code::ProviderUnreachable),
        ((401, error("unauthorized_client").1), Code::ProviderUnreachable),
        (error("temporarily_unavailable"), Code::ProviderUnreachable),
        ((503, String::new()), Code::ProviderUnreachable),
        ((500, error("server_error").1), Code::ProviderUnreachable),
        ((429, String::new()), Code::ProviderUnreachable),
        ((302, String::new()), Code::ProviderUnreachable),
        ((404, "<html>gone</html>".to_owned()), Code::ProviderUnreachable),
        ((403, "<html>blocked by the proxy</html>".to_owned()), Code::ProviderUnreachable),
        ((403, error("access_denied").1), Code::RefreshRefused),
        ((200, "{".to_owned()), Code::ProviderInvalid),
    ] {
        let told = answer.clone();
        mock.state.lock().hook = Some(Box::new(move |_, _| Some(told.clone())));
        let problem = provider.refresh(&SecretString::from("s3cret-refresh"), None).await.err().unwrap().problem;
        assert_eq!(problem.code, code, "{answer:?}");
        assert!(!format!("{problem:?}").contains("s3cret-refresh"));
    }
    mock.state.lock().hook =
        Some(Box::new(|_, _| Some((400, json!({ "error": "x\u{1b}[2J", "error_description": "y\r\n" }).to_string()))));
    let shown = provider.refresh(&SecretString::from("r"), None).await.err().unwrap().problem.to_string();
    assert!(!shown.contains('\u{1b}') && !shown.contains('\r'), "A55: {shown:?}");
}

#[tokio::test]
async fn new_keys_of_the_provider_are_fetched_once() {
    let mock = MockProvider::start().await;
    let provider = discover(&mock).await;
    let keys = |mock: &MockProvider| mock.state.lock().asked.iter().filter(|asked| asked.path == "/jwks").count();
    let fresh =
        aws_lc_rs::signature::EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    {
        let mut state = mock.state.lock();
        (state.key, state.kid) = (fresh, "key-2".into());
    }
    provider.refresh(&SecretString::from("r"), None).await.unwrap();
    assert_eq!(keys(&mock), 2);
    mock.state.lock().hook = Some(Box::new(|mock, _| {
        let token = mock.sign(&json!({ "alg": "ES256", "kid": "key-3" }), &claims_with(mock, &json!({})));
        Some((200, json!({ "access_token": "a", "token_type": "bearer", "id_token": token }).to_string()))
    }));
    assert!(provider.refresh(&SecretString::from("r"), None).await.is_err());
    assert_eq!(keys(&mock), 3, "an unknown key costs one look, not a search");
    // An answer that cannot be used still replaces the refresh token: the old one is spent.
    mock.state.lock().hook = Some(Box::new(|_, _| {
        Some((
            200,
            json!({ "access_token": "a", "token_type": "bearer", "refresh_token": "next", "id_token": "a.b.c" })
                .to_string(),
        ))
    }));
    let failure = provider.refresh(&SecretString::from("r"), None).await.err().unwrap();
    assert_eq!(failure.rotated.unwrap().expose_secret(), "next");
}

#[tokio::test]
async fn the_device_flow_waits_slows_down_and_succeeds() {
    let mock = MockProvider::start().await;
    let provider = discover(&mock).await;
    let polls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&polls);
    mock.state.lock().hook = Some(Box::new(move |_, _| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Some(error("authorization_pending")),
        1 => Some(error("slow_down")),
        _ => None,
    }));
    let began = std::time::Instant::now();
    let mut shown = None;
    let signed_in = provider.sign_in_with_device_code(|prompt| shown = Some(prompt)).await.unwrap();
    assert_eq!(shown.unwrap().user_code, "ABCD-EFGH");
    assert_eq!(signed_in.principal.unwrap().subject, "user-1");
    assert_eq!(polls.load(Ordering::Relaxed), 3);
    assert!(began.elapsed() >= Duration::from_secs(7), "1 s, then 6 s after being told to slow down");
    assert_eq!(mock.token_requests()[0].form("device_code").as_deref(), Some("device-1"));
}

#[tokio::test]
async fn the_device_flow_ends_as_the_provider_says() {
    for (told, code) in [
        ("access_denied", Code::SignInCancelled),
        ("expired_token", Code::SignInTimeout),
        ("invalid_client", Code::SignInFailed),
    ] {
        let mock = MockProvider::start().await;
        mock.state.lock().hook = Some(Box::new(move |_, _| Some(error(told))));
        let problem = discover(&mock).await.sign_in_with_device_code(|_| ()).await.err().unwrap();
        assert_eq!(problem.code, code, "{told}");
    }
    let mock = MockProvider::start().await;
    mock.state.lock().metadata = json!({ "device_authorization_endpoint": null });
    let problem = discover(&mock).await.sign_in_with_device_code(|_| ()).await.err().unwrap();
    assert_eq!(problem.code, Code::ProviderInvalid);
}

/// A17: what is shown to a person to open and type is checked like all else.
#[tokio::test]
async fn a17_a_hostile_device_prompt_is_not_shown() {
    let mock = MockProvider::start().await;
    for (uri, user_code) in [
        ("file:///etc/passwd", "ABCD"),
        ("https://idp.example/a b", "ABCD"),
        ("https://idp.example/", "\u{1b}]0;x\u{7}"),
        ("https://idp.example/", ""),
    ] {
        let hostile = json!({ "device_code": "d", "user_code": user_code, "verification_uri": uri, "expires_in": 60 });
        let other = crate::testing::serve_http(move |_| (200, hostile.to_string())).await;
        mock.state.lock().metadata = json!({ "device_authorization_endpoint": other.url.as_str() });
        let provider = discover(&mock).await;
        let problem = provider.sign_in_with_device_code(|_| panic!("shown")).await.err().unwrap();
        assert!(matches!(problem.code, Code::ProviderInvalid | Code::SignInFailed), "{uri} {user_code:?}: {problem:?}");
    }
}

#[tokio::test]
async fn a_service_account_gets_an_access_token_for_the_relay() {
    let mock = MockProvider::start().await;
    let provider = discover(&mock).await;
    let secret = SecretString::from("s3cret");
    let signed_in = provider.sign_in_as_service("ci", &secret).await.unwrap();
    assert_eq!(signed_in.proof.kind, ProofKind::AccessToken);
    assert_eq!(signed_in.proof.fresh_for.as_secs(), 300);
    let asked = mock.token_requests().pop().unwrap();
    assert_eq!(asked.form("resource").as_deref(), Some("https://relay.example"));
    assert!(asked.headers["authorization"].to_str().unwrap().starts_with("Basic "));
    mock.state.lock().metadata = json!({ "token_endpoint_auth_methods_supported": ["client_secret_post"] });
    discover(&mock).await.sign_in_as_service("ci", &secret).await.unwrap();
    let asked = mock.token_requests().pop().unwrap();
    assert_eq!(asked.form("client_secret").as_deref(), Some("s3cret"));
    assert!(!asked.headers.contains_key("authorization"));
}

#[tokio::test]
async fn gives_the_refresh_token_back_at_sign_out() {
    let mock = MockProvider::start().await;
    assert!(discover(&mock).await.revoke(&SecretString::from("refresh-9")).await);
    let asked = mock.state.lock().asked.last().cloned().unwrap();
    assert_eq!((asked.path.as_str(), asked.method.as_str()), ("/revoke", "POST"));
    assert_eq!(asked.form("token").as_deref(), Some("refresh-9"));
    mock.state.lock().metadata = json!({ "revocation_endpoint": null });
    assert!(!discover(&mock).await.revoke(&SecretString::from("refresh-9")).await);
}
