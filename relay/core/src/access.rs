//! The decision: may this principal, on this device, in this state, do this, now?
//!
//! [`decide`] is pure, total and the only maker of a [`Permit`]. Admission and every later re-check call it.

mod simulate;
mod visible;

pub use simulate::{Answer, Supposed, simulate, would};
pub use visible::visible;

use crate::app::{App, AppTable};
use crate::certificate::VerifiedDevice;
use crate::forward;
use crate::policy::{Facts, Policy, Verdict};
use crate::principal::PrincipalKey;
use crate::revocation::Revocations;
use crate::token::VerifiedSession;
use postern_protocol::control::{AppKind, Posture};
use postern_protocol::{AppName, Code, DecisionId, DeviceId, Problem, SessionId, StepUp, Timestamp};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// How often a stream is decided anew whose policies look at the time: the most by which it outlives a window.
const TIME_WINDOW: Duration = Duration::from_secs(15);

/// Everything that decides and can change while the relay runs; replaced as a whole.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What is withdrawn.
    pub revocations: Arc<Revocations>,
    /// The policy, and with it the apps it was loaded for.
    pub policy: Arc<Policy>,
    /// How old a posture report may be; absent: none is asked for.
    pub posture_max_age: Option<Duration>,
    /// Counts replacements, so that a holder can tell that its snapshot is old.
    pub generation: u64,
}

impl Snapshot {
    /// The apps.
    pub fn apps(&self) -> &AppTable {
        self.policy.apps()
    }
}

/// What is to be done with the app.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Open a stream to a `tcp` app.
    Connect {
        /// The port named in `CONNECT app:port`.
        port: u16,
    },
    /// Make an HTTP request to an `http` app.
    Request {
        /// The method.
        method: String,
        /// The path as it is sent on, without the query.
        path: String,
    },
}

/// A device's posture and when the relay received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostureReport {
    /// What the agent said.
    pub posture: Posture,
    /// When.
    pub at: Timestamp,
}

/// The unit of decision. Streams keep theirs for the re-check.
#[derive(Clone, Debug)]
pub struct Request {
    /// The id of the decision to be made; a re-check takes a new one.
    pub id: DecisionId,
    /// The app asked for.
    pub app: AppName,
    /// What is to be done.
    pub action: Action,
    /// The authority the request named.
    pub host: String,
    /// Where the connection comes from.
    pub source: IpAddr,
    /// Did the rate limiter let it pass?
    pub within_rate: bool,
    /// The device's last posture report.
    pub posture: Option<Arc<PostureReport>>,
}

/// The answer to a request, and what the audit log needs to know of it.
#[derive(Debug)]
pub struct Decision {
    /// Its id.
    pub id: DecisionId,
    /// A permit, or what the requester is told.
    pub outcome: Result<Permit, Denial>,
    /// The true cause of a denial, for the audit log alone: the requester of a hidden app is told that there is none.
    pub cause: Option<Code>,
    /// The determining policies by their `@id`, for the audit log alone.
    pub policies: Vec<String>,
}

/// What a refused requester is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub code: Code,
    /// In the policy author's words.
    pub reason: Option<String>,
    /// What to do, in the policy author's words.
    pub fix: Option<String>,
    /// The sign-in that would mend it, where that is all that is missing.
    pub step_up: Option<StepUp>,
}

impl Denial {
    /// As it travels; the decision is named once it is recorded.
    pub fn problem(&self) -> Problem {
        Problem::new(self.code).step_up(self.step_up.clone()).advice(self.reason.clone(), self.fix.clone())
    }
}

impl From<Code> for Denial {
    fn from(code: Code) -> Self {
        Self { code, reason: None, fix: None, step_up: None }
    }
}

/// Proof of an allow, good until its deadline. Only [`decide`] makes one.
#[derive(Debug)]
pub struct Permit {
    decision: DecisionId,
    app: Arc<App>,
    principal: PrincipalKey,
    device: DeviceId,
    session: SessionId,
    deadline: Timestamp,
}

