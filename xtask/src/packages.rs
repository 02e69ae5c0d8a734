//! Debian packages: which are missing, why they are wanted, and how they get here.

use crate::run::{Failure, Outcome, find, output, run};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::Command;

/// A package and how to see that what it is wanted for is there, whoever installed it.
#[derive(Clone, Copy)]
pub(crate) struct Package {
    name: &'static str,
    why: &'static str,
    there: fn() -> bool,
}

pub(crate) const CHROMIUM: Package = Package {
    name: "chromium",
    why: "a real browser, for the pages that Postern shows",
    there: || ["chromium", "chromium-browser", "google-chrome"].iter().any(|name| find(name).is_some()),
};
pub(crate) const CURL: Package =
    Package { name: "curl", why: "a client that speaks to apps", there: || find("curl").is_some() };
pub(crate) const DBUS: Package = Package {
    name: "dbus-daemon",
    why: "a message bus of our own, for the keyring",
    there: || find("dbus-run-session").is_some(),
};
pub(crate) const FAKETIME: Package = Package {
    name: "libfaketime",
    why: "a system clock that tests can set",
    there: || {
        Path::new("/usr/lib").read_dir().into_iter().flatten().flatten().any(|dir| dir.path().join("faketime").is_dir())
    },
};
pub(crate) const GLEWLWYD: Package = Package {
    name: "glewlwyd",
    why: "an OpenID provider with logout tokens of an older kind",
    there: || find("glewlwyd").is_some(),
};
pub(crate) const KEYRING: Package = Package {
    name: "gnome-keyring",
    why: "a Secret Service, where the agent keeps its secrets",
    there: || find("gnome-keyring-daemon").is_some(),
};
pub(crate) const APPINDICATOR: Package = Package {
    name: "libayatana-appindicator3-dev",
    why: "the desktop's tray",
    there: || has_pkg_config("ayatana-appindicator3-0.1"),
};
pub(crate) const DEBOOTSTRAP: Package = Package {
    name: "debootstrap",
    why: "makes a fresh Debian, to try the packages on",
    there: || find("debootstrap").is_some(),
};
pub(crate) const DPKG_DEV: Package = Package {
    name: "dpkg-dev",
    why: "finds which libraries a package depends on",
    there: || find("dpkg-shlibdeps").is_some(),
};
pub(crate) const NGINX: Package =
    Package { name: "nginx-light", why: "a real HTTP app behind the relay", there: || find("nginx").is_some() };
pub(crate) const NODEJS: Package =
    Package { name: "nodejs", why: "runs the certified OpenID provider", there: || find("node").is_some() };
pub(crate) const NPM: Package = Package { name: "npm", why: "fetches that provider", there: || find("npm").is_some() };
pub(crate) const PKG_CONFIG: Package =
    Package { name: "pkg-config", why: "finds the desktop's libraries", there: || find("pkg-config").is_some() };
pub(crate) const POSTGRES: Package = Package {
    name: "postgresql",
    why: "a real TCP app behind the relay",
    there: || {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        versions.map(|version| version.path().join("bin/initdb")).any(|program| program.is_file())
    },
};
pub(crate) const PSQL: Package =
    Package { name: "postgresql-client", why: "its client", there: || find("psql").is_some() };
pub(crate) const SECRET_TOOL: Package =
    Package { name: "libsecret-tools", why: "looks into the keyring", there: || find("secret-tool").is_some() };
pub(crate) const SQLITE: Package =
    Package { name: "sqlite3", why: "makes that provider's database", there: || find("sqlite3").is_some() };

pub(crate) const WEBKIT: Package = Package {
    name: "libwebkit2gtk-4.1-dev",
    why: "shows the desktop's window",
    there: || has_pkg_config("webkit2gtk-4.1"),
};
pub(crate) const WEBKIT_DRIVER: Package = Package {
    name: "webkit2gtk-driver",
    why: "drives the desktop's window in tests",
    there: || find("WebKitWebDriver").is_some(),
};
pub(crate) const XAUTH: Package =
    Package { name: "xauth", why: "a key for that screen", there: || find("xauth").is_some() };
pub(crate) const XVFB: Package =
    Package { name: "xvfb", why: "a screen in memory for the desktop's tests", there: || find("Xvfb").is_some() };
pub(crate) const FONTS: Package = Package {
    name: "fonts-dejavu-core",
    why: "letters, Arabic ones too, for the desktop's tests",
    there: || Path::new("/usr/share/fonts/truetype/dejavu").is_dir(),
};

/// Is there a description of this library, whichever system built it?
fn has_pkg_config(library: &str) -> bool {
    output(Command::new("pkg-config").args(["--exists", library])).is_some()
}

/// Whether the person agrees to an installation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consent {
    /// Agreed in advance, by `--yes` or by running a command whose job it is.
    Given,
    /// To be asked for.
    Ask,
}

/// Installs those of `wanted` that are missing. Says what and why, and how to do it by hand if it cannot.
pub(crate) fn install(wanted: &[Package], consent: Consent) -> Outcome {
    let missing: Vec<_> = wanted.iter().filter(|package| !(package.there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("These Debian packages are missing:");
    for Package { name, why, .. } in &missing {
        println!("  {name:<18} {why}");
    }
    let names: Vec<_> = missing.iter().map(|package| package.name).collect();
    let by_hand = format!("apt-get install --no-install-recommends {}", names.join(" "));
    if find("apt-get").is_none() {
        return Err(Failure::new(format!("no apt-get here: install them in your system's way ({})", names.join(", "))));
    }
    if consent == Consent::Ask && !agreed()? {
        return Err(Failure::new(format!("not installed; as root you can: {by_hand}")));
    }
    run(&mut apt(&["-q", "update"])?)?;
    run(apt(&["-q", "install", "-y", "--no-install-recommends"])?.args(&names))?;
    match missing.iter().find(|package| !(package.there)()) {
        Some(package) => {
            Err(Failure::new(format!("{} was installed, but does not bring what it should", package.name)))
        }
        None => Ok(()),
    }
}

fn agreed() -> Outcome<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new("nobody is here to ask: add --yes to have them installed"));
    }
    print!("Install them with apt-get? [y/N] ");
    let _ = std::io::stdout().flush();
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// apt-get as root, which waits for another one to finish and asks nothing.
fn apt(arguments: &[&str]) -> Outcome<Command> {
    const APT: [&str; 7] =
        ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=400", "-o", "Dpkg::Use-Pty=0"];
    let root = output(Command::new("id").arg("-u")).as_deref() == Some("0");
    if !root && find("sudo").is_none() {
        return Err(Failure::new(format!("as root, run: apt-get {}", arguments.join(" "))));
    }
    let sudo: &[&str] = if root { &[] } else { &["sudo"] };
    let mut words = sudo.iter().chain(&APT).chain(arguments);
    let mut command = Command::new(words.next().map_or(Path::new("apt-get"), Path::new));
    command.args(words);
    Ok(command)
}
