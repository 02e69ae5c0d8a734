//! What the commands print: data on standard output, all else on standard error, nothing that could drive a terminal.

use postern_protocol::control::{AppKind, Posture, Principal};
use postern_protocol::local::{
    Check, CheckResult, Denial, DenialKind, Finding, LocalApp, Party, SignedOut, State, Status, Untold,
};
use postern_protocol::problem::printable;
use postern_protocol::{Code, Problem, Timestamp};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where a command's output goes, and in which form.
pub(super) struct Output {
    json: bool,
    screen: Screen,
}

/// How data looks to a person.
pub(super) struct Screen {
    color: bool,
    now: Timestamp,
}

impl Output {
    /// Standard output and error; colours only on a terminal whose user did not object (no-color.org).
    pub(super) fn standard(json: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let color = io::stdout().is_terminal() && !set("NO_COLOR") && !dumb;
        Self { json, screen: Screen { color, now: now() } }
    }

    /// Prints a command's result.
    pub(super) fn data<T: Serialize>(&self, data: &T, shown: impl FnOnce(&Screen) -> String) -> Result<(), Problem> {
        let text = if self.json { json_line(data) } else { shown(&self.screen) };
        self.raw(&text)
    }

    /// Prints a line of data, the same in both forms.
    pub(super) fn line(&self, text: &str) -> Result<(), Problem> {
        self.raw(&format!("{}\n", printable(text)))
    }

    fn raw(&self, text: &str) -> Result<(), Problem> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // Whoever reads has read enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(Problem::new(Code::Internal).detail(format!("cannot write the result: {error}"))),
            Ok(()) => Ok(()),
        }
    }

    /// Tells what is going on.
    pub(super) fn progress(&self, text: &str) {
        note(text);
    }

    /// The answer of `postern logout`; who could not be told is for the person, not for a pipe. `nobody`: nobody was
    /// signed in before.
    pub(super) fn signed_out(&self, signed_out: &SignedOut, nobody: bool) -> Result<(), Problem> {
        self.data(signed_out, |screen: &Screen| match nobody && signed_out.untold.is_empty() {
            true => "Nobody was signed in.\n".to_owned(),
            false => screen.signed_out(signed_out),
        })?;
        if !self.json {
            let _ = io::stderr().lock().write_all(self.screen.untold(&signed_out.untold).as_bytes());
        }
        Ok(())
    }

    /// Tells what went wrong.
    pub(super) fn problem(&self, problem: &Problem) {
        if self.json {
            let _ = io::stderr().lock().write_all(json_line(problem).as_bytes());
        } else {
            // Each part of it is printable already, and its lines are wanted.
            let _ = writeln!(io::stderr().lock(), "postern: {}", in_lines(problem));
        }
    }
}

/// A problem as a terminal shows it. A configuration's mistakes are this program's own words, one a line.
pub(super) fn in_lines(problem: &Problem) -> String {
    let text = Problem { detail: None, ..problem.clone() }.to_string();
    match (problem.code, &problem.detail, text.split_once('\n')) {
        (Code::ConfigInvalid, Some(mistakes), Some((title, rest))) => {
            let mistakes: String = mistakes.lines().map(|line| format!("\n  {}", printable(line))).collect();
            format!("{title}{mistakes}\n{rest}")
        }
        _ => problem.to_string(),
    }
}

/// A line for the person at the terminal. With nobody there to read it, it is lost.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(text));
}

/// One line of JSON in ASCII: what names and texts from elsewhere hold cannot drive a terminal either.
pub(super) fn json_line(value: &impl Serialize) -> String {
    let mut line = String::new();
    for c in serde_json::to_string(value).unwrap_or_default().chars() {
        if c.is_ascii() && c != '\x7f' {
            line.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(line, "\\u{unit:04x}");
            }
        }
    }
    line.push('\n');
    line
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::default().plus(since)
}

