//! The local API: what CLI and desktop ask of the agent over its Unix socket. HTTP with JSON bodies;
//! every failure is a [`Problem`](crate::Problem).

mod activity;
mod doctor;
mod settings;

pub use activity::{Activity, ActivityEntry, ActivityKind, AppTraffic};
pub use doctor::{Check, CheckResult, Finding, LogLine, Logs};
pub use settings::Settings;

use crate::control::{AppEntry, Posture, Principal};
use crate::id::{AppName, DecisionId, DeviceId, SessionId};
use crate::problem::Problem;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

/// `GET`: [`Status`].
pub const STATUS: &str = "/v1/status";
/// `GET`: [`LocalApps`].
pub const APPS: &str = "/v1/apps";
/// `POST` [`LoginRequest`], answered by [`LoginEvent`]s as JSON lines until the last, `online` or `failed`.
/// `DELETE`: ends a sign-in that waits for the person, which fails with `sign_in_cancelled`; 204, also where there is none.
pub const LOGIN: &str = "/v1/login";
/// `POST`, no body: signs out; answers [`SignedOut`].
pub const LOGOUT: &str = "/v1/logout";
/// `CONNECT /v1/connect/<app>` is written `POST` with `Upgrade: postern-stream`: 101, then the app's bytes.
pub const CONNECT: &str = "/v1/connect";
/// `GET`: [`Denials`].
pub const DENIALS: &str = "/v1/denials";
/// `GET`: [`LocalEvent`]s as JSON lines that never end.
pub const EVENTS: &str = "/v1/events";
/// `GET`: [`Activity`].
pub const ACTIVITY: &str = "/v1/activity";
/// `POST`, no body: [`Finding`]s as JSON lines, each as it is known.
pub const DOCTOR: &str = "/v1/doctor";
/// `GET`: [`Logs`].
pub const LOGS: &str = "/v1/logs";
/// `POST`, no body: examines as [`DOCTOR`] does and answers a document in JSON to give to an administrator: findings,
/// status, settings and log, without secrets and without the person's name.
pub const BUNDLE: &str = "/v1/bundle";
/// `GET` and `PUT`: [`Settings`].
pub const SETTINGS: &str = "/v1/settings";
/// `POST`, no body: the agent ends, as it does when the system asks it to. For systems that have no signals.
pub const STOP: &str = "/v1/stop";
/// The `Upgrade` token of [`CONNECT`].
pub const STREAM_UPGRADE: &str = "postern-stream";

/// File name of the socket in the state directory. On Windows the file holds the name of a pipe.
pub const SOCKET_NAME: &str = "agent.sock";

/// Where the agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum State {
    /// Nobody is signed in.
    SignedOut,
    /// A sign-in is under way in the browser.
    SigningIn,
    /// Signed in; the device's certificate is being issued.
    Enrolling,
    /// Reaching the relay.
    Connecting,
    /// Requests go through.
    Online,
    /// The relay cannot be reached; trying again.
    Offline,
    /// The session ended and only a new sign-in helps.
    Expired,
    /// The session, device or user was revoked.
    Revoked,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// Where it stands.
    pub state: State,
    /// The relay's address, once given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<Url>,
    /// The organisation, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// Who is signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// This device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceStatus>,
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionStatus>,
    /// How the relay is reached, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Carrier>,
    /// The device's state as this agent reported it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posture: Option<Posture>,
    /// Why it is not online, where there is a reason to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// What carries the connection to the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum Carrier {
    /// QUIC over UDP.
    Quic,
    /// TLS over TCP, because UDP does not get through: slower.
    Tcp,
}

/// The device in [`Status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct DeviceStatus {
    /// What the device calls itself.
    #[serde(default)]
    pub name: String,
    /// Its identifier, once enrolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<DeviceId>,
    /// base64url(SHA-256(SubjectPublicKeyInfo)): what a service account registers at the relay.
    pub key_thumbprint: String,
    /// Where the key lives: `keyring`, `memory`, `file`.
    pub key_storage: String,
    /// When the certificate ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<Timestamp>,
    /// The certificate's one identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<String>,
}

/// The session in [`Status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct SessionStatus {
    /// Its identifier.
    pub id: SessionId,
    /// When the current session token ends; it is renewed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_expires: Option<Timestamp>,
    /// When the person last proved themself at the provider, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_in: Option<Timestamp>,
    /// When the session ends unless the person signs in again; absent: it renews itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Timestamp>,
}

/// `POST /v1/logout`: no secret of the session is left on this device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct SignedOut {
    /// Where the agent stands.
    #[serde(flatten)]
    pub status: Status,
    /// Who should know that the session is over and could not be told. Empty where everybody knows.
    #[serde(default)]
    pub untold: Vec<Untold>,
}

/// Someone who could not be told of a sign-out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Untold {
    /// Who.
    pub who: Party,
    /// The session, as `postern-relay revoke session` names it.
    pub session: SessionId,
    /// When its last session token ends by itself, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_ends: Option<Timestamp>,
    /// Why they could not be told, and what to do about it.
    pub problem: Problem,
}

