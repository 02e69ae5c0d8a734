//! Tokens that look like the right ones: A06, A07, A08, A09.

use crate::Site;
use postern_tests::Device;
use postern_tests::client::Reply;
use postern_tests::device::exchange;
use postern_tests::forge::{TokenKey, claims_of, merge, now};
use postern_tests::quic::Quic;
use postern_tests::stand_in::RESOURCE;
use serde_json::{Value, json};

/// A device that is signed in, and the claims of tokens that would be good for it.
struct Bench {
    site: Site,
    device: Device,
    quic: Quic,
}

impl Bench {
    async fn new() -> Self {
        let site = Site::new().await;
        let (device, quic) = site.signed_in("ada").await;
        Self { site, device, quic }
    }

    /// The claims of an ID token that this device could enrol and exchange with.
    fn claims(&self) -> Value {
        merge(self.site.provider.claims_of("ada"), &json!({"nonce": self.device.nonce()}))
    }

    fn sign(&self, header: Value, changes: Value) -> String {
        self.site.provider.key.sign(&header, &merge(self.claims(), &changes))
    }

    async fn enroll(&self, token: &str) -> Reply {
        self.site.relay.post("/enroll", &self.device.enrolment(token)).await
    }

    async fn exchange(&self, token: &str) -> Reply {
        self.quic.control(exchange(self.device.exchange_form(token))).await
    }

    /// `token` in the place of a session token.
    async fn request(&self, token: &str) -> Reply {
        let bearer = format!("Bearer {token}");
        let request = http::Request::get("/").header("host", "wiki").header("proxy-authorization", bearer);
        self.quic.send(request.body("").unwrap()).await.unwrap()
    }

    /// Neither enrolment nor exchange takes `token` for an ID token, and both name the same cause.
    async fn refuses_identity(&self, what: &str, token: &str) {
        for reply in [self.enroll(token).await, self.exchange(token).await] {
            assert_eq!(reply.refusal(), (401, "identity_token_invalid"), "{what}: {reply:?}");
            assert!(!reply.text().contains("CERTIFICATE") && !reply.text().contains("access_token"), "{what}");
        }
    }

    /// No request passes with `token` for a session token.
    async fn refuses_session(&self, what: &str, token: &str) {
        let before = self.site.wiki.requests().len();
        assert_eq!(self.request(token).await.refusal(), (407, "token_invalid"), "{what}");
        assert_eq!(self.site.wiki.requests().len(), before, "{what} reached the app");
    }

    /// What is refused above is refused for its fault alone: without it, all works.
    async fn accepts_honest_tokens(&self) {
        assert_eq!(self.exchange(&self.sign(json!({}), json!({}))).await.status, 200);
        assert_eq!(self.enroll(&self.sign(json!({}), json!({}))).await.status, 200);
        assert_eq!(self.request(&self.device.token).await.status, 200);
    }
}

/// A06: `none`, HS256 keyed with a public key, a `kid` that is a path, a key brought along in the header.
#[tokio::test]
async fn a06_forged_signatures_are_rejected() {
    let bench = Bench::new().await;
    let rsa = TokenKey::rsa("rsa-1");
    bench.site.provider.publish(&rsa);
    let ours = &bench.site.provider.key;
    let mine = TokenKey::p256(&ours.id);
    let brought = TokenKey::p256("mine");
    let in_header = json!({"jwk": brought.jwk()});
    let modulus = rsa.jwk()["n"].as_str().unwrap().to_owned();
    let forgers = [
        ("none", TokenKey::none(&ours.id), json!({})),
        ("none in capitals", TokenKey::none(&ours.id), json!({"alg": "NONE"})),
        ("none without kid", TokenKey::none(""), json!({"kid": null})),
        ("no algorithm", TokenKey::none(&ours.id), json!({"alg": null})),
        ("an HMAC with the RSA key", TokenKey::hmac("rsa-1", &rsa.public_bytes()), json!({})),
        ("an HMAC with the RSA modulus", TokenKey::hmac("rsa-1", modulus.as_bytes()), json!({})),
        ("an HMAC with the EC key", TokenKey::hmac(&ours.id, &ours.public_bytes()), json!({})),
        ("an HMAC with nothing", TokenKey::hmac("../../../../../../dev/null", b""), json!({})),
        ("a path for a key id", TokenKey::p256("../../keys/session.key"), json!({})),
        ("an HMAC labelled ES256", TokenKey::hmac(&ours.id, &ours.public_bytes()), json!({"alg": "ES256"})),
        ("a key of one's own under the right id", mine, json!({})),
        ("a key in the header", brought, in_header),
        ("critical extensions unknown to us", TokenKey::none(&ours.id), json!({"crit": ["b64"], "b64": false})),
    ];
    for (what, key, header) in &forgers {
        bench.refuses_identity(what, &key.sign(header, &bench.claims())).await;
        let session = merge(json!({"typ": "at+jwt"}), header);
        bench.refuses_session(what, &key.sign(&session, &claims_of(&bench.device.token))).await;
    }
    let public = bench.site.relay.public_key("session");
    let keyed =
        TokenKey::hmac("", &public).sign(&json!({"typ": "at+jwt", "kid": null}), &claims_of(&bench.device.token));
    bench.refuses_session("an HMAC with the public half of the session key", &keyed).await;
    let (unsigned, _) = bench.device.token.rsplit_once('.').unwrap();
    bench.refuses_session("a session token without its signature", &format!("{unsigned}.")).await;
    bench.accepts_honest_tokens().await;
}

