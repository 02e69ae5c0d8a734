//! What another policy would change for the streams that live now. It is asked, and nothing is done.

use crate::state::Relay;
use crate::streams::Credentials;
use postern_protocol::{AppName, Code, Problem};
use postern_relay_core::access::{Request, Snapshot, would};
use postern_relay_core::app::OnLapse;
use postern_relay_core::policy::Policy;
use postern_relay_core::principal::PrincipalKey;
use postern_relay_core::registry::Scope;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most rows of an answer; the totals count everything.
const ROWS: usize = 1000;

/// What would become of the live streams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveDiff {
    /// How many live.
    pub streams: usize,
    /// How many would be cut.
    pub cut: usize,
    /// How many would be held until their user has signed in anew.
    pub held: usize,
    /// The cut and held ones, by principal, app and cause, the most first.
    pub changes: Vec<LiveChange>,
}

/// Streams of one principal to one app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveChange {
    /// Whose.
    pub principal: PrincipalKey,
    /// Where they lead.
    pub app: AppName,
    /// Why they would end.
    pub code: Code,
    /// By which policies.
    pub policies: Vec<String>,
    /// How many.
    pub streams: usize,
}

/// Decides every live stream by the policy in `text`, for the apps that are in force.
pub fn diff(relay: &Relay, text: &str) -> Result<LiveDiff, Problem> {
    let old = relay.snapshot.load_full();
    let policy = Policy::load(text, old.policy.apps().clone()).map_err(|faults| {
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Problem::new(Code::ConfigInvalid).detail(told.join("; "))
    })?;
    let new = Snapshot { policy: Arc::new(policy), ..(*old).clone() };
    let now = relay.clock.now();
    let mut diff = LiveDiff::default();
    let mut found: BTreeMap<(PrincipalKey, AppName, Code, Vec<String>), usize> = BTreeMap::new();
    for stream in relay.streams.select(&Scope::Everything) {
        diff.streams += 1;
        let Credentials { session, device } = relay.streams.newest(&stream);
        let posture = relay.postures.get(session.session());
        let asked = Request { within_rate: true, posture, ..stream.request.clone() };
        // What ends now in any case is no change.
        if !would(&device, &session, &asked, &old, now).allowed() {
            continue;
        }
        let answer = would(&device, &session, &asked, &new, now);
        let Some(code) = answer.code else { continue };
        let holds = stream.permit.app().on_lapse != OnLapse::Cut && code == Code::StepUpRequired;
        *if holds { &mut diff.held } else { &mut diff.cut } += 1;
        *found.entry((session.principal().clone(), asked.app, code, answer.policies)).or_default() += 1;
    }
    let row = |((principal, app, code, policies), streams)| LiveChange { principal, app, code, policies, streams };
    diff.changes = found.into_iter().map(row).collect();
    diff.changes.sort_by_key(|change| std::cmp::Reverse(change.streams));
    diff.changes.truncate(ROWS);
    Ok(diff)
}
