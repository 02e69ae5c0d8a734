//! Signing in at the OpenID provider, and staying signed in there.
//!
//! The protocol is that of the `oauth2` and `openidconnect` crates; what is here are the agent's own demands on a
//! provider, the HTTP client they speak through, and what a person sees.

mod browser;
mod code_flow;
mod device_flow;
mod id_token;
mod metadata;
mod opener;
mod page;
mod redirect;
mod requests;
mod revocation;
mod service_flow;
mod step_up;

pub use browser::Browser;
pub use device_flow::DevicePrompt;
pub use requests::RefreshFailure;
pub use step_up::Again;

use crate::web::{MAX_ANSWER, Web};
use metadata::Metadata;
use openidconnect::JsonWebKeySet;
use openidconnect::core::CoreJsonWebKey;
use parking_lot::RwLock;
use postern_protocol::control::{Principal, TYPE_ACCESS_TOKEN, TYPE_ID_TOKEN};
use postern_protocol::discovery::SignIn;
use postern_protocol::{Code, Problem, Timestamp};
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;

/// An OpenID provider whose metadata passed every check.
pub struct Provider {
    sign_in: SignIn,
    metadata: Metadata,
    /// Fetched anew when a token's signature does not fit: providers change their keys.
    keys: RwLock<Arc<JsonWebKeySet<CoreJsonWebKey>>>,
    web: Web,
}

/// A token of the provider that the relay takes as proof of identity.
#[derive(Clone)]
pub struct Proof {
    /// The token.
    pub token: SecretString,
    /// What it is.
    pub kind: ProofKind,
    /// For how long from its arrival the relay takes it.
    pub fresh_for: Duration,
}

/// What a [`Proof`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofKind {
    /// An ID token.
    IdToken,
    /// An access token (`at+jwt`).
    AccessToken,
}

impl ProofKind {
    /// Its type in RFC 8693's words.
    pub const fn token_type(self) -> &'static str {
        match self {
            Self::IdToken => TYPE_ID_TOKEN,
            Self::AccessToken => TYPE_ACCESS_TOKEN,
        }
    }
}

/// A sign-in that the provider vouches for.
#[derive(Clone)]
pub struct SignedIn {
    /// For the relay.
    pub proof: Proof,
    /// For the next proof, where the provider gives one.
    pub refresh_token: Option<SecretString>,
    /// Who it is, as far as the tokens tell.
    pub principal: Option<Principal>,
    /// When the person proved themself, where the provider tells.
    pub auth_time: Option<Timestamp>,
    /// How strongly they did, in the provider's words.
    pub acr: Option<String>,
}

impl Provider {
    /// Reads the provider's metadata and keys.
    pub async fn discover(sign_in: &SignIn) -> Result<Self, Problem> {
        let plain_loopback = sign_in.issuer.scheme() == "http";
        let web = Web::new(None, plain_loopback, MAX_ANSWER)
            .map_err(|error| Problem::new(Code::ProviderUnreachable).detail(error.to_string()))?;
        let metadata = metadata::fetch(&web, &sign_in.issuer, plain_loopback).await?;
        let keys = metadata::fetch_keys(&web, &metadata).await?;
        Ok(Self { sign_in: sign_in.clone(), metadata, keys: RwLock::new(Arc::new(keys)), web })
    }

    /// Is this the provider whose tokens name `issuer`?
    pub fn is_issuer(&self, issuer: &str) -> bool {
        self.metadata.issuer.trim_end_matches('/') == issuer.trim_end_matches('/')
    }

    /// Is this the provider that `sign_in` describes?
    pub fn serves(&self, sign_in: &SignIn) -> bool {
        self.sign_in == *sign_in
    }
}

fn failed(detail: impl Into<String>) -> Problem {
    Problem::new(Code::SignInFailed).detail(detail)
}

fn unacceptable(detail: impl Into<String>) -> Problem {
    Problem::new(Code::ProviderInvalid).detail(detail)
}

#[cfg(test)]
pub(crate) mod mock_provider;
#[cfg(test)]
mod tests;
