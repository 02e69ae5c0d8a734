//! Asks the system's own tools: fixed programs at fixed places with fixed arguments, each with a deadline and an end to
//! what it may say. A tool that is not there, fails or hangs has said nothing.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

/// A tool that takes longer is of no use.
const LIMIT: Duration = Duration::from_secs(5);
const MAX_ANSWER: u64 = 64 * 1024;

/// A program to ask.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    /// What its answer goes by.
    pub(crate) name: &'static str,
    /// Where it may be; the first that is there is asked.
    pub(crate) places: &'static [&'static str],
    pub(crate) arguments: &'static [&'static str],
}

/// What tools said, by name. An answer counts only of a tool that ended well.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said(Vec<(&'static str, String)>);

impl Said {
    pub(crate) fn by(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(tool, _)| *tool == name).map(|(_, said)| said.as_str())
    }

    #[cfg(test)]
    pub(super) fn recorded(said: &[(&'static str, &str)]) -> Self {
        Self(said.iter().map(|(tool, said)| (*tool, (*said).to_owned())).collect())
    }
}

/// Asks all of them at once.
pub(crate) async fn ask(tools: &'static [Tool]) -> Said {
    let answers = tools.iter().map(|tool| async { Some((tool.name, run(tool, LIMIT).await?)) });
    Said(futures_util::future::join_all(answers).await.into_iter().flatten().collect())
}

async fn run(tool: &Tool, limit: Duration) -> Option<String> {
    let program = tool.places.iter().find(|place| Path::new(place).is_file())?;
    let mut child = Command::new(program)
        .args(tool.arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    // Some tools answer on standard error.
    let (out, err) = (child.stdout.take()?, child.stderr.take()?);
    let answer = async { tokio::join!(text(out), text(err), child.wait()) };
    let (out, err, status) = tokio::time::timeout(limit, answer).await.ok()?;
    status.is_ok_and(|status| status.success()).then(|| format!("{out}\n{err}"))
}

async fn text(stream: impl AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    let _ = stream.take(MAX_ANSWER).read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A system that is not known here.
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
pub(super) enum Nothing {}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
impl super::System for Nothing {
    fn tools(&self) -> &'static [Tool] {
        &[]
    }

    fn tell(&self, _: &Said, _: &mut postern_protocol::control::Posture) {}
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    use super::*;

    #[cfg(unix)]
    const fn tool(places: &'static [&'static str], arguments: &'static [&'static str]) -> Tool {
        Tool { name: "it", places, arguments }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_tool_that_hangs_fails_or_never_ends_says_nothing() {
        const ECHO: &[&str] = &["/nowhere/echo", "/bin/echo", "/usr/bin/echo"];
        let said = run(&tool(ECHO, &["a;b", "$(c)"]), LIMIT).await.unwrap();
        assert_eq!(said.trim(), "a;b $(c)", "no shell reads the arguments");
        let began = std::time::Instant::now();
        assert_eq!(run(&tool(&["/bin/sleep"], &["60"]), Duration::from_millis(100)).await, None);
        assert_eq!(run(&tool(&["/usr/bin/yes"], &["x"]), Duration::from_millis(500)).await, None);
        assert!(began.elapsed() < Duration::from_secs(20));
        assert_eq!(run(&tool(&["/bin/false"], &[]), LIMIT).await, None);
        assert_eq!(run(&tool(&["/nowhere/echo"], &[]), LIMIT).await, None);
    }

    /// No tool is looked for along a path that somebody else may set.
    #[test]
    fn every_tool_has_a_fixed_place() {
        use crate::posture::{System as _, linux::Linux, macos::MacOs, windows::Windows};
        for tool in Linux::this().tools().iter().chain(MacOs.tools()) {
            assert!(tool.places.iter().all(|place| place.starts_with('/')), "{tool:?}");
        }
        assert!(Windows.tools().iter().all(|tool| tool.places.iter().all(|place| place.starts_with(r"C:\Windows\"))));
    }
}
