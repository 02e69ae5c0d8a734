//! macOS: what its own tools say to every user.

use super::tools::{Said, Tool};
use super::{System, short};
use postern_protocol::control::Posture;

pub(super) struct MacOs;

const TOOLS: &[Tool] = &[
    Tool { name: "sw_vers", places: &["/usr/bin/sw_vers"], arguments: &[] },
    Tool { name: "uname", places: &["/usr/bin/uname"], arguments: &["-r"] },
    Tool { name: "fdesetup", places: &["/usr/bin/fdesetup"], arguments: &["status"] },
    Tool {
        name: "socketfilterfw",
        places: &["/usr/libexec/ApplicationFirewall/socketfilterfw"],
        arguments: &["--getglobalstate"],
    },
    Tool { name: "sysadminctl", places: &["/usr/sbin/sysadminctl"], arguments: &["-screenLock", "status"] },
];

impl System for MacOs {
    fn tools(&self) -> &'static [Tool] {
        TOOLS
    }

    fn tell(&self, said: &Said, posture: &mut Posture) {
        posture.os_version = said.by("sw_vers").and_then(version).unwrap_or_else(|| posture.os_version.clone());
        posture.kernel_version = said.by("uname").and_then(short);
        posture.disk_encrypted = said.by("fdesetup").and_then(file_vault);
        posture.firewall = said.by("socketfilterfw").and_then(firewall);
        posture.screen_lock = said.by("sysadminctl").and_then(screen_lock);
    }
}

fn version(said: &str) -> Option<String> {
    let field =
        |name: &str| said.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_start_matches(':').trim()));
    let (name, version) = (field("ProductName")?, field("ProductVersion")?);
    let build = field("BuildVersion").map(|build| format!(" ({build})")).unwrap_or_default();
    short(&format!("{name} {version}{build}"))
}

/// Encrypted is what is so to the end: while it goes on, part of the disk is readable.
fn file_vault(said: &str) -> Option<bool> {
    if said.contains("in progress") {
        return Some(false);
    }
    match (said.contains("FileVault is On"), said.contains("FileVault is Off")) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

/// State 1 is on, 2 blocks all incoming connections.
fn firewall(said: &str) -> Option<bool> {
    let (_, state) = said.split_once("State = ")?;
    match state.chars().next()? {
        '0' => Some(false),
        '1' | '2' => Some(true),
        _ => None,
    }
}

fn screen_lock(said: &str) -> Option<bool> {
    if said.contains("screenLock is off") {
        return Some(false);
    }
    said.contains("screenLock delay is ").then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(said: &[(&'static str, &str)]) -> Posture {
        let mut posture = Posture { os_version: "unknown".into(), ..Posture::default() };
        MacOs.tell(&Said::recorded(said), &mut posture);
        posture
    }

    #[test]
    fn reads_what_the_tools_say() {
        let posture = told(&[
            ("sw_vers", "ProductName:\t\tmacOS\nProductVersion:\t\t14.5\nBuildVersion:\t\t23F79\n\n"),
            ("uname", "23.5.0\n\n"),
            ("fdesetup", "FileVault is On.\n\n"),
            ("socketfilterfw", "Firewall is enabled. (State = 1)\n\n"),
            ("sysadminctl", "\n2024-06-11 10:02:11.482 sysadminctl[4711:48151] screenLock delay is 300 seconds\n"),
        ]);
        assert_eq!(posture.os_version, "macOS 14.5 (23F79)");
        assert_eq!(posture.kernel_version.as_deref(), Some("23.5.0"));
        let found = (posture.disk_encrypted, posture.firewall, posture.screen_lock);
        assert_eq!(found, (Some(true), Some(true), Some(true)));
    }

    #[test]
    fn tells_off_from_unknown() {
        assert_eq!(file_vault("FileVault is Off.\n"), Some(false));
        assert_eq!(file_vault("FileVault is On.\nEncryption in progress: Percent completed = 37.20\n"), Some(false));
        assert_eq!(file_vault("FileVault is Off.\nDecryption in progress: Percent completed = 12\n"), Some(false));
        assert_eq!(file_vault("Error: Unable to determine status.\n"), None);
        assert_eq!(firewall("Firewall is disabled. (State = 0)\n"), Some(false));
        assert_eq!(
            firewall("Firewall is set to block all non-essential incoming connections. (State = 2)\n"),
            Some(true)
        );
        assert_eq!(firewall("no idea\n"), None);
        assert_eq!(screen_lock("sysadminctl[1:2] screenLock is off\n"), Some(false));
        assert_eq!(screen_lock("sysadminctl[1:2] screenLock delay is immediate\n"), Some(true));
        assert_eq!(screen_lock("usage: sysadminctl\n"), None);
        let nothing = told(&[]);
        assert_eq!((nothing.os_version.as_str(), nothing.disk_encrypted, nothing.firewall), ("unknown", None, None));
    }
}
