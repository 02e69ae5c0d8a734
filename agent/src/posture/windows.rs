//! Windows: what its own tools and the registry say to every user.
//!
//! `manage-bde` answers administrators only; the shell's property of the volume answers everyone, with a number.

use super::tools::{Said, Tool};
use super::{System, short};
use postern_protocol::control::Posture;

pub(super) struct Windows;

const REG: &[&str] = &[r"C:\Windows\System32\reg.exe"];
const BITLOCKER: &str = "(New-Object -ComObject Shell.Application).NameSpace('C:').Self.ExtendedProperty('System.Volume.BitLockerProtection')";
const TOOLS: &[Tool] = &[
    Tool { name: "version", places: REG, arguments: &["query", r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion"] },
    Tool { name: "manage-bde", places: &[r"C:\Windows\System32\manage-bde.exe"], arguments: &["-status", "C:"] },
    Tool {
        name: "bitlocker",
        places: &[r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe"],
        arguments: &["-NoProfile", "-NonInteractive", "-Command", BITLOCKER],
    },
    Tool {
        name: "netsh",
        places: &[r"C:\Windows\System32\netsh.exe"],
        arguments: &["advfirewall", "show", "allprofiles", "state"],
    },
    Tool { name: "desktop", places: REG, arguments: &["query", r"HKCU\Control Panel\Desktop"] },
    Tool {
        name: "system",
        places: REG,
        arguments: &["query", r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System"],
    },
];

impl System for Windows {
    fn tools(&self) -> &'static [Tool] {
        TOOLS
    }

    fn tell(&self, said: &Said, posture: &mut Posture) {
        if let Some(registry) = said.by("version") {
            posture.os_version = os_version(registry).unwrap_or_else(|| posture.os_version.clone());
            posture.kernel_version = kernel_version(registry);
        }
        let administrators = said.by("manage-bde").and_then(manage_bde);
        posture.disk_encrypted = administrators.or_else(|| said.by("bitlocker").and_then(bitlocker));
        posture.firewall = said.by("netsh").and_then(firewall);
        posture.screen_lock = screen_lock(said.by("desktop"), said.by("system"));
    }
}

/// A value of `reg query`: name, type and data, set apart by four spaces.
fn value<'a>(registry: &'a str, name: &str) -> Option<&'a str> {
    registry.lines().find_map(|line| {
        let mut parts = line.trim().splitn(3, "    ");
        (parts.next()? == name).then_some(())?;
        parts.nth(1).map(str::trim)
    })
}

fn number(registry: &str, name: &str) -> Option<u64> {
    let text = value(registry, name)?;
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn os_version(registry: &str) -> Option<String> {
    let name = value(registry, "ProductName")?;
    let release = value(registry, "DisplayVersion").map(|release| format!(" {release}")).unwrap_or_default();
    short(&format!("{name}{release}"))
}

fn kernel_version(registry: &str) -> Option<String> {
    let major = number(registry, "CurrentMajorVersionNumber")?;
    let minor = number(registry, "CurrentMinorVersionNumber")?;
    let (build, update) = (value(registry, "CurrentBuild")?, number(registry, "UBR").unwrap_or(0));
    short(&format!("{major}.{minor}.{build}.{update}"))
}

/// Encrypted to the end, and its key protected: suspended protection keeps the key beside the data.
fn manage_bde(said: &str) -> Option<bool> {
    let field = |name: &str| {
        said.lines().find_map(|line| Some(line.trim().strip_prefix(name)?.trim_start().strip_prefix(':')?.trim()))
    };
    let (conversion, protection) = (field("Conversion Status")?, field("Protection Status")?);
    let whole = matches!(conversion, "Fully Encrypted" | "Used Space Only Encrypted");
    Some(whole && protection == "Protection On")
}

/// System.Volume.BitLockerProtection: 1 on, 2 off, 3 encrypting, 4 decrypting, 5 suspended.
fn bitlocker(said: &str) -> Option<bool> {
    match said.trim() {
        "1" => Some(true),
        "2" | "3" | "4" | "5" => Some(false),
        _ => None,
    }
}

/// On in every profile: which of them is used changes with the network.
fn firewall(said: &str) -> Option<bool> {
    let states: Vec<&str> = said.lines().filter_map(|line| line.trim().strip_prefix("State")).map(str::trim).collect();
    let known = !states.is_empty() && states.iter().all(|state| matches!(*state, "ON" | "OFF"));
    known.then(|| states.iter().all(|state| *state == "ON"))
}

fn screen_lock(desktop: Option<&str>, system: Option<&str>) -> Option<bool> {
    if system.and_then(|system| number(system, "InactivityTimeoutSecs")).is_some_and(|limit| limit > 0) {
        return Some(true);
    }
    let desktop = desktop?;
    let active = number(desktop, "ScreenSaveActive")? == 1;
    // Without a screen saver the lock depends on settings of power that only tell what was changed.
    match (active, number(desktop, "ScreenSaverIsSecure")) {
        (true, Some(1)) => Some(true),
        (true, Some(_)) => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: &str = r"
HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows NT\CurrentVersion
    SystemRoot    REG_SZ    C:\Windows
    CurrentBuild    REG_SZ    22631
    CurrentMajorVersionNumber    REG_DWORD    0xa
    CurrentMinorVersionNumber    REG_DWORD    0x0
    DisplayVersion    REG_SZ    23H2
    ProductName    REG_SZ    Windows 10 Pro
    UBR    REG_DWORD    0xe13
";
    const BDE: &str = "BitLocker Drive Encryption: Configuration Tool version 10.0.22621
Volume C: [Windows]
[OS Volume]

    Size:                 475,69 GB
    BitLocker Version:    2.0
    Conversion Status:    Fully Encrypted
    Percentage Encrypted: 100,0%
    Encryption Method:    XTS-AES 128
    Protection Status:    Protection On
    Lock Status:          Unlocked
";
    const FIREWALL: &str = "
Domain Profile Settings:
----------------------------------------------------------------------
State                                 ON

Private Profile Settings:
----------------------------------------------------------------------
State                                 ON

Public Profile Settings:
----------------------------------------------------------------------
State                                 ON
Ok.
";
    const DESKTOP: &str = r"
HKEY_CURRENT_USER\Control Panel\Desktop
    ScreenSaveActive    REG_SZ    1
    ScreenSaverIsSecure    REG_SZ    1
    ScreenSaveTimeOut    REG_SZ    600
";

    #[test]
    fn reads_what_the_tools_say() {
        let said = [("version", VERSION), ("manage-bde", BDE), ("netsh", FIREWALL), ("desktop", DESKTOP)];
        let mut posture = Posture::default();
        Windows.tell(&Said::recorded(&said), &mut posture);
        assert_eq!(posture.os_version, "Windows 10 Pro 23H2");
        assert_eq!(posture.kernel_version.as_deref(), Some("10.0.22631.3603"));
        let found = (posture.disk_encrypted, posture.firewall, posture.screen_lock);
        assert_eq!(found, (Some(true), Some(true), Some(true)));
    }

    #[test]
    fn tells_off_from_unknown() {
        assert_eq!(manage_bde(&BDE.replace("Protection On", "Protection Off")), Some(false));
        assert_eq!(manage_bde(&BDE.replace("Fully Encrypted", "Encryption in Progress")), Some(false));
        assert_eq!(manage_bde("ERROR: An attempt to access a required resource was denied.\n"), None);
        assert_eq!(
            (bitlocker("1\r\n"), bitlocker("2\n"), bitlocker("5"), bitlocker("")),
            (Some(true), Some(false), Some(false), None)
        );
        assert_eq!(firewall(&FIREWALL.replacen("ON", "OFF", 1)), Some(false), "one profile is off");
        assert_eq!(firewall("Status                                EIN\n"), None, "another language tells nothing");
        assert_eq!(
            screen_lock(Some(&DESKTOP.replace("IsSecure    REG_SZ    1", "IsSecure    REG_SZ    0")), None),
            Some(false)
        );
        assert_eq!(screen_lock(Some("    ScreenSaveActive    REG_SZ    0\n"), None), None);
        assert_eq!(screen_lock(None, Some("    InactivityTimeoutSecs    REG_DWORD    0x384\n")), Some(true));
        assert_eq!(screen_lock(None, Some("    InactivityTimeoutSecs    REG_DWORD    0x0\n")), None);
    }
}