impl Permit {
    /// The decision that made it.
    pub fn decision(&self) -> &DecisionId {
        &self.decision
    }

    /// The app it leads to.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Who.
    pub fn principal(&self) -> &PrincipalKey {
        &self.principal
    }

    /// On which device.
    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    /// In which session.
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// When it must be decided anew at the latest: the end of token, certificate or posture, whichever is first; 15
    /// seconds from the decision where a policy looks at the time.
    pub fn deadline(&self) -> Timestamp {
        self.deadline
    }
}

/// Decides `request`. The checks stand in a fixed order, and the first that fails names the code: certificate,
/// revocation, session token, limits, path, app, kind, compliance, posture, policy.
pub fn decide(
    device: &VerifiedDevice,
    session: &VerifiedSession,
    request: &Request,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Decision {
    let judged = judge(device, session, request, snapshot, now);
    let id = request.id.clone();
    match judged {
        Ok(Judgement { app, deadline, policies }) => {
            let permit = Permit {
                decision: id.clone(),
                app,
                principal: session.principal().clone(),
                device: device.id().clone(),
                session: session.session().clone(),
                deadline,
            };
            Decision { id, outcome: Ok(permit), cause: None, policies }
        }
        Err(refusal) => {
            let cause = Some(refusal.denial.code);
            let told = if refusal.conceal { Denial::from(Code::AppUnknown) } else { refusal.denial };
            Decision { id, outcome: Err(told), cause, policies: refusal.policies }
        }
    }
}

/// What an allow rests on.
struct Judgement {
    app: Arc<App>,
    deadline: Timestamp,
    policies: Vec<String>,
}

/// What a deny rests on.
struct Refusal {
    denial: Denial,
    /// Is the requester told that there is no such app instead?
    conceal: bool,
    policies: Vec<String>,
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self { denial: code.into(), conceal: false, policies: Vec::new() }
    }
}

