//! What a decision read of the session and the device, so that it can be explained, and judged anew by another policy.

use super::record::{as_text, from_text};
use crate::access::Request;
use crate::limits::MAX_AUDIT_GROUPS_BYTES;
use crate::token::SessionGrant;
use postern_protocol::Timestamp;
use postern_protocol::control::Posture;
use serde::{Deserialize, Serialize};

/// The part of a decision's input that its record does not name elsewhere. No e-mail address, no name, no token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// The principal's groups, as far as there is room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// How many more groups there were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub groups_cut: usize,
    /// Authentication context class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// Authentication methods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// When the person last proved themself to the provider.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "text", deserialize_with = "from_text")]
    pub auth_time: Option<Timestamp>,
    /// What the device last reported of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posture: Option<Posture>,
    /// When it did.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "text", deserialize_with = "from_text")]
    pub posture_at: Option<Timestamp>,
}

impl Context {
    pub(super) fn of(grant: &SessionGrant, request: &Request) -> Self {
        let mut room = MAX_AUDIT_GROUPS_BYTES;
        let fits = |group: &&String| match room.checked_sub(group.len()) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        };
        let groups: Vec<String> = grant.groups.iter().take_while(fits).cloned().collect();
        let report = request.posture.as_deref();
        Self {
            groups_cut: grant.groups.len() - groups.len(),
            groups,
            acr: grant.acr.clone(),
            amr: grant.amr.clone(),
            auth_time: grant.auth_time,
            posture: report.map(|report| report.posture.clone()),
            posture_at: report.map(|report| report.at),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn text<S: serde::Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    as_text(&time.unwrap_or_default(), serializer)
}
