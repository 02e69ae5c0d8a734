//! Opens the system browser: the address is one argument of one program, never a word of a shell.

use crate::service::IN_SERVICE;
use postern_protocol::{Code, Problem};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use url::Url;

/// A program that is going to fail to open a browser fails quickly.
const TROUBLE: Duration = Duration::from_secs(2);

#[cfg(all(unix, not(target_os = "macos")))]
const PROGRAM: (&str, &[&str]) = ("xdg-open", &[]);
#[cfg(target_os = "macos")]
const PROGRAM: (&str, &[&str]) = ("open", &[]);
#[cfg(windows)]
const PROGRAM: (&str, &[&str]) = ("rundll32.exe", &["url.dll,FileProtocolHandler"]);

/// Out of the agent's unit: a browser cannot do with the confinement that its service has, and outlives it.
#[cfg(target_os = "linux")]
const OUTSIDE: (&str, &[&str]) = ("systemd-run", &["--user", "--quiet", "--collect", "--wait", "--", "xdg-open"]);

/// Opens `url` in the browser that the user has chosen for the web.
pub(super) async fn open(url: &Url) -> Result<(), Problem> {
    let (program, arguments) = program(std::env::var_os(IN_SERVICE).is_some());
    run(program, arguments, url, TROUBLE).await
}

#[cfg(target_os = "linux")]
fn program(in_service: bool) -> (&'static str, &'static [&'static str]) {
    if in_service { OUTSIDE } else { PROGRAM }
}

#[cfg(not(target_os = "linux"))]
fn program(_: bool) -> (&'static str, &'static [&'static str]) {
    PROGRAM
}

async fn run(program: &str, arguments: &[&str], url: &Url, trouble: Duration) -> Result<(), Problem> {
    let unavailable = |why: String| Problem::new(Code::BrowserUnavailable).detail(why);
    // The only addresses that get here were checked; this keeps it so whoever calls.
    if !matches!(url.scheme(), "https" | "http") {
        return Err(unavailable("only an address of the web is opened".into()));
    }
    let mut child = Command::new(program)
        .args(arguments)
        .arg(url.as_str())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| unavailable(format!("{program}: {error}")))?;
    match tokio::time::timeout(trouble, child.wait()).await {
        Ok(Ok(status)) if !status.success() => Err(unavailable(format!("{program} ended with {status}"))),
        // Done, or still running as the browser itself: the runtime reaps it.
        _ => Ok(()),
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    /// A05: what a provider puts into the address reaches the program as one argument, and nothing reaches a shell.
    #[tokio::test]
    async fn a05_the_address_is_one_argument_and_no_shell_sees_it() {
        let dir = tempfile::tempdir().unwrap();
        let (program, seen) = (dir.path().join("opener"), dir.path().join("seen"));
        fs::write(&program, format!("#!/bin/sh\nprintf '%s\\n' \"$#\" \"$1\" > {}\n", seen.display())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let canary = dir.path().join("canary");
        let url =
            Url::parse(&format!("https://idp.example/a?x=$(touch {0});`touch {0}`&y=a|b", canary.display())).unwrap();
        run(program.to_str().unwrap(), &[], &url, Duration::from_secs(30)).await.unwrap();
        assert_eq!(fs::read_to_string(seen).unwrap(), format!("1\n{url}\n"));
        assert!(!canary.exists());
    }

    /// The confinement of the agent's service is not the browser's.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_service_opens_the_browser_outside_of_its_unit() {
        assert_eq!(program(false), PROGRAM);
        let (program, arguments) = program(true);
        assert_eq!((program, arguments.last()), ("systemd-run", Some(&"xdg-open")));
        assert!(arguments.contains(&"--user"));
    }

    #[tokio::test]
    async fn a05_only_the_web_is_opened_and_failures_are_told() {
        for bad in ["file:///etc/passwd", "javascript:alert(1)", "ms-msdt:/id"] {
            let problem = run("true", &[], &Url::parse(bad).unwrap(), TROUBLE).await.unwrap_err();
            assert_eq!(problem.code, Code::BrowserUnavailable);
        }
        let url = Url::parse("https://idp.example/").unwrap();
        for program in ["false", "/nowhere/xdg-open"] {
            let problem = run(program, &[], &url, Duration::from_secs(30)).await.unwrap_err();
            assert_eq!(problem.code, Code::BrowserUnavailable);
        }
        run("true", &[], &url, TROUBLE).await.unwrap();
    }
}
