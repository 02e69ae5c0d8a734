//! What shell and pages say to each other. The pages' types are generated from these (`typescript`).

use crate::organisations::OrganisationId;
use postern_protocol::local::{Finding, LocalEvent, LoginEvent};
use postern_protocol::{AppName, Problem};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the pages are told, through the one channel that `subscribe` opens: first all that is known, then what changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum DesktopEvent {
    /// The organisations, or what is known of one, changed.
    Organisations {
        /// All of them.
        organisations: Vec<Organisation>,
    },
    /// An agent pushed this.
    Agent {
        /// Whose agent.
        organisation: OrganisationId,
        /// As it came.
        #[cfg_attr(test, ts(type = "LocalEvent"))]
        event: Box<LocalEvent>,
    },
    /// There is no agent, or none that may be talked to.
    AgentGone {
        /// Whose agent.
        organisation: OrganisationId,
        /// Why.
        #[cfg_attr(test, ts(type = "Problem"))]
        problem: Box<Problem>,
    },
    /// A step of a sign-in that this window began.
    Login {
        /// Where.
        organisation: OrganisationId,
        /// The step.
        #[cfg_attr(test, ts(type = "LoginEvent"))]
        event: Box<LoginEvent>,
    },
    /// The sign-in's page could not be shown in a browser.
    NotOpened {
        /// Where.
        organisation: OrganisationId,
        /// Why.
        #[cfg_attr(test, ts(type = "Problem"))]
        problem: Box<Problem>,
    },
    /// A finding of the examination that runs.
    Finding {
        /// Where.
        organisation: OrganisationId,
        /// What was found.
        #[cfg_attr(test, ts(type = "Finding"))]
        finding: Box<Finding>,
    },
    /// What the person prefers.
    Preferences {
        /// All of it.
        preferences: Preferences,
    },
    /// Tray or notification ask for a view.
    Show {
        /// Which.
        view: View,
    },
}

/// The views of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "the shell itself asks for some of them only")]
pub(crate) enum View {
    Home,
    Session,
    Device,
    Activity,
    Diagnostics,
    Settings,
}

/// An organisation: one agent with a state directory of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct Organisation {
    /// Its name between shell and pages.
    pub(crate) id: OrganisationId,
    /// As the relay calls it, once known; else empty.
    pub(crate) label: String,
    /// Its agent's state directory.
    pub(crate) state_dir: String,
    /// Does its agent start with the person's login?
    pub(crate) service: Service,
}

/// Whether an agent is a background service of the person's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub(crate) enum Service {
    /// It starts with the person's login.
    Installed,
    /// It could be.
    NotInstalled,
    /// This system has no such services.
    Unsupported,
}

/// What the person prefers; kept in the desktop's configuration directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Preferences {
    /// The window's colours.
    pub(crate) theme: Theme,
    /// The language of the texts.
    pub(crate) language: Language,
    /// Are denials, expiry and disconnection told while the window is not looked at?
    pub(crate) notifications: bool,
    /// Does the desktop start with the person's login?
    pub(crate) start_at_login: bool,
    /// Does it then start in the tray alone?
    pub(crate) start_hidden: bool,
    /// The apps that come first, by organisation.
    #[cfg_attr(test, ts(type = "Record<string, AppName[]>"))]
    pub(crate) favourites: BTreeMap<OrganisationId, Vec<AppName>>,
    /// The organisation that is shown.
    pub(crate) selected: OrganisationId,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            theme: Theme::System,
            language: Language::System,
            notifications: true,
            start_at_login: false,
            start_hidden: false,
            favourites: BTreeMap::new(),
            selected: OrganisationId::default(),
        }
    }
}

/// The window's colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub(crate) enum Theme {
    System,
    Light,
    Dark,
}

/// The language of the texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub(crate) enum Language {
    /// The system's, if there is a catalogue of it.
    System,
    /// English.
    En,
    /// German.
    De,
    /// Arabic.
    Ar,
}

/// How a sign-in is begun from the window.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginWish {
    /// The organisation's address as typed; absent: that of the last sign-in.
    #[serde(default)]
    pub(crate) address: Option<String>,
    /// Prolong the session that lives.
    #[serde(default)]
    pub(crate) renew: bool,
    /// With `renew`: the app that wants more.
    #[serde(default)]
    #[cfg_attr(test, ts(as = "Option<String>"))]
    pub(crate) app: Option<AppName>,
    /// Keep secrets in memory only if there is no usable keyring.
    #[serde(default)]
    pub(crate) allow_memory_only: bool,
}