impl Screen {
    /// The answer of `postern status`.
    pub(super) fn status(&self, status: &Status) -> String {
        let mut rows = vec![("State", self.state(status.state))];
        rows.extend(status.organisation.iter().map(|name| ("Organisation", printable(name))));
        rows.extend(status.relay.iter().map(|url| ("Relay", printable(url.as_str()))));
        if let Some(principal) = &status.principal {
            rows.push(("User", person(principal)));
            if !principal.groups.is_empty() {
                rows.push(("Groups", printable(&principal.groups.join(", "))));
            }
        }
        if let Some(device) = &status.device {
            rows.extend(device.id.iter().map(|id| ("Device", id.to_string())));
            rows.push(("Device key", format!("in {}", printable(&device.key_storage))));
            rows.push(("Key thumbprint", printable(&device.key_thumbprint)));
            rows.extend(device.certificate_expires.map(|end| ("Certificate", self.ends(end))));
        }
        if let Some(session) = &status.session {
            rows.push(("Session", session.id.to_string()));
            rows.extend(session.token_expires.map(|end| ("Token", self.ends(end))));
        }
        if let Some(posture) = &status.posture {
            rows.extend(posture_rows(posture));
        }
        let mut text = table(&rows);
        if let Some(problem) = &status.problem {
            let _ = writeln!(text, "\n{problem}");
        }
        text
    }

    /// The answer of `postern why`.
    pub(super) fn denial(&self, denial: Option<&Denial>) -> String {
        let Some(Denial { at, app, kind, problem }) = denial else {
            return "Nothing was refused since the agent started.\n".to_owned();
        };
        let what = match kind {
            DenialKind::Request => "a request was refused",
            DenialKind::Stream => "a connection was refused",
            DenialKind::Cut => "a live connection was cut",
            DenialKind::Held => "a live connection waits",
        };
        let mut rows = vec![("App", app.to_string()), ("What", what.to_owned()), ("When", at.to_string())];
        rows.push(("Why", self.paint(RED, &printable(&problem.title))));
        let told = [("Reason", &problem.reason), ("Detail", &problem.detail), ("What to do", &problem.fix)];
        rows.extend(told.into_iter().filter_map(|(name, text)| Some((name, printable(text.as_ref()?)))));
        rows.push(("Code", problem.code.to_string()));
        rows.extend(problem.decision.iter().map(|decision| ("Decision", decision.to_string())));
        table(&rows)
    }

    /// The answer of `postern apps`.
    pub(super) fn apps(&self, apps: &[LocalApp]) -> String {
        if apps.is_empty() {
            return "No apps. Not signed in, or none are meant for you: see postern status.\n".to_owned();
        }
        let width = |of: fn(&LocalApp) -> usize| apps.iter().map(of).max().unwrap_or(0).max(4);
        let (names, places) = (width(|app| app.entry.name.as_str().len()), width(|app| app.local.chars().count()));
        let mut text = String::new();
        for LocalApp { entry, local, problem, .. } in apps {
            let kind = match entry.kind {
                AppKind::Http => "http",
                AppKind::Tcp => "tcp ",
            };
            let place = if local.is_empty() { "-" } else { local };
            let allowed = if entry.allowed { self.paint(GREEN, "allowed") } else { self.paint(RED, "denied ") };
            let description = printable(&entry.description);
            let line = format!(
                "{:names$}  {kind}  {:places$}  {allowed}  {description}",
                entry.name.as_str(),
                printable(place)
            );
            let _ = writeln!(text, "{}", line.trim_end());
            let told = [&entry.reason, &entry.fix].into_iter().flatten();
            let told = told.chain(problem.as_ref().and_then(|problem| problem.detail.as_ref()));
            for line in told {
                let _ = writeln!(text, "{:names$}  {}", "", printable(line));
            }
        }
        text
    }

