//! The way to the relay as the data path sees it now. The engine writes it, every request reads it.

use crate::activity::{Activity, Asked};
use crate::denials::Denials;
use crate::engine::Engine;
use crate::link::{AppStream, Body, Link, StreamEnd, decision_in, problem_in};
use futures_util::future::BoxFuture;
use http::header::PROXY_AUTHORIZATION;
use http::{HeaderValue, Request, Response};
use hyper::body::{Body as _, Incoming};
use parking_lot::Mutex;
use postern_agent_core::BY_HAND;
use postern_protocol::control::{AppEntry, AppKind};
use postern_protocol::local::{Denial, DenialKind};
use postern_protocol::{AppName, Code, DecisionId, Fault, Problem, Retry, StepUp, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// How long a request waits for a new session token before it fails.
const RENEWAL_LIMIT: Duration = Duration::from_secs(10);
/// How long a request waits for a person to sign in afresh.
const STEP_UP_LIMIT: Duration = Duration::from_secs(120);
const FINISH: &str = "Finish the sign-in in your browser, then try again.";
const REPEAT: &str = "Sign in again where your browser asks you to, or by: postern login. Then repeat what you did.";
/// How long the relay's own word on a cut, which names the decision, may take to come.
const CUT_TOLD: Duration = Duration::from_secs(2);
/// Refusals a slow reader of the event stream may fall behind by.
const DENIED_BACKLOG: usize = 64;

/// A connection and the token that goes with it: bound to each other, so replaced together.
pub struct Way {
    /// The connection.
    pub link: Arc<Link>,
    /// `Bearer <session token>`, marked sensitive.
    pub bearer: HeaderValue,
}

/// What happened to the user's requests and streams, for whoever watches.
#[derive(Clone, Debug)]
pub enum Notice {
    /// One was refused or cut.
    Denied(Denial),
    /// Streams are held.
    Held {
        /// Why.
        denial: Denial,
        /// When they are cut if nothing is done.
        until: Timestamp,
    },
    /// Streams of this app that were held flow again.
    Resumed(AppName),
}

/// What the engine keeps up to date.
pub struct Uplink {
    way: Mutex<Result<Arc<Way>, Problem>>,
    apps: watch::Sender<Arc<[AppEntry]>>,
    denials: Denials,
    activity: Arc<Activity>,
    notices: broadcast::Sender<Notice>,
}

impl Uplink {
    /// With nobody signed in.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            way: Mutex::new(Err(Problem::new(Code::NotSignedIn))),
            apps: watch::Sender::new(Arc::from([])),
            denials: Denials::default(),
            activity: Arc::default(),
            notices: broadcast::Sender::new(DENIED_BACKLOG),
        })
    }

    /// Replaces the way, or says why there is none. Streams of the way before live on until they end.
    pub fn set(&self, way: Option<(Arc<Link>, SecretString)>, why_not: Problem) {
        let next = match way.map(|(link, token)| (link, bearer(&token))) {
            Some((link, Some(bearer))) => Ok(Arc::new(Way { link, bearer })),
            Some((_, None)) => Err(Problem::new(Code::TokenInvalid).detail("it cannot be a header's value")),
            None => Err(why_not),
        };
        *self.way.lock() = next;
    }

    /// The way now, or why there is none.
    pub fn current(&self) -> Result<Arc<Way>, Problem> {
        self.way.lock().clone()
    }

    /// Replaces the list of apps.
    pub fn set_apps(&self, apps: Vec<AppEntry>) {
        self.apps.send_if_modified(|known| {
            let changed = **known != *apps;
            if changed {
                *known = apps.into();
            }
            changed
        });
    }

    /// The apps as the relay listed them last.
    pub fn apps(&self) -> Arc<[AppEntry]> {
        self.apps.borrow().clone()
    }

    /// Follows the list of apps.
    pub fn watch_apps(&self) -> watch::Receiver<Arc<[AppEntry]>> {
        self.apps.subscribe()
    }

    /// Tells that a live stream was cut.
    pub fn cut(&self, app: AppName, problem: Problem) {
        self.denied(DenialKind::Cut, app, problem);
    }

    /// Tells of a live stream or answer that ended other than in good order, if it was cut and nothing else tells that.
    /// Returns the end with its cause, where that is known here.
    pub fn ended(self: &Arc<Self>, app: &AppName, end: StreamEnd) -> StreamEnd {
        let Some(problem) = self.cause(end) else { return end };
        let (uplink, app, code) = (Arc::clone(self), app.clone(), problem.code);
        tokio::spawn(async move {
            tokio::time::sleep(CUT_TOLD).await;
            // Twice, for the relay's word may have come before the stream's end as well as after it.
            if let Some(denial) = uplink.denials.note_cut_untold(app, problem, 2 * CUT_TOLD) {
                uplink.activity.told(&denial);
                let _ = uplink.notices.send(Notice::Denied(denial));
            }
        });
        StreamEnd::Cut(code)
    }

    /// Why streams end so, if it is not the app's doing or the user's own.
    fn cause(&self, end: StreamEnd) -> Option<Problem> {
        match end {
            StreamEnd::Cut(code) => Some(Problem::new(code)).filter(|_| code.fault() != Fault::Upstream),
            StreamEnd::Closed => {
                let over = self.current().err()?;
                (!matches!(over.code, Code::NotSignedIn | Code::AgentNotRunning)).then_some(over)
            }
            StreamEnd::Broken | StreamEnd::GivenUp => None,
        }
    }

    /// Tells that live streams are held.
    pub fn held(&self, app: AppName, problem: Problem, until: Timestamp) {
        let denial = self.denials.note(DenialKind::Held, app, problem);
        self.activity.told(&denial);
        let _ = self.notices.send(Notice::Held { denial, until });
    }

    /// Tells that streams that were held flow again.
    pub fn resumed(&self, app: AppName) {
        let _ = self.notices.send(Notice::Resumed(app));
    }

    /// Tells that a request or stream was refused or cut.
    pub fn denied(&self, kind: DenialKind, app: AppName, problem: Problem) {
        let denial = self.note(kind, app, problem);
        self.activity.told(&denial);
        // Nobody need be watching.
        let _ = self.notices.send(Notice::Denied(denial));
    }

    /// The same of what was asked for just now.
    fn refused(&self, kind: DenialKind, app: AppName, asked: Asked, problem: Problem) {
        let denial = self.note(kind, app, problem);
        self.activity.refused(&denial, asked);
        let _ = self.notices.send(Notice::Denied(denial));
    }

    fn note(&self, kind: DenialKind, app: AppName, problem: Problem) -> Denial {
        tracing::debug!(%app, code = %problem.code, decision = problem.decision.as_ref().map(DecisionId::as_str), "refused");
        self.denials.note(kind, app, problem)
    }

    /// The last refusals.
    pub fn denials(&self) -> &Denials {
        &self.denials
    }

    /// What went through lately, and how apps are used.
    pub fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Follows refusals, cuts and holds.
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }
}

