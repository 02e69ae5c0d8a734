//! The refusal as it travels: an RFC 9457 problem document that carries the code, the decision and the advice.

use crate::code::Code;
use crate::id::DecisionId;
use serde::{Deserialize, Serialize};

/// Media type of a problem document (RFC 9457 §6.1).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// A refusal or failure. The only error that crosses a boundary between programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Problem {
    /// A URI that names the kind of problem: `urn:postern:error:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One line for a person, the same for every problem of this code.
    pub title: String,
    /// The HTTP status, repeated (RFC 9457 §3.1.2).
    pub status: u16,
    /// The stable code.
    pub code: Code,
    /// What happened this time. Never a secret, never policy text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The decision this refusal came from, if one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionId>,
    /// Why, in the policy author's words (`@reason`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the user can do: the policy author's words (`@fix`), else the code's own advice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// What sign-in would do, where the code is `step_up_required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_up: Option<Box<StepUp>>,
}

/// The sign-in that a refusal asks for (RFC 9470 §3): a fresh one, or one of a certain strength, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct StepUp {
    /// Most seconds since the person proved themself: `max_age` of the next authorization request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
    /// Authentication context classes, any of which will do, the preferred first, with spaces between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr_values: Option<String>,
}

impl Problem {
    /// The problem of `code`, with the table's title and advice.
    pub fn new(code: Code) -> Self {
        Self {
            kind: format!("urn:postern:error:{}", code.as_str()),
            title: code.summary().into(),
            status: code.status(),
            code,
            detail: None,
            decision: None,
            reason: None,
            fix: Some(code.fix().into()),
            step_up: None,
        }
    }

    /// With what happened this time.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// With the decision's id.
    #[must_use]
    pub fn decision(mut self, decision: DecisionId) -> Self {
        self.decision = Some(decision);
        self
    }

    /// With the policy author's reason and fix, where given.
    #[must_use]
    pub fn advice(mut self, reason: Option<String>, fix: Option<String>) -> Self {
        self.reason = reason.or(self.reason);
        self.fix = fix.or(self.fix);
        self
    }

    /// With the sign-in that is asked for, if one is.
    #[must_use]
    pub fn step_up(mut self, step_up: Option<StepUp>) -> Self {
        self.step_up = step_up.map(Box::new);
        self
    }

    /// The `Proxy-Status` header value (RFC 9209) a relay of this name sends along.
    pub fn proxy_status(&self, relay: &str) -> String {
        let details = self.code.as_str();
        match self.code.proxy_error() {
            Some(error) => format!("{relay}; error={error}; details=\"{details}\""),
            None => format!("{relay}; details=\"{details}\""),
        }
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl std::fmt::Display for Problem {
    /// As a terminal shows it: title, detail, reason and fix, one a line, code and decision last.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", printable(&self.title))?;
        for text in [&self.detail, &self.reason].into_iter().flatten() {
            write!(f, "\n  {}", printable(text))?;
        }
        if let Some(fix) = &self.fix {
            write!(f, "\n  what to do: {}", printable(fix))?;
        }
        write!(f, "\n  code: {}", self.code.as_str())?;
        if let Some(decision) = &self.decision {
            write!(f, "  decision: {decision}")?;
        }
        Ok(())
    }
}

/// `text` with every control character (ESC, CR, LF, C1, bidirectional overrides) replaced: text from
/// elsewhere can neither drive a terminal nor forge a line.
pub fn printable(text: &str) -> String {
    let hostile = |c: char| {
        c.is_control()
            || matches!(c, '\u{061c}' | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2028}'..='\u{2029}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if hostile(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn travels_as_rfc_9457() {
        let json = serde_json::to_value(Problem::new(Code::PolicyDenied).detail("app prod-db")).unwrap();
        assert_eq!(json["type"], "urn:postern:error:policy_denied");
        assert_eq!(json["status"], 403);
        assert_eq!(json["code"], "policy_denied");
        assert!(json.get("decision").is_none() && json.get("step_up").is_none());
        let asked = StepUp { max_age: Some(300), acr_values: None };
        let json = serde_json::to_value(Problem::new(Code::StepUpRequired).step_up(Some(asked))).unwrap();
        assert_eq!((&json["status"], &json["step_up"]), (&407.into(), &serde_json::json!({ "max_age": 300 })));
    }

    #[test]
    fn a_terminal_sees_no_control_characters() {
        let shown = Problem::new(Code::PolicyDenied).detail("a\x1b[2Jb\r\nc\u{202e}").to_string();
        assert!(!shown.contains(['\x1b', '\r', '\u{202e}']), "{shown:?}");
        assert_eq!(shown.lines().count(), 4);
    }
}
