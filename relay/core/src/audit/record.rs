//! What is recorded: every decision, and every event that changes who may do what. Never a token, query or body.

use super::context::Context;
use crate::access::{Action, Decision, Request};
use crate::certificate::VerifiedDevice;
use crate::limits::MAX_AUDIT_FIELD_BYTES;
use crate::principal::PrincipalKey;
use crate::token::VerifiedSession;
use postern_protocol::{Code, DecisionId, DeviceId, SessionId, StepUp, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::net::IpAddr;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A request was decided.
    Decision,
    /// A device's connection was refused, or ended by the relay.
    Connection,
    /// Live streams were cut.
    StreamCut,
    /// Live streams were frozen until their user signs in again.
    StreamHeld,
    /// A device enrolled, or was refused.
    Enrolment,
    /// A device's certificate was renewed, or not.
    CertificateRenewal,
    /// A session token was issued, or refused.
    SessionRenewal,
    /// A session reported another posture than before.
    Posture,
    /// A session ended by sign-out; the detail tells why.
    SignOut,
    /// The provider renews a session's sign-in no longer, and its held streams wait for its user.
    SessionLapse,
    /// The provider told of a sign-out (OpenID Connect Back-Channel Logout), or somebody pretended to be it.
    BackChannelLogout,
    /// A transmitter told of a security event (RFC 8935), or somebody pretended to be one.
    SecurityEvent,
    /// A principal, device or session was revoked.
    Revocation,
    /// The revocation of a principal or device was taken back.
    Restoration,
    /// The policy was loaded, or refused.
    PolicyLoad,
    /// The relay started.
    Start,
    /// The relay stopped.
    Stop,
    /// An unfinished last line was found and taken away.
    Recovery,
    /// The log was found shorter than, or other than, the relay remembers it.
    Tampering,
    /// A new log was begun; the detail tells where the one before it ended.
    Rotation,
    /// Refusals that were too many to record singly; the detail counts them.
    Summary,
    /// A signed checkpoint.
    Checkpoint,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Allowed, done.
    Allow,
    /// Denied, refused.
    Deny,
}

/// One record. Long fields are cut when it is written; every field is escaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// When.
    #[serde(serialize_with = "as_text")]
    pub time: Timestamp,
    /// What.
    pub event: Event,
    /// How it ended.
    pub result: Outcome,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionId>,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<PrincipalKey>,
    /// On which device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// In which session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The app asked for.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "bounded")]
    pub app: Option<String>,
    /// `request` or `connect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<&'static str>,
    /// The HTTP method.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "bounded")]
    pub method: Option<String>,
    /// The path as it was sent, without the query.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "bounded")]
    pub path: Option<String>,
    /// The port of `CONNECT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The authority the request named.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "bounded")]
    pub host: Option<String>,
    /// Where the connection came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// How many live streams it was a re-check of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<usize>,
    /// The determining policies by `@id`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// The sign-in that the requester was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_up: Option<StepUp>,
    /// What a decision read of session and device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Box<Context>>,
    /// What else an auditor wants to know, never a secret.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "bounded")]
    pub detail: Option<String>,
}

impl Record {
    /// An event that ended well. Add what is known by the other methods.
    pub fn event(event: Event, now: Timestamp) -> Self {
        Self {
            time: now,
            event,
            result: Outcome::Allow,
            code: None,
            decision: None,
            principal: None,
            device: None,
            session: None,
            app: None,
            action: None,
            method: None,
            path: None,
            port: None,
            host: None,
            source: None,
            streams: None,
            policies: Vec::new(),
            step_up: None,
            context: None,
            detail: None,
        }
    }

    /// A decision.
    pub fn decision(
        device: &VerifiedDevice,
        session: &VerifiedSession,
        request: &Request,
        decision: &Decision,
        now: Timestamp,
    ) -> Self {
        let mut record = Self::event(Event::Decision, now).of_device(device.id()).of_session(session).asking(request);
        record.decision = Some(decision.id.clone());
        record.policies.clone_from(&decision.policies);
        record.step_up = decision.outcome.as_ref().err().and_then(|denial| denial.step_up.clone());
        record.context = Some(Box::new(Context::of(session.grant(), request)));
        match decision.cause {
            Some(code) => record.refused(code),
            None => record,
        }
    }

    /// It was refused for this cause.
    #[must_use]
    pub fn refused(mut self, code: Code) -> Self {
        (self.result, self.code) = (Outcome::Deny, Some(code));
        self
    }

    /// The device concerned.
    #[must_use]
    pub fn of_device(mut self, device: &DeviceId) -> Self {
        self.device = Some(device.clone());
        self
    }

    /// The principal concerned.
    #[must_use]
    pub fn of_principal(mut self, principal: &PrincipalKey) -> Self {
        self.principal = Some(principal.clone());
        self
    }

    /// The session and principal concerned.
    #[must_use]
    pub fn of_session(mut self, session: &VerifiedSession) -> Self {
        self.session = Some(session.session().clone());
        self.of_principal(session.principal())
    }

    /// The request concerned.
    #[must_use]
    pub fn asking(mut self, request: &Request) -> Self {
        self.decision = Some(request.id.clone());
        self.app = Some(request.app.as_str().into());
        self.host = Some(request.host.clone());
        match &request.action {
            Action::Request { method, path } => {
                self.action = Some("request");
                (self.method, self.path) = (Some(method.clone()), Some(path.clone()));
            }
            Action::Connect { port } => (self.action, self.port) = (Some("connect"), Some(*port)),
        }
        self.from(request.source)
    }

    /// Where it came from.
    #[must_use]
    pub fn from(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// What else an auditor wants to know, never a secret.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

/// Writes at most [`MAX_AUDIT_FIELD_BYTES`] of a field, and marks what was cut.
fn bounded<S: Serializer>(field: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = field.as_deref().unwrap_or_default();
    if text.len() <= MAX_AUDIT_FIELD_BYTES {
        return serializer.serialize_str(text);
    }
    let end = (0..=MAX_AUDIT_FIELD_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let kept = text.get(..end).unwrap_or_default();
    serializer.serialize_str(&format!("{kept}...[{}{CUT}", text.len() - end))
}

/// How a field ends that was cut.
pub(super) const CUT: &str = " bytes cut]";

/// RFC 3339.
pub(super) fn as_text<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

/// The reverse of [`as_text`], to the millisecond.
pub(super) fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time = Timestamp::parse(&text).ok_or_else(|| serde::de::Error::custom("not a time of RFC 3339"))?;
    Ok(Some(time))
}
