//! A mock OpenID provider: it does what the tests tell it, right or wrong. Real ones are in the end-to-end tests.

use crate::testing::{Answer, Asked, Server, serve_requests};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use postern_protocol::binding::sha256;
use postern_protocol::discovery::SignIn;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use url::Url;

type TokenHook = Box<dyn Fn(&Mock, &Asked) -> Option<Answer> + Send>;

pub(crate) struct Mock {
    pub(crate) issuer: String,
    pub(crate) key: EcdsaKeyPair,
    pub(crate) kid: String,
    /// Merged over the metadata; null removes.
    pub(crate) metadata: Value,
    /// Merged over the claims of ID tokens.
    pub(crate) claims: Value,
    /// Codes with the challenge and nonce they were given for.
    pub(crate) codes: HashMap<String, (String, String)>,
    /// Answers token requests before the rules do.
    pub(crate) hook: Option<TokenHook>,
    pub(crate) asked: Vec<Asked>,
    /// What it answers when a refresh token is given back.
    pub(crate) revocation: u16,
}

pub(crate) struct MockProvider {
    server: Server,
    pub(crate) state: Arc<Mutex<Mock>>,
}

impl MockProvider {
    pub(crate) async fn start() -> Self {
        let state = Arc::new(Mutex::new(Mock {
            issuer: String::new(),
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            kid: "key-1".into(),
            metadata: json!({}),
            claims: json!({}),
            codes: HashMap::new(),
            hook: None,
            asked: Vec::new(),
            revocation: 200,
        }));
        let shared = Arc::clone(&state);
        let server = serve_requests(move |asked| shared.lock().answer(&asked)).await;
        state.lock().issuer = server.url.as_str().trim_end_matches('/').to_owned();
        Self { server, state }
    }

    pub(crate) fn sign_in(&self) -> SignIn {
        SignIn {
            issuer: self.server.url.clone(),
            client_id: "postern".into(),
            scopes: ["openid", "email", "offline_access"].map(Into::into).to_vec(),
            resource: Some("https://relay.example".into()),
            redirect_port: None,
            token_max_age: 900,
            max_age: None,
        }
    }

    pub(crate) fn token_requests(&self) -> Vec<Asked> {
        self.state.lock().asked.iter().filter(|asked| asked.path == "/token").cloned().collect()
    }

    /// What the provider does when a person has signed in at `url`: a code, bound to what `url` asked for.
    pub(crate) fn person_signs_in(&self, url: &Url) -> (String, HashMap<String, String>) {
        let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
        let code = format!("code-{}", self.state.lock().codes.len());
        let kept = (query["code_challenge"].clone(), query["nonce"].clone());
        self.state.lock().codes.insert(code.clone(), kept);
        (code, query)
    }
}

impl Mock {
    fn answer(&mut self, asked: &Asked) -> Answer {
        self.asked.push(asked.clone());
        let reply = match asked.path.as_str() {
            "/.well-known/openid-configuration" => self.document(),
            "/jwks" => json!({ "keys": [self.jwk()] }),
            "/device" => json!({
                "device_code": "device-1", "user_code": "ABCD-EFGH", "interval": 1, "expires_in": 60,
                "verification_uri": format!("{}/activate", self.issuer),
            }),
            "/revoke" => return (self.revocation, "{}".to_owned()),
            "/token" => return self.token(asked),
            _ => return (404, String::new()),
        };
        (200, reply.to_string())
    }

    fn document(&self) -> Value {
        let issuer = &self.issuer;
        let mut document = json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks"),
            "revocation_endpoint": format!("{issuer}/revoke"),
            "device_authorization_endpoint": format!("{issuer}/device"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "code_challenge_methods_supported": ["S256"],
        });
        merge(&mut document, &self.metadata);
        document
    }

    fn token(&mut self, asked: &Asked) -> Answer {
        if let Some(hook) = self.hook.take() {
            let answer = hook(self, asked);
            self.hook = Some(hook);
            if let Some(answer) = answer {
                return answer;
            }
        }
        let field = |name: &str| asked.form(name).unwrap_or_default();
        match field("grant_type").as_str() {
            "authorization_code" => {
                let Some((challenge, nonce)) = self.codes.remove(&field("code")) else { return error("invalid_grant") };
                if URL_SAFE_NO_PAD.encode(sha256(field("code_verifier").as_bytes())) != challenge {
                    return error("invalid_grant");
                }
                self.tokens(Some(&nonce))
            }
            "client_credentials" => {
                let claims = json!({ "sub": "ci", "aud": field("resource"), "iat": now(), "exp": now() + 300 });
                let token = self.sign(&json!({ "alg": "ES256", "typ": "at+jwt", "kid": self.kid }), &claims);
                (200, json!({ "access_token": token, "token_type": "Bearer", "expires_in": 300 }).to_string())
            }
            _ => self.tokens(None),
        }
    }

    /// A full answer of the token endpoint.
    pub(crate) fn tokens(&self, nonce: Option<&str>) -> Answer {
        let token = self.id_token(nonce);
        (
            200,
            json!({
                "access_token": "opaque", "token_type": "Bearer", "expires_in": 300,
                "refresh_token": format!("refresh-{}", self.asked.len()), "id_token": token,
            })
            .to_string(),
        )
    }

    pub(crate) fn id_token(&self, nonce: Option<&str>) -> String {
        let mut claims = json!({
            "iss": self.issuer, "sub": "user-1", "aud": "postern", "iat": now(), "exp": now() + 300,
            "nonce": nonce, "email": "ada@example.com", "name": "Ada",
        });
        merge(&mut claims, &self.claims);
        self.sign(&json!({ "alg": "ES256", "typ": "JWT", "kid": self.kid }), &claims)
    }

    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub(crate) fn jwk(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.kid, "x": x, "y": y })
    }
}

pub(crate) fn error(code: &str) -> Answer {
    (400, json!({ "error": code }).to_string())
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn merge(target: &mut Value, patch: &Value) {
    for (key, value) in patch.as_object().unwrap() {
        let object = target.as_object_mut().unwrap();
        if value.is_null() {
            object.remove(key);
        } else {
            object.insert(key.clone(), value.clone());
        }
    }
}
