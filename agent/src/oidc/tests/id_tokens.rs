//! ID tokens that are not what they should be.

use super::*;

/// Signs in at a provider that answers the token request with this ID token.
async fn sign_in_with(token: impl Fn(&Mock) -> String + Send + 'static) -> Result<SignedIn, Problem> {
    let mock = MockProvider::start().await;
    mock.state.lock().hook = Some(Box::new(move |mock, _| {
        Some((200, json!({ "access_token": "a", "token_type": "bearer", "id_token": token(mock) }).to_string()))
    }));
    let waiting = begin(discover(&mock).await).await;
    finish(&mock, waiting).await
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
