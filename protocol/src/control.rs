//! Control messages between agent and relay: enrolment, session, apps, events. All JSON but where noted.

use crate::binding::Salt;
use crate::code::Code;
use crate::id::{AppName, DecisionId, DeviceId, SessionId};
use crate::problem::StepUp;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// `POST /enroll`: on the public listener after a sign-in; over mTLS with a live session to renew.
pub const ENROLL: &str = "/enroll";
/// `POST /session` over mTLS: token exchange (RFC 8693, form-encoded), renewal, posture.
pub const SESSION: &str = "/session";
/// `POST /posture`, with a [`Posture`] as JSON: replaces the session's last report. Answer 204.
pub const POSTURE: &str = "/posture";
/// `DELETE /session` is sign-out, for a [`SignOutReason`]: answer 204, or [`SessionLapsed`]. `GET /apps`: the apps of the principal.
pub const APPS: &str = "/apps";
/// `GET /events`: JSON lines that never end.
pub const EVENTS: &str = "/events";
/// The authority that names the relay itself rather than an app. Not a legal app name.
pub const CONTROL_AUTHORITY: &str = "postern.relay";

/// RFC 8693 §2.1 grant type of `POST /session`.
pub const GRANT_TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// RFC 8693 §3 type of an ID token.
pub const TYPE_ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
/// RFC 8693 §3 type of an access token.
pub const TYPE_ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The query field of `DELETE /session` that tells why.
pub const REASON: &str = "reason";

/// Why an agent ends its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignOutReason {
    /// The user signed out.
    SignedOut,
    /// The provider refused to refresh the sign-in. If the session has live streams that their apps hold, it does not
    /// end but lapses.
    RefreshRefused,
}

impl SignOutReason {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::SignedOut, Self::RefreshRefused];

    /// As it stands in the query.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignedOut => "signed_out",
            Self::RefreshRefused => "refresh_refused",
        }
    }
}

/// Answer of `DELETE /session` where the session does not end yet: its tokens are void and live streams are held. A
/// provider's token of a new sign-in of the same user, shown to `POST /session`, lets both go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLapsed {
    /// Seconds from now until it ends without that.
    pub held_for: u64,
}

/// Proof of a sign-in and of the device key; starts a session.
#[derive(Clone, Serialize, Deserialize)]
pub struct EnrollRequest {
    /// PKCS#10 request in PEM, signed by the device key (P-256). Only its public key is used.
    pub csr: String,
    /// The ID token of the sign-in; for a service account its access token. Absent when renewing over mTLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What `token` is: [`TYPE_ID_TOKEN`] or [`TYPE_ACCESS_TOKEN`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_type: Option<String>,
    /// The salt of the token's nonce; absent where the flow has no nonce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<Salt>,
    /// What the device calls itself, for people. At most 64 characters are kept.
    #[serde(default)]
    pub device_name: String,
}

/// A device certificate and, after a sign-in, the session it started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnrollResponse {
    /// Certificate chain in PEM, leaf first.
    pub certificate: String,
    /// The device.
    pub device: DeviceId,
    /// The session this sign-in started, or the live one that renewed.
    pub session: SessionId,
    /// When the certificate ends.
    pub not_after: Timestamp,
}

/// Fields of the form body of `POST /session`, by name.
#[derive(Clone, Serialize, Deserialize)]
pub struct SessionRequest {
    /// [`GRANT_TOKEN_EXCHANGE`].
    pub grant_type: String,
    /// A fresh token of the provider.
    pub subject_token: String,
    /// [`TYPE_ID_TOKEN`] or [`TYPE_ACCESS_TOKEN`].
    pub subject_token_type: String,
    /// The session, as enrolment named it.
    pub session: SessionId,
    /// The device's posture: a [`Posture`] as JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posture: Option<String>,
}

/// Answer of `POST /session` (RFC 8693 §2.2.1).
#[derive(Clone, Serialize, Deserialize)]
pub struct SessionResponse {
    /// The session token: a JWT (`typ: at+jwt`) bound to the certificate of this connection.
    pub access_token: String,
    /// Always [`TYPE_ACCESS_TOKEN`].
    pub issued_token_type: String,
    /// Always `Bearer`; the binding is the certificate's (RFC 8705 §3).
    pub token_type: String,
    /// Seconds from now until it ends.
    pub expires_in: u64,
    /// Seconds from now until the session ends unless its user signs in afresh; absent: not for that cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<u64>,
    /// The session.
    pub session: SessionId,
    /// Who the relay holds the user to be.
    pub principal: Principal,
}

/// A principal as shown to people. Identity is (issuer, subject) alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Principal {
    /// The provider.
    pub issuer: String,
    /// The provider's name for the principal.
    pub subject: String,
    /// For people; never identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// For people; never identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Groups of the current token; absent claim: none.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// The device's state as the agent saw it. Always self-asserted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Posture {
    /// `linux`, `macos`, `windows`.
    pub os: String,
    /// The system's version, as it names itself.
    pub os_version: String,
    /// The kernel's version, as it names itself. Absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_version: Option<String>,
    /// The agent's version.
    pub agent_version: String,
    /// Where the device key lives: `keyring`, `memory`, `file`, `tpm`.
    pub key_storage: String,
    /// Is the system disk encrypted? Absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_encrypted: Option<bool>,
    /// Is a host firewall on? Absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall: Option<bool>,
    /// Does the screen lock by itself? Absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screen_lock: Option<bool>,
}

/// What an app speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum AppKind {
    /// HTTP requests, each decided on its own.
    Http,
    /// A TCP stream, decided at its opening and at each re-check.
    Tcp,
}

impl AppKind {
    /// `http` or `tcp`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

/// `GET /apps`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppList {
    /// The apps the principal may know of, by name.
    pub apps: Vec<AppEntry>,
}

/// One app as the principal sees it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct AppEntry {
    /// Its name.
    pub name: AppName,
    /// What it speaks.
    pub kind: AppKind,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// The port a `tcp` app is known by (`CONNECT app:port`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Would a request now be allowed?
    pub allowed: bool,
    /// If not: the policy author's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// If not: what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// If only a fresher or stronger sign-in is missing: which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_up: Option<StepUp>,
}

/// One line of `GET /events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RelayEvent {
    /// Sent first and at each quiet interval, so that silence means a dead connection.
    Alive,
    /// The session, device or principal was revoked; `code` tells which.
    Revoked {
        /// The cause.
        code: Code,
    },
    /// A stream was cut.
    Cut {
        /// The app it led to.
        app: AppName,
        /// The decision that cut it.
        decision: DecisionId,
        /// The cause.
        code: Code,
        /// In the policy author's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// What to do, in the policy author's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fix: Option<String>,
        /// The sign-in with which it could be opened again, where the code is `step_up_required`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step_up: Option<StepUp>,
    },
    /// Streams were frozen: no byte passes until the user has signed in again.
    Held {
        /// The app they lead to.
        app: AppName,
        /// The decision that froze them.
        decision: DecisionId,
        /// The cause.
        code: Code,
        /// When they are cut if nothing is done.
        until: Timestamp,
        /// In the policy author's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// What to do, in the policy author's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fix: Option<String>,
        /// The sign-in that would let them flow again, where the code is `step_up_required`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step_up: Option<StepUp>,
    },
    /// Frozen streams flow again.
    Resumed {
        /// The app they lead to.
        app: AppName,
    },
    /// The list of apps, or what is allowed, may have changed.
    AppsChanged,
    /// The relay is about to stop: open new streams elsewhere or later.
    Draining,
}