/// Who knows of a session besides the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum Party {
    /// The relay, which would take the session's last token until it ends.
    Relay,
    /// The identity provider, which would take the refresh token that the device had.
    Provider,
}

/// `GET /v1/apps`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct LocalApps {
    /// The apps, by name.
    pub apps: Vec<LocalApp>,
}

/// An app and where it is reached on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct LocalApp {
    /// What the relay says of it.
    #[serde(flatten)]
    pub entry: AppEntry,
    /// `http://app.localhost:port/`, or `127.0.0.1:port` of a `tcp` app.
    pub local: String,
    /// A command line that reaches it, where its port is that of a well-known protocol: `ssh`, `psql`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Why that address does not work, where it does not: another program has the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// `POST /v1/login`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct LoginRequest {
    /// The relay's address as typed: `relay.example`, `relay.example:8443`, or an https URL. Absent: the one
    /// in the configuration or of the last sign-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// A further authority, in PEM, to trust for the relay's public listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// How to sign in.
    #[serde(default)]
    pub method: LoginMethod,
    /// Keep secrets in memory only if there is no usable keyring.
    #[serde(default)]
    pub allow_memory_only: bool,
    /// While a session lives: sign in again to prolong it. It stays the same session and nothing of it is dropped.
    #[serde(default)]
    pub renew: bool,
    /// With `renew`: the app that wants more than a session; the sign-in is made as that app's policy wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
}

/// How to sign in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum LoginMethod {
    /// Authorization code with PKCE; the agent opens the system browser.
    #[default]
    Browser,
    /// The same, but only the URL is shown.
    NoBrowser,
    /// Device authorization grant (RFC 8628).
    DeviceCode,
    /// Client credentials of the service account in the configuration.
    ServiceAccount,
}

/// A line of the answer to [`LOGIN`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum LoginEvent {
    /// Open this in a browser (already done unless asked not to).
    Authorize {
        /// The authorization URL.
        url: Url,
    },
    /// Type this code at that address, on any device.
    DeviceCode {
        /// Where.
        verification_uri: Url,
        /// The same with the code filled in, where the provider offers it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verification_uri_complete: Option<Url>,
        /// What.
        user_code: String,
        /// When it ends.
        expires: Timestamp,
    },
    /// The provider vouched for the user.
    SignedIn,
    /// The device key is ready.
    KeyReady {
        /// Where it lives: `keyring`, `memory`, `file`.
        storage: String,
    },
    /// The relay issued the device certificate.
    Enrolled {
        /// The device.
        device: DeviceId,
    },
    /// All done.
    Online {
        /// The whole state.
        status: Box<Status>,
    },
    /// It did not work.
    Failed {
        /// Why.
        problem: Box<Problem>,
    },
}

/// `GET /v1/denials`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Denials {
    /// The last refusals, the newest first.
    pub denials: Vec<Denial>,
}

/// A refusal that the agent remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Denial {
    /// When, by the device's clock.
    pub at: Timestamp,
    /// The app asked for.
    pub app: AppName,
    /// What was refused.
    pub kind: DenialKind,
    /// Why, by which decision, and what to do.
    pub problem: Box<Problem>,
}

/// What a [`Denial`] refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum DenialKind {
    /// An HTTP request.
    Request,
    /// The opening of a stream.
    Stream,
    /// A live stream or request, which was cut.
    Cut,
    /// A live stream, which waits until its cause is mended.
    Held,
}

/// A line of [`EVENTS`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum LocalEvent {
    /// The state changed; also sent first.
    Status {
        /// The whole state.
        status: Box<Status>,
    },
    /// The apps changed.
    Apps {
        /// All of them.
        apps: Vec<LocalApp>,
    },
    /// A request was refused.
    Denied {
        /// The app asked for.
        app: AppName,
        /// The decision, where the relay made one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decision: Option<DecisionId>,
        /// Why.
        problem: Box<Problem>,
        /// When, by the device's clock.
        at: Timestamp,
        /// What was refused.
        kind: DenialKind,
    },
    /// Live streams of an app wait: no byte passes until the cause is mended.
    Held {
        /// The app they lead to.
        app: AppName,
        /// Why, by which decision, and what to do.
        problem: Box<Problem>,
        /// When they are cut if nothing is done, by the relay's clock.
        until: Timestamp,
    },
    /// Streams that waited flow again.
    Resumed {
        /// The app they lead to.
        app: AppName,
    },
    /// Requests went through or were refused; at most four of these a second, each with at most 100 entries, newest first.
    Activity {
        /// What is new; some are left out where there are too many.
        entries: Vec<ActivityEntry>,
    },
    /// How apps are used changed; at most one of these a second.
    Traffic {
        /// Those that changed.
        apps: Vec<AppTraffic>,
    },
}
