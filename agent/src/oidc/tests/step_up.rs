//! A further sign-in: what is asked of the provider, and whether it did so.

use super::*;
use postern_protocol::StepUp;

async fn begin_again(provider: Arc<Provider>, wanted: Again) -> Waiting {
    let (shown, url) = oneshot::channel();
    let flow = tokio::spawn(async move {
        provider.step_up(NONCE, &wanted, Browser::Shown, |url| shown.send(url.clone()).unwrap(), |_| Ok(())).await
    });
    Waiting { url: url.await.unwrap(), flow }
}

fn wanted(max_age: Option<u64>, acr_values: Option<&str>) -> StepUp {
    StepUp { max_age, acr_values: acr_values.map(str::to_owned) }
}

#[tokio::test]
async fn asks_for_age_and_strength_and_takes_nothing_less() {
    let mock = MockProvider::start().await;
    let provider = discover(&mock).await;
    let fresh = wanted(Some(300), None);
    let strong = wanted(None, Some("phrh phr"));
    let both = wanted(Some(0), Some("urn:a&prompt=none"));
    for (wanted, claims, good) in [
        (&fresh, json!({ "auth_time": now() - 5 }), true),
        (&fresh, json!({ "auth_time": now() - 400 }), false),
        (&fresh, json!({}), false),
        (&strong, json!({ "acr": "phr" }), true),
        (&strong, json!({ "acr": "phrh" }), true),
        (&strong, json!({ "acr": "pwd" }), false),
        (&strong, json!({ "acr": "phrh phr" }), false),
        (&strong, json!({ "acr": "" }), false),
        (&strong, json!({}), false),
        (&both, json!({ "auth_time": now(), "acr": "urn:a&prompt=none" }), true),
        (&both, json!({ "auth_time": now() }), false),
    ] {
        mock.state.lock().claims = claims.clone();
        let waiting = begin_again(Arc::clone(&provider), Again::Wanted(wanted.clone())).await;
        let query: std::collections::HashMap<_, _> = waiting.url.query_pairs().into_owned().collect();
        assert_eq!(query.get("max_age").cloned(), wanted.max_age.map(|age| age.to_string()));
        assert_eq!(query.get("acr_values"), wanted.acr_values.as_ref(), "whatever it holds stays one parameter");
        assert_eq!((query["code_challenge_method"].as_str(), query["nonce"].as_str()), ("S256", NONCE));
        let signed_in = finish(&mock, waiting).await;
        let code = signed_in.as_ref().err().map(|problem| problem.code);
        assert_eq!(code, (!good).then_some(Code::SignInFailed), "{wanted:?} {claims}");
    }
}

/// To prolong a session the person is asked anew, by a provider that tells when they were asked or does not.
#[tokio::test]
async fn prolonging_wants_a_fresh_sign_in_of_those_who_tell() {
    let mock = MockProvider::start().await;
    let provider = discover(&mock).await;
    for (claims, good) in
        [(json!({ "auth_time": now() - 5 }), true), (json!({ "auth_time": now() - 400 }), false), (json!({}), true)]
    {
        mock.state.lock().claims = claims.clone();
        let waiting = begin_again(Arc::clone(&provider), Again::ToProlong).await;
        assert!(waiting.url.query_pairs().any(|(name, value)| (&*name, &*value) == ("max_age", "0")));
        assert_eq!(finish(&mock, waiting).await.is_ok(), good, "{claims}");
    }
}

/// By device code the same is asked for and seen to, and so is who it is.
#[tokio::test]
async fn a_device_code_is_asked_for_age_and_strength_too() {
    let mock = MockProvider::start().await;
    let provider = discover(&mock).await;
    let both = Again::Wanted(wanted(Some(300), Some("phrh phr")));
    for (claims, good) in [
        (json!({ "auth_time": now() - 5, "acr": "phr" }), true),
        (json!({ "auth_time": now() - 400, "acr": "phr" }), false),
        (json!({ "auth_time": now() - 5, "acr": "pwd" }), false),
        (json!({}), false),
    ] {
        mock.state.lock().claims = claims.clone();
        let signed_in = provider.step_up_with_device_code(&both, |_| (), |_| Ok(())).await;
        let code = signed_in.as_ref().err().map(|problem| problem.code);
        assert_eq!(code, (!good).then_some(Code::SignInFailed), "{claims}");
    }
    let asked = mock.state.lock().asked.iter().rfind(|asked| asked.path == "/device").cloned().unwrap();
    assert_eq!(
        (asked.form("max_age").as_deref(), asked.form("acr_values").as_deref()),
        (Some("300"), Some("phrh phr"))
    );
    mock.state.lock().claims = json!({ "auth_time": now(), "acr": "phr" });
    let nobody = |_: &SignedIn| Err(Problem::new(Code::SignInFailed).detail("another person"));
    let refused = provider.step_up_with_device_code(&both, |_| (), nobody).await.err().unwrap();
    assert_eq!(refused.detail.as_deref(), Some("another person"));
}
