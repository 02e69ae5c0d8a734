//! What each system is told, on whichever system this runs; and the files, against a home of the test's own.

use super::*;
use std::fs;

const AWKWARD: &str = "/opt/my \"apps\" 100%/po$HOME\\s'tern & <co>";

fn person(home: &Path) -> Person {
    Person { home: home.into(), config: home.join(".config"), id: "1000".into() }
}

fn unit(program: &str, state_dir: &str) -> Unit {
    Unit::new(Path::new(program), Some(Path::new("/home/u/.local/state/postern")), Path::new(state_dir), None).unwrap()
}

fn line<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key} in {text}"))
}

#[test]
fn each_state_directory_has_a_name_of_its_own() {
    let name = |state_dir| unit("/usr/bin/postern", state_dir).name;
    assert_eq!(name("/home/u/.local/state/postern"), "postern-agent");
    assert_eq!(name("/home/u/.local/state/postern/organisations/acme-2"), "postern-agent-acme-2");
    let others = [
        "/home/u/.local/state/postern/organisations/Acme",
        "/home/u/.local/state/postern/organisations/a/b",
        "/home/u/.local/state/postern/organisations",
        "/home/u/other",
        "/home/u/other\u{20}two",
    ];
    let names: std::collections::BTreeSet<_> = others.into_iter().map(name).collect();
    assert_eq!(names.len(), others.len());
    for name in names {
        let digest = name.strip_prefix("postern-agent-dir_").unwrap();
        assert!(digest.len() == 16 && digest.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
    }
}

/// A17: a path cannot end a word, a line or an element of the definition, or stand for something else.
#[test]
fn a17_paths_are_quoted_for_each_system() {
    let unit = unit(AWKWARD, "/home/u/a b");
    let home = person(Path::new("/home/u"));
    let systemd = linux::Systemd.definition(&home, &unit);
    assert_eq!(
        line(&systemd, "ExecStart="),
        r#"":/opt/my \"apps\" 100%%/po$HOME\\s'tern & <co>" "agent" "run" "--detached" "--state-dir" "/home/u/a b""#
    );
    let launchd = macos::Launchd.definition(&home, &unit);
    assert!(launchd.contains(
        "    <string>/opt/my &quot;apps&quot; 100%/po$HOME\\s&apos;tern &amp; &lt;co&gt;</string>\n    <string>agent</string>"
    ));
    let tasks = windows::Tasks.definition(&home, &unit);
    assert!(tasks.contains("<Command>/opt/my &quot;apps&quot; 100%/po$HOME\\s&apos;tern &amp; &lt;co&gt;</Command>"));
    assert!(tasks.contains("&quot;--state-dir&quot; &quot;/home/u/a b&quot;</Arguments>"));
    for bad in ["/a\nExecStartPre=/bin/sh", "/a\u{1b}b", "/a\u{7f}", "/a\u{85}b", "relative"] {
        let unit = Unit::new(Path::new("/usr/bin/postern"), None, Path::new(bad), None);
        assert_eq!(unit.unwrap_err().code, Code::ServiceFailed, "{bad:?}");
    }
}

#[test]
fn the_unit_of_systemd() {
    let unit = Unit::new(Path::new("/usr/bin/postern"), None, Path::new("/s"), Some(Path::new("/c.toml"))).unwrap();
    let text = linux::Systemd.definition(&person(Path::new("/home/u")), &unit);
    assert!(line(&text, "ExecStart=").ends_with(r#""--state-dir" "/s" "--config" "/c.toml""#));
    assert_eq!((line(&text, "Restart="), line(&text, "WantedBy=")), ("on-failure", "default.target"));
    assert_eq!((line(&text, "NoNewPrivileges="), line(&text, "KillMode=")), ("yes", "process"));
    assert!(text.starts_with(&format!("# {MARK}\n[Unit]\n")));
}

#[test]
fn the_agent_of_launchd_and_the_task_of_windows() {
    let (home, unit) = (person(Path::new("/Users/u")), unit("/usr/bin/postern", "/s"));
    let plist = macos::Launchd.definition(&home, &unit);
    for part in ["<key>RunAtLoad</key>\n  <true/>", "<key>SuccessfulExit</key>\n    <false/>", MARK] {
        assert!(plist.contains(part), "{part}");
    }
    let label = format!("<key>Label</key>\n  <string>{}</string>", unit.name);
    assert!(plist.contains(&label));
    assert_eq!(macos::Launchd.start(&home, &unit)[0].arguments[1], *format!("gui/1000/{}", unit.name));
    assert_eq!(macos::Launchd.process_in("{\n\tstate = running\n\tpid = 4711\n}"), Some(4711));
    let task = windows::Tasks.definition(&home, &unit);
    for part in ["<LogonTrigger><UserId>1000</UserId>", "<RunLevel>LeastPrivilege<", "<ExecutionTimeLimit>PT0S<", MARK]
    {
        assert!(task.contains(part), "{part}");
    }
}

fn service(home: &Path) -> Service {
    let unit = Unit::new(Path::new("/usr/bin/postern"), None, &home.join("state"), None).unwrap();
    Service { platform: Box::new(NoManager), person: person(home), unit }
}

/// systemd's files without a systemd that runs.
struct NoManager;

impl Platform for NoManager {
    fn place(&self, person: &Person, unit: &Unit) -> PathBuf {
        linux::Systemd.place(person, unit)
    }

    fn link(&self, person: &Person, unit: &Unit) -> Option<(PathBuf, PathBuf)> {
        linux::Systemd.link(person, unit)
    }

    fn definition(&self, person: &Person, unit: &Unit) -> String {
        linux::Systemd.definition(person, unit)
    }

    fn alive(&self, _: &Person) -> Call {
        Call { program: "/bin/false", arguments: Vec::new() }
    }

    fn reload(&self, _: &Person, _: &Unit, _: &Path) -> Vec<Call> {
        vec![Call { program: "/nowhere/never", arguments: Vec::new() }]
    }

    fn start(&self, person: &Person, unit: &Unit) -> Vec<Call> {
        self.reload(person, unit, Path::new("/"))
    }

    fn stop(&self, person: &Person, unit: &Unit) -> Vec<Call> {
        self.reload(person, unit, Path::new("/"))
    }

    fn process(&self, person: &Person, _: &Unit) -> Call {
        self.alive(person)
    }

    fn process_in(&self, _: &str) -> Option<i32> {
        None
    }
}

#[tokio::test]
async fn is_installed_and_removed_without_a_manager_as_often_as_one_likes() {
    let home = tempfile::tempdir().unwrap();
    let service = service(home.path());
    assert_eq!(service.installed(), Installation::NotInstalled);
    assert!(!service.uninstall().await.unwrap());
    assert!(service.install().await.unwrap(), "new");
    assert!(!service.install().await.unwrap(), "unchanged");
    assert!(service.is_current() && service.installed() == Installation::Installed);
    let (link, target) = linux::Systemd.link(&service.person, &service.unit).unwrap();
    assert_eq!(fs::canonicalize(&link).unwrap(), fs::canonicalize(target).unwrap());
    fs::write(service.place(), format!("# {MARK}\nold")).unwrap();
    assert!(!service.is_current() && service.install().await.unwrap(), "of an older version");
    assert!(service.uninstall().await.unwrap());
    assert!(!service.place().exists() && link.symlink_metadata().is_err());
    assert!(service.start().await.is_err());
}

/// A21: neither a unit of somebody else's nor what a planted link leads to is written or removed.
#[tokio::test]
async fn a21_what_is_not_ours_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let service = service(home.path());
    fs::create_dir_all(service.place().parent().unwrap()).unwrap();
    fs::write(service.place(), "[Service]\nExecStart=/bin/true\n").unwrap();
    assert_eq!(service.install().await.unwrap_err().code, Code::ServiceFailed);
    assert_eq!(service.uninstall().await.unwrap_err().code, Code::ServiceFailed);
    assert!(fs::read_to_string(service.place()).unwrap().contains("/bin/true"));
    fs::remove_file(service.place()).unwrap();
    let victim = home.path().join("victim");
    fs::write(&victim, MARK).unwrap();
    std::os::unix::fs::symlink(&victim, service.place()).unwrap();
    assert_eq!(service.install().await.unwrap_err().code, Code::ServiceFailed);
    assert_eq!(fs::read_to_string(&victim).unwrap(), MARK);
}