fn bearer(token: &SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What the data path asks of the engine when the relay refuses the session rather than the request.
pub trait Renewals: Send + Sync {
    /// Resolves once a newer token is in the uplink, or why it cannot be.
    fn renew(&self, code: Code) -> BoxFuture<'_, Result<(), Problem>>;
    /// Resolves once the session token is that of a sign-in as fresh or strong as this, or why it will not be; without
    /// `waits` once that sign-in has begun.
    fn step_up(&self, wanted: StepUp, waits: bool) -> BoxFuture<'static, Result<(), Problem>>;
    /// The session itself was refused; the engine finds out what that means.
    fn refused(&self, code: Code);
}

impl Renewals for Engine {
    fn renew(&self, code: Code) -> BoxFuture<'_, Result<(), Problem>> {
        Box::pin(Self::renew(self, code))
    }

    fn step_up(&self, wanted: StepUp, waits: bool) -> BoxFuture<'static, Result<(), Problem>> {
        let engine = self.clone();
        Box::pin(async move { engine.step_up(wanted, waits).await })
    }

    fn refused(&self, code: Code) {
        Self::refused(self, code);
    }
}

/// How listeners and local API reach apps: by the uplink, renewing the session once where that can help.
#[derive(Clone)]
pub struct Access {
    uplink: Arc<Uplink>,
    renewals: Arc<dyn Renewals>,
}

impl Access {
    /// By `uplink`, kept fresh by `renewals`.
    pub fn new(uplink: Arc<Uplink>, renewals: Arc<dyn Renewals>) -> Self {
        Self { uplink, renewals }
    }

    /// The uplink.
    pub fn uplink(&self) -> &Arc<Uplink> {
        &self.uplink
    }

    /// Sends a request to the app its `Host` names. A refusal by the relay is an `Err`, what the app answers is not.
    pub async fn request(&self, app: &AppName, request: Request<Body>) -> Result<Response<Incoming>, Problem> {
        let (asked, spare) = (Asked::request(&request), replay_of(&request));
        let mut problem = match self.send(request).await {
            Ok(response) => return Ok(self.answered(app, asked, response)),
            Err(problem) => problem,
        };
        // Also where the request cannot be sent again: its sender will.
        let mended = self.mended(&mut problem, spare.is_some()).await;
        let problem = match spare {
            Some(spare) if mended => match self.send(spare).await {
                Ok(response) => return Ok(self.answered(app, asked, response)),
                Err(problem) => problem,
            },
            _ => problem,
        };
        self.uplink.refused(DenialKind::Request, app.clone(), asked, problem.clone());
        Err(problem)
    }

    fn answered(&self, app: &AppName, asked: Asked, response: Response<Incoming>) -> Response<Incoming> {
        let (status, decision) = (response.status().as_u16(), decision_in(response.headers()));
        self.uplink.activity.allowed(app, asked, Some(status), decision);
        response
    }

