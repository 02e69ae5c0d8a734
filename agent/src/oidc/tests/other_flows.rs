//! Refreshing, device code, client credentials, revocation.

use super::*;

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
    let token = SecretString::from("refresh-9");
    discover(&mock).await.revoke(&token).await.unwrap();
    let asked = mock.state.lock().asked.last().cloned().unwrap();
    assert_eq!((asked.path.as_str(), asked.method.as_str()), ("/revoke", "POST"));
    assert_eq!(asked.form("token").as_deref(), Some("refresh-9"));
    mock.state.lock().metadata = json!({ "revocation_endpoint": null });
    discover(&mock).await.revoke(&token).await.expect("with nobody to tell, nothing fails");
    mock.state.lock().metadata = json!({});
    for (status, code) in [(400, Code::ProviderInvalid), (503, Code::ProviderUnreachable)] {
        mock.state.lock().revocation = status;
        assert_eq!(discover(&mock).await.revoke(&token).await.unwrap_err().code, code);
    }
}
