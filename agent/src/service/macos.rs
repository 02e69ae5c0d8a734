//! macOS: a launchd agent.

use super::{Call, MARK, Person, Platform, Unit, xml};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The user's launchd.
pub(super) struct Launchd;

impl Platform for Launchd {
    fn place(&self, person: &Person, unit: &Unit) -> PathBuf {
        person.home.join("Library/LaunchAgents").join(format!("{}.plist", unit.name))
    }

    /// What lies in that directory is started at sign-in.
    fn link(&self, _: &Person, _: &Unit) -> Option<(PathBuf, PathBuf)> {
        None
    }

    fn definition(&self, _: &Person, unit: &Unit) -> String {
        let words: String = std::iter::once(&unit.program)
            .chain(&unit.arguments)
            .map(|word| format!("    <string>{}</string>\n", xml(word)))
            .collect();
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
             <!-- {MARK} -->\n\
             <plist version=\"1.0\">\n<dict>\n\
             \x20 <key>Label</key>\n  <string>{}</string>\n\
             \x20 <key>ProgramArguments</key>\n  <array>\n{words}  </array>\n\
             \x20 <key>RunAtLoad</key>\n  <true/>\n\
             \x20 <key>KeepAlive</key>\n  <dict>\n    <key>SuccessfulExit</key>\n    <false/>\n  </dict>\n\
             \x20 <key>ProcessType</key>\n  <string>Background</string>\n\
             \x20 <key>WorkingDirectory</key>\n  <string>/</string>\n\
             \x20 <key>Umask</key>\n  <integer>63</integer>\n\
             \x20 <key>AbandonProcessGroup</key>\n  <true/>\n\
             </dict>\n</plist>\n",
            xml(&unit.name)
        )
    }

    fn alive(&self, person: &Person) -> Call {
        launchctl(["print".into(), domain(person).into()])
    }

    /// A definition that is loaded already is loaded anew; `bootout` of one that is not fails, and need not succeed.
    fn reload(&self, person: &Person, unit: &Unit, place: &Path) -> Vec<Call> {
        if !place.exists() {
            return Vec::new();
        }
        let (domain, label) = (domain(person), target(person, unit));
        let script = "launchctl bootout \"$1\" 2>/dev/null; exec launchctl bootstrap \"$2\" \"$3\"";
        let arguments = ["-c".into(), script.into(), "sh".into(), label.into(), domain.into(), place.into()];
        vec![Call { program: "/bin/sh", arguments: arguments.to_vec() }]
    }

    fn start(&self, person: &Person, unit: &Unit) -> Vec<Call> {
        vec![launchctl(["kickstart".into(), target(person, unit).into()])]
    }

    fn stop(&self, person: &Person, unit: &Unit) -> Vec<Call> {
        vec![launchctl(["bootout".into(), target(person, unit).into()])]
    }

    fn process(&self, person: &Person, unit: &Unit) -> Call {
        launchctl(["print".into(), target(person, unit).into()])
    }

    fn process_in(&self, answer: &str) -> Option<i32> {
        answer.lines().find_map(|line| line.trim().strip_prefix("pid = ")?.parse().ok())
    }
}

/// The user's sign-in session.
fn domain(person: &Person) -> String {
    format!("gui/{}", person.id)
}

fn target(person: &Person, unit: &Unit) -> String {
    format!("{}/{}", domain(person), unit.name)
}

fn launchctl(arguments: [OsString; 2]) -> Call {
    Call { program: "launchctl", arguments: arguments.into() }
}
