//! Linux: a systemd user unit.

use super::{Call, IN_SERVICE, MARK, Person, Platform, Unit};
use std::path::{Path, PathBuf};

const SYSTEMCTL: &str = "systemctl";

/// The user's systemd.
pub(super) struct Systemd;

/// All that a manager without privileges can enforce, and that the tools which the agent asks for the posture get along
/// with. Not `PrivateUsers` and what needs it: those tools would see another system.
const HARDENING: &str = "\
NoNewPrivileges=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
UMask=0077
";

impl Systemd {
    /// Is there a systemd to speak of?
    pub(super) fn present() -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(SYSTEMCTL).is_file())
    }
}

impl Platform for Systemd {
    fn place(&self, person: &Person, unit: &Unit) -> PathBuf {
        directory(person).join(file_name(unit))
    }

    /// As `systemctl enable` makes it, which needs a manager that runs.
    fn link(&self, person: &Person, unit: &Unit) -> Option<(PathBuf, PathBuf)> {
        let link = directory(person).join("default.target.wants").join(file_name(unit));
        Some((link, self.place(person, unit)))
    }

    fn definition(&self, _: &Person, unit: &Unit) -> String {
        // The colon keeps `$` from standing for a variable.
        let mut command = quoted(&format!(":{}", unit.program));
        for argument in &unit.arguments {
            command.push(' ');
            command.push_str(&quoted(argument));
        }
        // A browser that it opened is the person's, and stays when it stops.
        format!(
            "# {MARK}\n[Unit]\nDescription=Postern agent\nDocumentation=man:systemd.service(5)\n\
             StartLimitIntervalSec=300\nStartLimitBurst=10\n\n\
             [Service]\nType=exec\nExecStart={command}\nWorkingDirectory=/\nRestart=on-failure\nRestartSec=2\n\
             KillMode=process\nTimeoutStopSec=15\nEnvironment={IN_SERVICE}=1\n{HARDENING}\n[Install]\nWantedBy=default.target\n"
        )
    }

    fn alive(&self, _: &Person) -> Call {
        systemctl(&["show-environment"])
    }

    fn reload(&self, _: &Person, _: &Unit, _: &Path) -> Vec<Call> {
        vec![systemctl(&["daemon-reload"])]
    }

    fn start(&self, _: &Person, unit: &Unit) -> Vec<Call> {
        // A unit that failed too often is not started again otherwise.
        vec![systemctl(&["reset-failed", &file_name(unit)]), systemctl(&["start", &file_name(unit)])]
    }

    fn stop(&self, _: &Person, unit: &Unit) -> Vec<Call> {
        vec![systemctl(&["stop", &file_name(unit)])]
    }

    fn process(&self, _: &Person, unit: &Unit) -> Call {
        systemctl(&["show", "--property=MainPID", "--value", &file_name(unit)])
    }

    fn process_in(&self, answer: &str) -> Option<i32> {
        answer.trim().parse().ok().filter(|process| *process > 0)
    }
}

fn directory(person: &Person) -> PathBuf {
    person.config.join("systemd/user")
}

fn file_name(unit: &Unit) -> String {
    format!("{}.service", unit.name)
}

fn systemctl(arguments: &[&str]) -> Call {
    Call { program: SYSTEMCTL, arguments: ["--user"].iter().chain(arguments).map(Into::into).collect() }
}

/// One word of `ExecStart=` (systemd.service(5), "Command lines"; systemd.unit(5), "Specifiers").
fn quoted(word: &str) -> String {
    let mut quoted = String::from("\"");
    for c in word.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '%' => quoted.push_str("%%"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