/// A07: times that are strings or are missing never count as valid.
#[tokio::test]
async fn a07_times_that_are_no_numbers_or_missing_are_rejected() {
    let bench = Bench::new().await;
    let later = (now() + 300).to_string();
    for changes in [
        json!({"exp": null}),
        json!({"exp": later}),
        json!({"exp": "never"}),
        json!({"exp": [now() + 300]}),
        json!({"exp": true}),
        json!({"exp": -1}),
        json!({"iat": null}),
        json!({"iat": now().to_string()}),
        json!({"nbf": now().to_string()}),
        json!({"nbf": "0"}),
        json!({"nbf": {}}),
    ] {
        bench.refuses_identity(&changes.to_string(), &bench.sign(json!({}), changes.clone())).await;
    }
    for (what, changes) in [
        ("expired", json!({"exp": now() - 120, "iat": now() - 400})),
        ("not yet valid", json!({"nbf": now() + 600})),
        ("issued in the future", json!({"iat": now() + 600})),
        ("too old", json!({"iat": now() - 3600, "exp": now() + 300})),
    ] {
        let reply = bench.exchange(&bench.sign(json!({}), changes)).await;
        assert!(["identity_token_stale", "identity_token_invalid"].contains(&reply.refusal().1), "{what}: {reply:?}");
    }
    bench.accepts_honest_tokens().await;
}

/// A08: a token of the same provider for another client, audience or issuer is worth nothing here.
#[tokio::test]
async fn a08_tokens_for_others_are_rejected() {
    let bench = Bench::new().await;
    for changes in [
        json!({"aud": "other"}),
        json!({"aud": ["other", "another"]}),
        json!({"aud": null}),
        json!({"aud": ""}),
        json!({"aud": []}),
        json!({"aud": {"postern": true}}),
        json!({"aud": "postern2"}),
        json!({"aud": "POSTERN"}),
        json!({"aud": ["postern", "other"], "azp": "other"}),
        json!({"aud": ["postern", "other"]}),
        json!({"azp": "other"}),
        json!({"iss": "https://login.corp.example"}),
        json!({"iss": format!("{}/", bench.site.provider.issuer)}),
        json!({"iss": null}),
        json!({"sub": null}),
        json!({"sub": ""}),
    ] {
        bench.refuses_identity(&changes.to_string(), &bench.sign(json!({}), changes.clone())).await;
    }
    bench.accepts_honest_tokens().await;
}

/// A09: each token is good for its own purpose only, told apart by `typ`, though its signer and audience be right.
#[tokio::test]
async fn a09_tokens_of_another_kind_are_rejected() {
    let bench = Bench::new().await;
    let logout = json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}});
    for (typ, changes) in [
        ("logout+jwt", logout),
        ("secevent+jwt", json!({"events": {}})),
        ("at+jwt", json!({})),
        ("application/at+jwt", json!({})),
        ("dpop+jwt", json!({})),
        ("postern-identity+jwt", json!({})),
        ("jwt-but-not-quite", json!({})),
    ] {
        bench.refuses_identity(typ, &bench.sign(json!({"typ": typ}), changes)).await;
    }
    bench.refuses_identity("a session token", &bench.device.token).await;
    let assertion = identity_assertion(&bench).await;
    bench.refuses_identity("an identity assertion", &assertion).await;

    bench.refuses_session("an ID token", &bench.sign(json!({}), json!({}))).await;
    bench.refuses_session("an access token", &bench.site.provider.access_token("ada", json!({}))).await;
    bench.refuses_session("a logout token", &bench.sign(json!({"typ": "logout+jwt"}), json!({"aud": RESOURCE}))).await;
    bench.refuses_session("an identity assertion", &assertion).await;
    bench.accepts_honest_tokens().await;
}

/// The assertion the app gets with a request: an app that is an attacker holds as many as it likes.
async fn identity_assertion(bench: &Bench) -> String {
    assert_eq!(bench.request(&bench.device.token).await.status, 200);
    bench.site.wiki.last().header("x-postern-identity").unwrap().to_owned()
}
