//! What a person gives to an administrator: findings, state and log, without secrets and without the person.

use crate::service::HOME;
use postern_protocol::Timestamp;
use postern_protocol::control::Principal;
use postern_protocol::local::{Denial, Finding, LocalApp, LogLine, Settings, Status};
use serde::Serialize;
use serde_json::Value;

/// Stands for what is left out.
const LEFT_OUT: &str = "[redacted]";
/// Shorter names are too likely to be parts of other words.
const MIN_NAME: usize = 3;
/// The fields that hold free text.
const TEXTS: [&str; 7] = ["detail", "reason", "fix", "title", "summary", "text", "description"];

/// The document. What is secret never gets here: neither the API's types nor the log have a place for it.
#[derive(Serialize)]
pub(crate) struct Bundle {
    pub(crate) version: &'static str,
    pub(crate) os: &'static str,
    pub(crate) made: Timestamp,
    pub(crate) findings: Vec<Finding>,
    /// The posture is in it.
    pub(crate) status: Option<Status>,
    pub(crate) apps: Vec<LocalApp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) settings: Option<Settings>,
    pub(crate) refusals: Vec<Denial>,
    pub(crate) log: Vec<LogLine>,
}

impl Bundle {
    /// The document with the person left out.
    pub(crate) fn redacted(self) -> Value {
        let user = if cfg!(windows) { "USERNAME" } else { "USER" };
        let own = |name: &str| std::env::var(name).ok();
        self.redacted_for(own(HOME).as_deref(), own(user))
    }

    /// `home` is their home directory, which often has their name; `user` the one they have at the system.
    fn redacted_for(mut self, home: Option<&str>, user: Option<String>) -> Value {
        let mut words: Vec<_> = user.into_iter().filter(|user| user != "root").collect();
        if let Some(status) = &mut self.status {
            if let Some(principal) = &mut status.principal {
                words.extend(names(principal));
                leave_out(principal);
            }
            if let Some(device) = status.device.as_mut().filter(|device| !device.name.is_empty()) {
                words.push(std::mem::replace(&mut device.name, LEFT_OUT.to_owned()));
            }
        }
        words.retain(|word| word.chars().count() >= MIN_NAME);
        // A name that is part of another goes after it.
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        let mut document = serde_json::to_value(self).unwrap_or_default();
        let home = home.filter(|home| home.len() > 1);
        replace(&mut document, false, &|text, is_text| {
            let text = home.map_or_else(|| text.to_owned(), |home| text.replace(home, "~"));
            // Names, codes and ids stay as they are.
            let words = words.iter().filter(|_| is_text);
            words.fold(text, |text, word| text.replace(word.as_str(), LEFT_OUT))
        });
        document
    }
}

fn names(principal: &Principal) -> Vec<String> {
    let Principal { subject, email, name, groups, .. } = principal;
    std::iter::once(subject).chain(email).chain(name).chain(groups).cloned().collect()
}

/// How many groups there are stays; which they are does not.
fn leave_out(principal: &mut Principal) {
    let own = [Some(&mut principal.subject), principal.email.as_mut(), principal.name.as_mut()];
    own.into_iter().flatten().chain(&mut principal.groups).for_each(|text| LEFT_OUT.clone_into(text));
}

/// Rewrites every text, told whether it is free.
fn replace(value: &mut Value, is_text: bool, rewrite: &impl Fn(&str, bool) -> String) {
    match value {
        Value::String(text) => *text = rewrite(text, is_text),
        Value::Array(values) => values.iter_mut().for_each(|value| replace(value, is_text, rewrite)),
        Value::Object(fields) => {
            fields.iter_mut().for_each(|(name, value)| replace(value, TEXTS.contains(&name.as_str()), rewrite));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_protocol::local::{DenialKind, DeviceStatus, State};
    use postern_protocol::{Code, Problem};

    #[test]
    fn the_person_is_nowhere_in_it_and_the_apps_are() {
        let principal = Principal {
            issuer: "https://idp.example".into(),
            subject: "user-4711".into(),
            email: Some("ada@corp.example".into()),
            name: Some("Ada Lovelace".into()),
            groups: vec!["wiki".into(), "it".into()],
        };
        let device = DeviceStatus {
            name: "adas-laptop".into(),
            id: None,
            key_thumbprint: "thumb".into(),
            key_storage: "keyring".into(),
            certificate_expires: None,
            spiffe_id: None,
        };
        let status = Status {
            version: "1".into(),
            state: State::Online,
            relay: None,
            organisation: Some("Corp".into()),
            principal: Some(principal),
            device: Some(device),
            session: None,
            carrier: None,
            posture: None,
            problem: None,
        };
        let problem = Problem::new(Code::PolicyDenied).advice(Some("Ada Lovelace is not in wiki".into()), None);
        let denial = Denial {
            at: Timestamp::default(),
            app: "wiki".parse().unwrap(),
            kind: DenialKind::Request,
            problem: Box::new(problem),
        };
        let line = LogLine {
            at: Timestamp::default(),
            level: "info".into(),
            text: "ada@corp.example (user-4711) on adas-laptop at /home/ada/x as adal; it stays".into(),
        };
        let entry = serde_json::json!({ "name": "git", "kind": "tcp", "allowed": true, "local": "127.0.0.1:1",
            "command": "ssh -o ProxyCommand='postern --state-dir /home/ada/state connect git' git" });
        let app = serde_json::from_value(entry).unwrap();
        let bundle = Bundle {
            version: "1",
            os: "linux",
            made: Timestamp::default(),
            findings: Vec::new(),
            status: Some(status),
            apps: vec![app],
            settings: None,
            refusals: vec![denial],
            log: vec![line],
        };
        let document = bundle.redacted_for(Some("/home/ada"), Some("adal".into()));
        let text = document.to_string();
        for name in ["Ada", "ada@", "4711", "adas-", "/home/ada"] {
            assert!(!text.contains(name), "{name} in {text}");
        }
        assert_eq!(document["refusals"][0]["app"], "wiki");
        assert_eq!(document["status"]["principal"]["groups"].as_array().unwrap().len(), 2);
        assert_eq!(document["log"][0]["text"], "[redacted] ([redacted]) on [redacted] at ~/x as [redacted]; it stays");
        assert!(document["apps"][0]["command"].as_str().unwrap().contains("~/state"));
    }
}
