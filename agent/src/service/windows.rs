//! Windows: a task that the Task Scheduler starts when the user signs in.

use super::{Call, MARK, Person, Platform, Unit, xml};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The Task Scheduler.
pub(super) struct Tasks;

impl Platform for Tasks {
    fn place(&self, person: &Person, unit: &Unit) -> PathBuf {
        person.home.join("AppData/Local/Postern").join(format!("{}.xml", unit.name))
    }

    /// The scheduler keeps a list of its own.
    fn link(&self, _: &Person, _: &Unit) -> Option<(PathBuf, PathBuf)> {
        None
    }

    fn definition(&self, person: &Person, unit: &Unit) -> String {
        let user = xml(&person.id);
        let arguments: Vec<_> = unit.arguments.iter().map(|word| quoted(word)).collect();
        format!(
            "<?xml version=\"1.0\"?>\n<!-- {MARK} -->\n\
             <Task version=\"1.2\" xmlns=\"http://schemas.microsoft.com/windows/2004/02/mit/task\">\n\
             \x20 <RegistrationInfo><Description>Postern agent</Description></RegistrationInfo>\n\
             \x20 <Triggers><LogonTrigger><UserId>{user}</UserId></LogonTrigger></Triggers>\n\
             \x20 <Principals><Principal id=\"user\"><UserId>{user}</UserId><LogonType>InteractiveToken</LogonType>\
             <RunLevel>LeastPrivilege</RunLevel></Principal></Principals>\n\
             \x20 <Settings>\n    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>\n\
             \x20   <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>\n\
             \x20   <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>\n\
             \x20   <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>\n\
             \x20   <RestartOnFailure><Interval>PT1M</Interval><Count>10</Count></RestartOnFailure>\n  </Settings>\n\
             \x20 <Actions Context=\"user\"><Exec><Command>{}</Command><Arguments>{}</Arguments></Exec></Actions>\n\
             </Task>\n",
            xml(&unit.program),
            xml(&arguments.join(" "))
        )
    }

    fn alive(&self, _: &Person) -> Call {
        schtasks(vec!["/Query".into()])
    }

    fn reload(&self, _: &Person, unit: &Unit, place: &Path) -> Vec<Call> {
        let task = || OsString::from(&unit.name);
        if place.exists() {
            vec![schtasks(vec!["/Create".into(), "/F".into(), "/TN".into(), task(), "/XML".into(), place.into()])]
        } else {
            vec![schtasks(vec!["/Delete".into(), "/F".into(), "/TN".into(), task()])]
        }
    }

    fn start(&self, _: &Person, unit: &Unit) -> Vec<Call> {
        vec![schtasks(vec!["/Run".into(), "/TN".into(), OsString::from(&unit.name)])]
    }

    fn stop(&self, _: &Person, unit: &Unit) -> Vec<Call> {
        vec![schtasks(vec!["/End".into(), "/TN".into(), OsString::from(&unit.name)])]
    }

    /// The scheduler tells only whether it runs: whose process it is stays open.
    fn process(&self, _: &Person, unit: &Unit) -> Call {
        schtasks(vec!["/Query".into(), "/TN".into(), OsString::from(&unit.name)])
    }

    fn process_in(&self, _: &str) -> Option<i32> {
        None
    }

    fn tells_process(&self) -> bool {
        false
    }
}

fn schtasks(arguments: Vec<OsString>) -> Call {
    Call { program: r"C:\Windows\System32\schtasks.exe", arguments }
}

/// One argument, as programs on Windows take their command line apart (`CommandLineToArgvW`).
fn quoted(word: &str) -> String {
    let mut quoted = String::from("\"");
    let mut backslashes = 0;
    for c in word.chars() {
        match c {
            '\\' => backslashes += 1,
            '"' => {
                // Each backslash before a quote counts, and the quote needs one itself.
                quoted.push_str(&"\\".repeat(backslashes + 1));
                backslashes = 0;
            }
            _ => backslashes = 0,
        }
        quoted.push(c);
    }
    quoted.push_str(&"\\".repeat(backslashes));
    quoted.push('"');
    quoted
}
