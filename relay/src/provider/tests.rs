//! The rules of fetching, against a provider on loopback that misbehaves.

use super::keys::{BETWEEN, BETWEEN_WITHOUT_KEYS, LEASE};
use super::*;
use crate::clock::Clock;
use crate::testing::{Idp, ec_key, header, sign};
use url::Url;

fn provider(idp: &Idp) -> Provider {
    Provider::new(&ProviderConfig {
        issuer: Url::parse(&idp.issuer).unwrap(),
        issuer_text: idp.issuer.clone(),
        client_id: "postern".into(),
        scopes: vec![],
        groups_claim: "groups".into(),
        token_max_age: Duration::from_secs(900),
        resource: None,
        redirect_port: None,
        require_nonce: false,
        backchannel_logout: true,
        backchannel_logout_untyped: false,
    })
    .unwrap_or_else(|problem| panic!("{problem}"))
}

fn metadata(idp: &Idp, jwks_uri: &str) -> String {
    serde_json::json!({"issuer": idp.issuer, "jwks_uri": jwks_uri}).to_string()
}

/// Makes the provider misbehave.
type Misleading<'a> = Box<dyn Fn() + 'a>;

const METADATA: &str = "/.well-known/openid-configuration";
const AGE: Duration = Duration::from_secs(300);

async fn verified(provider: &Provider, token: &str, now: Timestamp) -> Result<Identity, Code> {
    provider.verify(token, TokenKind::Id, AGE, now).await.map_err(|problem| problem.code)
}

/// A11: ten thousand tokens with unknown keys cause at most one refresh in 30 seconds.
#[tokio::test]
async fn a11_unknown_keys_cause_one_refresh_in_thirty_seconds() {
    let idp = Idp::start().await;
    let provider = provider(&idp);
    let now = Clock::new().now();
    let good = idp.sign(&idp.claims("ada"));
    verified(&provider, &good, now).await.unwrap();
    let first = idp.asked();
    assert_eq!(first, 2, "metadata and keys");
    let key = ec_key();
    let claims = idp.claims("ada");
    for index in 0..10_000 {
        let unknown = sign(&key, &header(&format!("unknown-{index}"), Some("JWT")), &claims);
        assert_eq!(verified(&provider, &unknown, now).await.unwrap_err(), Code::IdentityTokenInvalid);
    }
    assert_eq!(idp.asked(), first, "the keys came less than 30 s ago");
    let later = now.plus(BETWEEN);
    for index in 0..1_000 {
        let unknown = sign(&key, &header(&format!("unknown-{index}"), Some("JWT")), &claims);
        assert_eq!(verified(&provider, &unknown, later).await.unwrap_err(), Code::IdentityTokenInvalid);
    }
    assert_eq!(idp.asked(), first + 2, "one more refresh");
    verified(&provider, &good, later).await.unwrap();
}

/// A rotated key is found by the first token that names it.
#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it() {
    let idp = Idp::start().await;
    let provider = provider(&idp);
    let now = Clock::new().now();
    verified(&provider, &idp.sign(&idp.claims("ada")), now).await.unwrap();
    let rotated = ec_key();
    idp.publish(&rotated, "k2");
    let token = sign(&rotated, &header("k2", Some("JWT")), &idp.claims("ada"));
    assert_eq!(verified(&provider, &token, now).await.unwrap_err(), Code::IdentityTokenInvalid, "too soon");
    verified(&provider, &token, now.plus(BETWEEN)).await.unwrap();
}

/// A11: where a token says that keys are, nobody looks.
#[tokio::test]
async fn a11_a_tokens_own_key_address_is_ignored() {
    let (idp, evil) = (Idp::start().await, Idp::start().await);
    let provider = provider(&idp);
    let mut header = header("k1", Some("JWT"));
    header.jku = Some(format!("{}/jwks", evil.issuer));
    header.x5u = Some(format!("{}/x5u", evil.issuer));
    let token = sign(&evil.key, &header, &idp.claims("ada"));
    let now = Clock::new().now();
    assert_eq!(verified(&provider, &token, now).await.unwrap_err(), Code::IdentityTokenInvalid);
    assert_eq!(evil.asked(), 0);
}

