//! A stand-in for an OpenID provider: one whose keys a test holds and whose every answer it can twist, because a
//! real provider cannot be made to misbehave. Honest until told otherwise.

use crate::client::Reply;
use crate::forge::{TokenKey, merge, now, random};
use crate::server::{Asked, Server, json, redirect, reply};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use url::Url;

type Twist = Box<dyn Fn(&Asked) -> Option<Reply> + Send + Sync>;

/// The stand-in.
pub struct StandIn {
    /// Its issuer.
    pub issuer: String,
    /// Its signing key.
    pub key: Arc<TokenKey>,
    /// The server behind it.
    pub server: Server,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    issuer: OnceLock<String>,
    metadata: Mutex<Value>,
    keys: Mutex<Vec<Value>>,
    callback: Mutex<Value>,
    claims: Mutex<Value>,
    twist: Mutex<Option<Twist>>,
    /// Codes given out: the claims of their ID tokens.
    codes: Mutex<HashMap<String, Value>>,
}

impl StandIn {
    /// Starts an honest one.
    pub async fn start() -> Self {
        let key = Arc::new(TokenKey::p256("stand-in-1"));
        let state = Arc::new(State::default());
        state.keys.lock().unwrap().push(key.jwk());
        let (answering, signing) = (state.clone(), key.clone());
        let server = Server::http(move |asked| answer(&answering, &signing, asked)).await;
        let issuer = format!("http://{}", server.address);
        state.issuer.set(issuer.clone()).unwrap();
        Self { issuer, key, server, state }
    }

    /// Changes members of the metadata document; null takes one away.
    pub fn metadata(&self, changes: Value) {
        let mut metadata = self.state.metadata.lock().unwrap();
        *metadata = changes;
    }

    /// Changes parameters of the redirect back to the agent; null takes one away.
    pub fn callback(&self, changes: Value) {
        *self.state.callback.lock().unwrap() = changes;
    }

    /// Changes claims of the ID tokens that its token endpoint gives out.
    pub fn claims(&self, changes: Value) {
        *self.state.claims.lock().unwrap() = changes;
    }

    /// Publishes another key.
    pub fn publish(&self, key: &TokenKey) {
        self.state.keys.lock().unwrap().push(key.jwk());
    }

    /// Answers with `twist` wherever it answers at all.
    pub fn twist(&self, twist: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) {
        *self.state.twist.lock().unwrap() = Some(Box::new(twist));
    }

    /// The claims of a good ID token of `subject`, in the group `staff`, for the client `postern`.
    pub fn claims_of(&self, subject: &str) -> Value {
        json!({
            "iss": self.issuer, "sub": subject, "aud": "postern", "iat": now(), "exp": now() + 300,
            "jti": random(12), "email": format!("{subject}@corp.example"), "name": subject, "groups": ["staff"],
        })
    }

    /// A good ID token of `subject` but for `changes`.
    pub fn id_token(&self, subject: &str, changes: Value) -> String {
        self.key.sign(&json!({}), &merge(self.claims_of(subject), &changes))
    }

    /// A good access token of the service account `subject` but for `changes`.
    pub fn access_token(&self, subject: &str, changes: Value) -> String {
        let claims = merge(self.claims_of(subject), &json!({"aud": RESOURCE, "client_id": subject}));
        self.key.sign(&json!({"typ": "at+jwt"}), &merge(claims, &changes))
    }

    /// What the relay's authorization endpoint was asked for.
    pub fn authorizations(&self) -> usize {
        self.server.count("/auth")
    }
}

/// The audience of access tokens for the relay.
pub const RESOURCE: &str = "urn:postern:corp.example";

fn answer(state: &State, key: &TokenKey, asked: &Asked) -> Reply {
    if let Some(twisted) = state.twist.lock().unwrap().as_ref().and_then(|twist| twist(asked)) {
        return twisted;
    }
    let issuer = state.issuer.get().unwrap();
    match asked.path() {
        "/.well-known/openid-configuration" => json(&merge(honest_metadata(issuer), &state.metadata.lock().unwrap())),
        "/jwks" => json(&json!({"keys": *state.keys.lock().unwrap()})),
        "/auth" => authorize(state, issuer, asked),
        "/token" => token(state, issuer, key, asked),
        _ => reply(404, "text/plain", ""),
    }
}

fn honest_metadata(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/auth"),
        "token_endpoint": format!("{issuer}/token"),
        "device_authorization_endpoint": format!("{issuer}/device/auth"),
        "jwks_uri": format!("{issuer}/jwks"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256", "RS256"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_methods_supported": ["none"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    })
}

/// Signs `mallory` in without asking anybody anything.
fn authorize(state: &State, issuer: &str, asked: &Asked) -> Reply {
    let code = random(16);
    let claims = json!({"nonce": asked.query("nonce"), "sub": "mallory"});
    state.codes.lock().unwrap().insert(code.clone(), claims);
    let honest = json!({"code": code, "state": asked.query("state"), "iss": issuer});
    let parameters = merge(honest, &state.callback.lock().unwrap());
    let mut back: Url = asked.query("redirect_uri").unwrap().parse().unwrap();
    for (name, value) in parameters.as_object().unwrap() {
        back.query_pairs_mut().append_pair(name, value.as_str().unwrap());
    }
    redirect(back.as_str())
}

fn token(state: &State, issuer: &str, key: &TokenKey, asked: &Asked) -> Reply {
    let known = match asked.field("grant_type").as_deref() {
        Some("authorization_code") => state.codes.lock().unwrap().remove(&asked.field("code").unwrap_or_default()),
        Some("refresh_token") => Some(json!({"sub": "mallory"})),
        _ => None,
    };
    let Some(known) = known else {
        return reply(400, "application/json", json!({"error": "invalid_grant"}).to_string());
    };
    let claims = json!({
        "iss": issuer, "aud": "postern", "iat": now(), "exp": now() + 300, "jti": random(12), "groups": ["staff"],
    });
    let claims = merge(merge(claims, &known), &state.claims.lock().unwrap());
    json(&json!({
        "access_token": random(24), "token_type": "Bearer", "expires_in": 300, "refresh_token": random(24),
        "id_token": key.sign(&json!({}), &claims),
    }))
}
