//! The relay's configuration: what `relay.toml` says, checked, with every path resolved.
//!
//! Nothing else in the relay reads the file or knows a default.

mod checks;
mod fault;
mod load;
mod on_lapse;
mod provider;
mod reader;
mod signals;

pub use checks::load_policy;
pub use fault::Fault;
pub use load::{Outline, load, outline};
pub(crate) use load::{is_loopback, text_of};
pub(crate) use reader::{Found, Section, Source, duration};

use postern_protocol::TrustDomain;
use postern_relay_core::policy::Policy;
use secrecy::SecretString;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// A configuration that passed every check.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// Its text.
    pub text: Arc<str>,
    /// The state directory that was given instead of the file's.
    pub state_override: Option<PathBuf>,
    /// The organisation's name, for people.
    pub organisation: String,
    /// The trust domain of device certificates.
    pub trust_domain: TrustDomain,
    /// Public address where it is fixed; otherwise it follows from the bound port.
    pub issuer: Option<Url>,
    /// Addresses to listen on.
    pub listen: Listen,
    /// Certificate files of the public listener; otherwise the relay's own authority issues one.
    pub tls: Option<TlsFiles>,
    /// Directory of the keys that `init` made.
    pub keys_dir: PathBuf,
    /// Directory of store, audit log and admin socket.
    pub state_dir: PathBuf,
    /// The Cedar policy file.
    pub policy_file: PathBuf,
    /// The audit log.
    pub audit_file: PathBuf,
    /// The OpenID provider.
    pub provider: ProviderConfig,
    /// How long a session token lives.
    pub token_lifetime: Duration,
    /// How long after its user proved themself a session ends, however often it is renewed; absent: never for that.
    pub session_max_age: Option<Duration>,
    /// How long a device certificate lives.
    pub certificate_lifetime: Duration,
    /// How old a posture report may be.
    pub posture_max_age: Duration,
    /// Limits.
    pub limits: Limits,
    /// The policy, parsed and validated against the apps, and with it the apps.
    pub policy: Arc<Policy>,
    /// Service accounts that may enrol, with the key each must use.
    pub service_accounts: Vec<ServiceAccount>,
    /// Who may tell of security events.
    pub signals: Vec<SignalsConfig>,
}

/// Addresses to listen on.
#[derive(Clone, Debug)]
pub struct Listen {
    /// UDP, mTLS.
    pub quic: SocketAddr,
    /// TCP, HTTPS without client certificates.
    pub public: SocketAddr,
    /// What discovery tells agents to dial; default: the issuer's host with the bound QUIC port.
    pub advertise_quic: Option<String>,
}

/// Certificate files of the public listener.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Chain in PEM, leaf first.
    pub certificate: PathBuf,
    /// Private key in PEM.
    pub key: PathBuf,
}

/// The OpenID provider.
#[derive(Clone, Debug)]
pub struct ProviderConfig {
    /// The issuer.
    pub issuer: Url,
    /// The issuer exactly as configured: tokens are compared with it byte by byte.
    pub issuer_text: String,
    /// The agent's client there.
    pub client_id: String,
    /// Scopes the agent asks for.
    pub scopes: Vec<String>,
    /// The claim that lists groups.
    pub groups_claim: String,
    /// How old a token may be.
    pub token_max_age: Duration,
    /// `aud` of access tokens meant for the relay.
    pub resource: Option<String>,
    /// Fixed loopback port of the redirect.
    pub redirect_port: Option<u16>,
    /// Does its back-channel logout end sessions here?
    pub backchannel_logout: bool,
    /// May its logout tokens lack their `typ` and their end? For providers older than the final specification.
    pub backchannel_logout_untyped: bool,
    /// Must an ID token that enrols be bound to the device key by its nonce?
    pub require_nonce: bool,
}

/// Limits.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests per second and session.
    pub requests_per_second: NonZeroU32,
    /// Requests a session may make at once after a pause.
    pub burst: NonZeroU32,
    /// Enrolments per minute and source address.
    pub enrolments_per_minute: NonZeroU32,
    /// Connections at one time, per listener.
    pub connections: u32,
    /// Streams at one time, per connection.
    pub streams_per_connection: u32,
}

/// A service account that may enrol.
#[derive(Clone, Debug)]
pub struct ServiceAccount {
    /// Its subject at the provider.
    pub subject: String,
    /// base64url SHA-256 of its key's SubjectPublicKeyInfo.
    pub key_thumbprint: String,
}

/// Who may tell of security events (RFC 8935).
#[derive(Clone, Debug)]
pub struct SignalsConfig {
    /// Its name, for people.
    pub name: String,
    /// `iss` of its events, exactly.
    pub issuer: String,
    /// Where its keys are.
    pub jwks_uri: Url,
    /// `aud` of events for this relay.
    pub audience: String,
    /// The bearer secret it delivers with, if it has one.
    pub authorization: Option<SecretString>,
}

#[cfg(test)]
mod tests;