/// A11: metadata that leads elsewhere is not followed: no redirect, no link-local or metadata address, no plain
/// http beyond loopback, no foreign issuer, nothing too long.
#[tokio::test]
async fn a11_misleading_metadata_leads_nowhere() {
    let idp = Idp::start().await;
    let evil = Idp::start().await;
    let token = idp.sign(&idp.claims("ada"));
    let long = format!("{{\"keys\":[]{}}}", " ".repeat(2 * 1024 * 1024));
    let answers: [(&str, Misleading<'_>); 11] = [
        (
            "metadata redirected",
            Box::new(|| {
                idp.answer_with(METADATA, 302, vec![("location", format!("{}{METADATA}", evil.issuer))], "");
            }),
        ),
        (
            "keys redirected",
            Box::new(|| {
                idp.answer(METADATA, 200, metadata(&idp, &format!("{}/away", idp.issuer)));
                idp.answer_with("/away", 307, vec![("location", format!("{}/jwks", evil.issuer))], "");
            }),
        ),
        ("keys link-local", Box::new(|| idp.answer(METADATA, 200, metadata(&idp, "https://169.254.169.254/keys")))),
        (
            "keys at a mapped address",
            Box::new(|| idp.answer(METADATA, 200, metadata(&idp, "https://[::ffff:a9fe:a9fe]/keys"))),
        ),
        ("keys by plain http", Box::new(|| idp.answer(METADATA, 200, metadata(&idp, "http://192.0.2.1/keys")))),
        ("keys in a file", Box::new(|| idp.answer(METADATA, 200, metadata(&idp, "file:///etc/passwd")))),
        ("another issuer", Box::new(|| idp.answer(METADATA, 200, metadata(&evil, &format!("{}/jwks", evil.issuer))))),
        ("metadata too long", Box::new(|| idp.answer(METADATA, 200, long.clone()))),
        (
            "keys too long",
            Box::new(|| {
                idp.answer(METADATA, 200, metadata(&idp, &format!("{}/long", idp.issuer)));
                idp.answer("/long", 200, long.clone());
            }),
        ),
        ("not JSON", Box::new(|| idp.answer(METADATA, 200, "<html>"))),
        ("an error", Box::new(|| idp.answer(METADATA, 500, ""))),
    ];
    for (what, answer) in answers {
        answer();
        let provider = provider(&idp);
        let refused = verified(&provider, &token, Clock::new().now()).await.unwrap_err();
        assert_eq!(refused, Code::ProviderUnreachable, "{what}");
        assert_eq!(evil.asked(), 0, "{what}");
    }
}

/// Keys outlive a provider that is out of reach, but not for long.
#[tokio::test]
async fn keys_have_a_lease() {
    let idp = Idp::start().await;
    let provider = provider(&idp);
    let now = Clock::new().now();
    provider.keys.refresh(now).await.unwrap();
    idp.answer(METADATA, 503, "");
    assert!(provider.keys.current(now.plus(LEASE)).await.is_ok());
    let later = now.plus(LEASE + Duration::from_secs(1));
    assert_eq!(provider.keys.current(later).await.err().unwrap().code, Code::ProviderUnreachable);
    idp.publish(&idp.key, "k1");
    assert!(provider.keys.current(later.plus(BETWEEN_WITHOUT_KEYS)).await.is_ok(), "it comes back by itself");
}

/// However many ask at once, one fetch answers them.
#[tokio::test]
async fn one_fetch_serves_all_who_wait() {
    let idp = Idp::start().await;
    let provider = provider(&idp);
    let (now, token) = (Clock::new().now(), idp.sign(&idp.claims("ada")));
    let all = futures_util::future::join_all((0..50).map(|_| verified(&provider, &token, now))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(idp.asked(), 2);
}