    /// Opens a stream to a `tcp` app of the list.
    pub async fn connect(&self, app: &AppName) -> Result<AppStream, Problem> {
        let (asked, in_use) = (Asked::stream(), self.uplink.activity.begin(app));
        match self.open(app).await {
            Ok(stream) => {
                self.uplink.activity.allowed(app, asked, None, stream.decision().cloned());
                Ok(stream.counted(in_use))
            }
            Err(problem) => {
                self.uplink.refused(DenialKind::Stream, app.clone(), asked, problem.clone());
                Err(problem)
            }
        }
    }

    async fn open(&self, app: &AppName) -> Result<AppStream, Problem> {
        let way = self.uplink.current()?;
        let port = port_of(&self.uplink.apps(), app)?;
        let mut problem = match way.link.connect(app, port, &way.bearer).await {
            Ok(stream) => return Ok(stream),
            Err(problem) => self.unless_over(problem),
        };
        if !self.mended(&mut problem, true).await {
            return Err(problem);
        }
        let way = self.uplink.current()?;
        way.link.connect(app, port, &way.bearer).await
    }

    async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, Problem> {
        let way = self.uplink.current()?;
        request.headers_mut().insert(PROXY_AUTHORIZATION, way.bearer.clone());
        let answer = way.link.request(request).await.map_err(|problem| self.unless_over(problem))?;
        problem_in(answer).await
    }

    /// Where the session ended meanwhile, and its connection with it, that is why.
    fn unless_over(&self, problem: Problem) -> Problem {
        match self.uplink.current() {
            Err(over) if problem.code == Code::RelayUnreachable && over.code != Code::NotSignedIn => over,
            _ => problem,
        }
    }

    /// Sees to what the refusal asks for; true: try again. `waits`: can whoever asked be kept waiting for a person?
    async fn mended(&self, refusal: &mut Problem, waits: bool) -> bool {
        if refusal.code == Code::StepUpRequired {
            return self.stepped_up(refusal, waits).await;
        }
        self.renewed(refusal).await
    }

    async fn stepped_up(&self, refusal: &mut Problem, waits: bool) -> bool {
        let wanted = refusal.step_up.as_deref().cloned().unwrap_or_default();
        let why = match tokio::time::timeout(STEP_UP_LIMIT, self.renewals.step_up(wanted, waits)).await {
            Ok(Ok(())) if waits => return true,
            // Sent in pieces as it came, it cannot be sent again; the sign-in goes on without it.
            Ok(Ok(())) => {
                refusal.fix = Some(REPEAT.into());
                return false;
            }
            Ok(Err(why)) => why,
            Err(_) => Problem::new(Code::SignInTimeout).advice(None, Some(FINISH.into())),
        };
        match why.code {
            // The decision stands; what became of the wait is what the person has to know.
            Code::SignInCancelled | Code::SignInTimeout | Code::SignInFailed => {
                let reason = refusal.reason.take();
                *refusal = Problem { decision: refusal.decision.take(), reason, ..why };
            }
            // Nothing begins by itself, and what to do instead is known.
            Code::StepUpRequired => (refusal.detail, refusal.fix) = (why.detail, why.fix),
            _ => {
                refusal.detail = why.detail.or(Some(why.title));
                refusal.fix = Some(BY_HAND.into());
            }
        }
        false
    }

    /// Asks for a newer token where the refusal says that one would help.
    async fn renewed(&self, refusal: &Problem) -> bool {
        // With no way there was no refusal: the engine itself said why there is none.
        if self.uplink.current().is_err() {
            return false;
        }
        match refusal.code.retry() {
            Retry::AfterRenewal => {
                let renewal = self.renewals.renew(refusal.code);
                matches!(tokio::time::timeout(RENEWAL_LIMIT, renewal).await, Ok(Ok(())))
            }
            Retry::AfterSignIn => {
                self.renewals.refused(refusal.code);
                false
            }
            Retry::No | Retry::Later => false,
        }
    }
}

/// The port an app of kind `tcp` is known by at the relay.
fn port_of(apps: &[AppEntry], app: &AppName) -> Result<u16, Problem> {
    let entry = apps
        .iter()
        .find(|entry| entry.name == *app)
        .ok_or_else(|| Problem::new(Code::AppUnknown).detail(format!("{app} is not in the list of apps")))?;
    match (entry.kind, entry.port) {
        (AppKind::Tcp, Some(port)) => Ok(port),
        _ => Err(Problem::new(Code::AppKindMismatch).detail(format!("{app} is an {} app", entry.kind.as_str()))),
    }
}

/// The same request again, if it has no body: a body is streamed, so it exists only once.
fn replay_of(request: &Request<Body>) -> Option<Request<Body>> {
    request.body().is_end_stream().then(|| {
        let mut copy = Request::new(crate::link::full(""));
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.headers_mut() = request.headers().clone();
        copy
    })
}

#[cfg(test)]
mod tests;