fn judge(
    device: &VerifiedDevice,
    session: &VerifiedSession,
    request: &Request,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Result<Judgement, Refusal> {
    check_identity(device, session, snapshot, now)?;
    check_limits(request)?;
    let paths = check_path(&request.action)?;
    let app = check_app(&request.app, snapshot)?;
    let state = check_kind(&app, &request.action)
        .and_then(|()| check_compliance(device, snapshot))
        .and_then(|()| check_posture(request, snapshot, now));
    let policy = || check_policy(&app, &paths, session, request, snapshot, now);
    match (state, app.hidden) {
        (Ok(posture_ends), _) => {
            let policies = policy()?;
            let timed = snapshot.policy.is_timed(&app.name, &request.action);
            let window = if timed { now.plus(TIME_WINDOW) } else { Timestamp::from_millis(u64::MAX) };
            let deadline = session.expires().min(device.not_after()).min(posture_ends).min(window);
            Ok(Judgement { app, deadline, policies })
        }
        (Err(code), false) => Err(code.into()),
        // Of a hidden app's state only those hear whom the policy would let in.
        (Err(code), true) => Err(Refusal { conceal: policy().is_err_and(|refusal| refusal.conceal), ..code.into() }),
    }
}

/// The checks that do not depend on the app: certificate, revocation, session token.
pub fn check_identity(
    device: &VerifiedDevice,
    session: &VerifiedSession,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Result<(), Code> {
    device.check_validity(now)?;
    match snapshot.revocations.cause(device.id(), session.principal(), session.session()) {
        Some(code) => Err(code),
        None => check_current(session, snapshot).and_then(|()| check_token(device, session, now)),
    }
}

/// Was the token issued since the principal's claims last changed, and since the session lapsed? A new one will do.
fn check_current(session: &VerifiedSession, snapshot: &Snapshot) -> Result<(), Code> {
    let changed = snapshot.revocations.changed(session.principal()).map(|changed| changed.tokens_from);
    let lapsed = snapshot.revocations.lapsed(session.session()).map(|lapse| lapse.tokens_from);
    match changed.max(lapsed) {
        Some(from) if session.issued_at() < from => Err(Code::TokenExpired),
        _ => Ok(()),
    }
}

/// Is the device in order? One that is not keeps its session and may use no app.
fn check_compliance(device: &VerifiedDevice, snapshot: &Snapshot) -> Result<(), Code> {
    if snapshot.revocations.is_compliant(device.id()) { Ok(()) } else { Err(Code::DeviceNotCompliant) }
}

/// The token is good now and for this very certificate and device (RFC 8705 §3).
fn check_token(device: &VerifiedDevice, session: &VerifiedSession, now: Timestamp) -> Result<(), Code> {
    if now >= session.expires() {
        return Err(Code::TokenExpired);
    }
    if now.plus(crate::limits::CLOCK_SKEW) < session.not_before() {
        return Err(Code::TokenInvalid);
    }
    let same = |a: &str, b: &str| a.as_bytes().ct_eq(b.as_bytes());
    let bound = same(session.certificate_claim(), device.thumbprint())
        & same(session.device_claim().as_str(), device.id().as_str());
    if bool::from(bound) { Ok(()) } else { Err(Code::TokenWrongDevice) }
}

fn check_limits(request: &Request) -> Result<(), Code> {
    if request.within_rate { Ok(()) } else { Err(Code::RateLimited) }
}

/// Every reading of the path. Stands before the look-up of the app, so that it tells nothing about hidden ones.
fn check_path(action: &Action) -> Result<Vec<Cow<'_, str>>, Code> {
    match action {
        Action::Request { path, .. } => forward::readings(path),
        Action::Connect { .. } => Ok(vec![Cow::Borrowed("")]),
    }
}

fn check_app(name: &AppName, snapshot: &Snapshot) -> Result<Arc<App>, Code> {
    snapshot.apps().get(name).cloned().ok_or(Code::AppUnknown)
}

fn check_kind(app: &App, action: &Action) -> Result<(), Code> {
    match (app.kind, action) {
        (AppKind::Http, Action::Request { .. }) => Ok(()),
        (AppKind::Tcp, Action::Connect { port }) if *port == app.upstream.port => Ok(()),
        _ => Err(Code::AppKindMismatch),
    }
}

/// Is the posture fresh? Until when?
fn check_posture(request: &Request, snapshot: &Snapshot, now: Timestamp) -> Result<Timestamp, Code> {
    let Some(max_age) = snapshot.posture_max_age else { return Ok(Timestamp::from_millis(u64::MAX)) };
    let ends = request.posture.as_ref().map(|report| report.at.plus(max_age));
    ends.filter(|ends| *ends > now).ok_or(Code::PostureStale)
}

/// Asks the policy once for each reading of the path; all must be allowed. A sign-in is asked for only if none is denied
/// for another cause.
fn check_policy(
    app: &App,
    paths: &[Cow<'_, str>],
    session: &VerifiedSession,
    request: &Request,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Result<Vec<String>, Refusal> {
    let (mut determining, mut asking) = (Vec::new(), None);
    for path in paths {
        let Verdict { allowed, policies, reason, fix, step_up, permitted } =
            snapshot.policy.ask(&app.name, &Facts { session, request, path, now });
        if allowed {
            determining.extend(policies);
            continue;
        }
        let code = if step_up.is_some() { Code::StepUpRequired } else { Code::PolicyDenied };
        // Whom a permit names may know of a hidden app: it opens to them once they have signed in anew.
        let conceal = app.hidden && !(permitted && step_up.is_some());
        let refusal = Refusal { denial: Denial { code, reason, fix, step_up }, conceal, policies };
        if code == Code::PolicyDenied {
            return Err(refusal);
        }
        asking.get_or_insert(refusal);
    }
    if let Some(refusal) = asking {
        return Err(refusal);
    }
    determining.sort_unstable();
    determining.dedup();
    Ok(determining)
}

#[cfg(test)]
mod tests;
