//! The document at `/.well-known/postern`: all that an agent needs to know of a relay before it signs in.

use crate::spiffe::TrustDomain;
use serde::{Deserialize, Serialize};
use url::Url;

/// Where the document stands below a relay's address.
pub const PATH: &str = "/.well-known/postern";

/// What a relay tells anyone who asks. Public, and so holds nothing secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovery {
    /// Version of this document: 1.
    pub version: u32,
    /// The relay's public HTTPS address, the `iss` of its tokens.
    pub issuer: Url,
    /// The organisation's name, for people.
    pub organisation: String,
    /// The trust domain of its device certificates.
    pub trust_domain: TrustDomain,
    /// Where requests go.
    pub relay: RelayEndpoint,
    /// Where people sign in.
    pub sign_in: SignIn,
}

/// The relay's mTLS endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayEndpoint {
    /// `host:port` of the QUIC endpoint (UDP).
    pub quic: String,
    /// The name its certificate carries.
    pub server_name: String,
    /// The authority, in PEM, that signs that certificate; nothing else is trusted there.
    pub ca_pem: String,
}

/// The OpenID provider and how to talk to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignIn {
    /// The OpenID issuer.
    pub issuer: Url,
    /// The public client of the agent there.
    pub client_id: String,
    /// Scopes to ask for, `openid` among them.
    pub scopes: Vec<String>,
    /// `resource` (RFC 8707) or audience of access tokens for the relay, where the provider needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// A fixed loopback port for providers that insist on an exact redirect; absent: any free port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_port: Option<u16>,
    /// Seconds after its issue for which the relay takes a token of the provider: the agent refreshes before.
    #[serde(default = "default_token_max_age")]
    pub token_max_age: u64,
    /// Seconds that may have passed since a person proved themself to the provider (`max_age` of a sign-in); absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
}

const fn default_token_max_age() -> u64 {
    15 * 60
}