    /// The answer of `postern doctor`.
    pub(super) fn findings(&self, findings: &[Finding]) -> String {
        let mut text = String::new();
        for Finding { check, result, summary, fix, code, .. } in findings {
            let (color, word) = match result {
                CheckResult::Ok => (GREEN, "ok     "),
                CheckResult::Warning => (YELLOW, "warning"),
                CheckResult::Failed => (RED, "failed "),
                CheckResult::Skipped => (PLAIN, "skipped"),
            };
            let name = match check {
                Check::Agent => "Agent",
                Check::Keyring => "Keyring",
                Check::CaptivePortal => "Captive portal",
                Check::RelayTcp => "Relay over TCP",
                Check::RelayQuic => "Relay over QUIC",
                Check::Clock => "Clock",
                Check::Certificate => "Certificate",
                Check::Session => "Session",
                Check::Listeners => "Listeners",
            };
            let code = code.map(|code| format!(" [{code}]")).unwrap_or_default();
            let _ = writeln!(text, "{name:<15}  {}  {}{code}", self.paint(color, word), printable(summary));
            if let Some(fix) = fix {
                let _ = writeln!(text, "{:15}  {:7}  {}", "", "", printable(fix));
            }
        }
        text
    }

    /// The last words of `postern login`.
    pub(super) fn welcome(&self, status: &Status) -> String {
        let who = status.principal.as_ref().map_or_else(|| "You are".to_owned(), |who| format!("{} is", person(who)));
        let place = status.organisation.as_deref().map(|name| format!(" at {}", printable(name))).unwrap_or_default();
        format!("{who} {}{place}. See your apps: postern apps\n", self.state(status.state))
    }

    /// The answer of `postern logout`.
    pub(super) fn signed_out(&self, signed_out: &SignedOut) -> String {
        let place = if signed_out.untold.is_empty() { "" } else { " on this device" };
        format!("Signed out{place}.\n")
    }

    /// Who was not told of a sign-out, and what to do.
    pub(super) fn untold(&self, untold: &[Untold]) -> String {
        let mut text = String::new();
        for Untold { who, problem, .. } in untold {
            let who = match who {
                Party::Relay => "The relay",
                Party::Provider => "The identity provider",
            };
            let _ = writeln!(text, "\n{who} could not be told. {problem}");
        }
        text
    }

    fn state(&self, state: State) -> String {
        let (color, word) = match state {
            State::SignedOut => (YELLOW, "signed out"),
            State::SigningIn => (YELLOW, "signing in"),
            State::Enrolling => (YELLOW, "enrolling"),
            State::Connecting => (YELLOW, "connecting"),
            State::Online => (GREEN, "online"),
            State::Offline => (RED, "offline"),
            State::Expired => (RED, "expired: sign in again"),
            State::Revoked => (RED, "revoked"),
        };
        self.paint(color, word)
    }

    fn paint(&self, color: u8, word: &str) -> String {
        if self.color { format!("\x1b[{color}m{word}\x1b[0m") } else { word.to_owned() }
    }

    fn ends(&self, end: Timestamp) -> String {
        match end.since(self.now) {
            Duration::ZERO => format!("ended at {end}"),
            left => format!("ends in {} ({end})", span(left)),
        }
    }
}

const PLAIN: u8 = 0;
const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;

pub(super) fn table(rows: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (name, value) in rows {
        let _ = writeln!(text, "{name:<15} {value}");
    }
    text
}

/// What this agent tells the relay of the device.
fn posture_rows(posture: &Posture) -> Vec<(&'static str, String)> {
    let kernel = posture.kernel_version.as_deref().map(|version| format!(", kernel {version}")).unwrap_or_default();
    let known = |value: Option<bool>| match value {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not known",
    };
    vec![
        ("Posture", printable(&format!("{}{kernel}, agent {}", posture.os_version, posture.agent_version))),
        ("Disk encrypted", known(posture.disk_encrypted).to_owned()),
        ("Firewall", known(posture.firewall).to_owned()),
        ("Screen lock", known(posture.screen_lock).to_owned()),
    ]
}

fn person(principal: &Principal) -> String {
    let name = principal.name.as_deref().unwrap_or(&principal.subject);
    match &principal.email {
        Some(email) if email != name => printable(&format!("{name} <{email}>")),
        _ => printable(name),
    }
}

fn span(left: Duration) -> String {
    match left.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
pub(super) fn screen_at(now: Timestamp, color: bool) -> Screen {
    Screen { color, now }
}
