//! The list of apps, by the same path a request takes.

use super::{Action, Denial, PostureReport, Request, Snapshot, check_identity, judge};
use crate::app::App;
use crate::certificate::VerifiedDevice;
use crate::token::VerifiedSession;
use postern_protocol::control::{AppEntry, AppKind};
use postern_protocol::{DecisionId, Timestamp};
use std::net::IpAddr;
use std::sync::Arc;

/// The apps this session may know of, each with what a request now would be told: `GET /` of an `http` app, the
/// opening of a stream of a `tcp` app. A hidden app that would refuse is left out.
pub fn visible(
    device: &VerifiedDevice,
    session: &VerifiedSession,
    source: IpAddr,
    posture: Option<&Arc<PostureReport>>,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Result<Vec<AppEntry>, Denial> {
    check_identity(device, session, snapshot, now)?;
    let listed = |app: &Arc<App>| {
        let request = probe(app, source, posture.cloned(), now);
        let denial = match judge(device, session, &request, snapshot, now) {
            Ok(_) => None,
            Err(refusal) if refusal.conceal => return None,
            Err(refusal) => Some(refusal.denial),
        };
        Some(entry(app, denial))
    };
    Ok(snapshot.apps().iter().filter_map(listed).collect())
}

/// The plainest request an app of this kind can get.
fn probe(app: &App, source: IpAddr, posture: Option<Arc<PostureReport>>, now: Timestamp) -> Request {
    let action = match app.kind {
        AppKind::Http => Action::Request { method: "GET".into(), path: "/".into() },
        AppKind::Tcp => Action::Connect { port: app.upstream.port },
    };
    let host = app.name.as_str().into();
    Request { id: DecisionId::new(now, 0), app: app.name.clone(), action, host, source, within_rate: true, posture }
}

fn entry(app: &App, denial: Option<Denial>) -> AppEntry {
    let allowed = denial.is_none();
    let step_up = denial.as_ref().and_then(|d| d.step_up.clone());
    let fix = denial.as_ref().map(|d| d.fix.clone().unwrap_or_else(|| d.code.fix().into()));
    let reason = denial.map(|d| d.reason.unwrap_or_else(|| d.code.summary().into()));
    AppEntry {
        name: app.name.clone(),
        kind: app.kind,
        description: app.description.clone(),
        port: (app.kind == AppKind::Tcp).then_some(app.upstream.port),
        allowed,
        reason,
        fix,
        step_up,
    }
}
