//! Linux: what files that everyone may read tell, and the desktop's and the firewalls' own tools.

use super::tools::{Said, Tool};
use super::{System, short};
use postern_protocol::control::Posture;
use std::fs;
use std::path::{Path, PathBuf};

/// LVM on LUKS on RAID is three layers; deeper than this nobody builds.
const MAX_LAYERS: usize = 8;

const TOOLS: &[Tool] = &[
    Tool { name: "firewalld", places: &["/usr/bin/firewall-cmd", "/bin/firewall-cmd"], arguments: &["--state"] },
    Tool { name: "nft", places: &["/usr/sbin/nft", "/sbin/nft"], arguments: &["list", "ruleset"] },
    Tool {
        name: "iptables",
        places: &["/usr/sbin/iptables-save", "/sbin/iptables-save"],
        arguments: &["-t", "filter"],
    },
    Tool {
        name: "gnome-lock",
        places: &["/usr/bin/gsettings"],
        arguments: &["get", "org.gnome.desktop.screensaver", "lock-enabled"],
    },
    Tool {
        name: "gnome-idle",
        places: &["/usr/bin/gsettings"],
        arguments: &["get", "org.gnome.desktop.session", "idle-delay"],
    },
    Tool {
        name: "kde-lock",
        places: &["/usr/bin/kreadconfig6", "/usr/bin/kreadconfig5"],
        arguments: &["--file", "kscreenlockerrc", "--group", "Daemon", "--key", "Autolock", "--default", "true"],
    },
];

/// A Linux system.
pub(super) struct Linux {
    root: PathBuf,
    home: PathBuf,
    /// `XDG_CURRENT_DESKTOP`: the settings of a desktop that is not used say nothing.
    desktop: String,
}

impl Linux {
    /// The one this runs on.
    pub(super) fn this() -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        Self { root: "/".into(), home, desktop: std::env::var("XDG_CURRENT_DESKTOP").unwrap_or_default() }
    }
}

impl System for Linux {
    fn tools(&self) -> &'static [Tool] {
        TOOLS
    }

    fn tell(&self, said: &Said, posture: &mut Posture) {
        if let Some(name) = os_release(&self.root) {
            posture.os_version = name;
        }
        let kernel = fs::read_to_string(self.root.join("proc/sys/kernel/osrelease"));
        posture.kernel_version = kernel.ok().as_deref().and_then(short);
        posture.disk_encrypted = disks_encrypted(&self.root, &self.home);
        posture.firewall = firewall(&self.root, said);
        posture.screen_lock = screen_lock(&self.desktop, said);
    }
}

/// `PRETTY_NAME` (os-release(5)).
fn os_release(root: &Path) -> Option<String> {
    let text =
        ["etc/os-release", "usr/lib/os-release"].iter().find_map(|path| fs::read_to_string(root.join(path)).ok())?;
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    short(value.trim_matches(['"', '\'']))
}

/// Do the file systems at / and at the user's home lie on dm-crypt, directly or through other layers? One that does not
/// is enough for a no; unknown where one is on no block device.
fn disks_encrypted(root: &Path, home: &Path) -> Option<bool> {
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    let both = [Path::new("/"), home].map(|path| {
        let block = block_device(root, &mounts, path)?;
        Some(is_encrypted(&block, MAX_LAYERS))
    });
    match both {
        [Some(false), _] | [_, Some(false)] => Some(false),
        [Some(true), Some(true)] => Some(true),
        _ => None,
    }
}

/// The directory in /sys of the device that `path` is on.
fn block_device(root: &Path, mounts: &str, path: &Path) -> Option<PathBuf> {
    // Fields: id, parent, major:minor, root, mount point, options, ..., "-", type, source, ... The longest mount point
    // that holds the path is the one in use; of several equal ones the last.
    let holds = |line: &&str| path.starts_with(line.split(' ').nth(4).unwrap_or("\0"));
    let line = mounts.lines().filter(holds).max_by_key(|line| line.split(' ').nth(4).map_or(0, str::len))?;
    let block = root.join("sys/dev/block").join(line.split(' ').nth(2)?);
    if block.exists() {
        return Some(block);
    }
    // btrfs has a number of its own, but says which device it is on.
    let source = line.split_once(" - ")?.1.split(' ').nth(1)?.strip_prefix("/dev/")?;
    let device = fs::canonicalize(root.join("dev").join(source)).ok()?;
    let block = root.join("sys/class/block").join(device.file_name()?);
    block.exists().then_some(block)
}

fn is_encrypted(block: &Path, layers: usize) -> bool {
    if fs::read_to_string(block.join("dm/uuid")).is_ok_and(|uuid| uuid.starts_with("CRYPT-")) {
        return true;
    }
    let below: Vec<PathBuf> = fs::read_dir(block.join("slaves"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    // Data that lies on several devices is encrypted if all of them are.
    layers > 0 && !below.is_empty() && below.iter().all(|device| is_encrypted(device, layers - 1))
}

/// Is something that judges incoming packets known to be on? A no cannot be known: there are firewalls of other makes,
/// and rules are shown only to root.
fn firewall(root: &Path, said: &Said) -> Option<bool> {
    let ufw = fs::read_to_string(root.join("etc/ufw/ufw.conf")).unwrap_or_default();
    let ufw =
        ufw.lines().filter_map(|line| line.trim().strip_prefix("ENABLED=")).any(|on| on.trim_matches('"') == "yes");
    let firewalld = said.by("firewalld").is_some_and(|said| said.trim() == "running");
    let nft = said.by("nft").is_some_and(|rules| rules.contains("hook input"));
    let drops = |line: &str| line.starts_with("-A INPUT") || line.starts_with(":INPUT DROP");
    let iptables = said.by("iptables").is_some_and(|rules| rules.lines().any(drops));
    (ufw || firewalld || nft || iptables).then_some(true)
}

/// Does the desktop lock the screen by itself after a while?
fn screen_lock(desktop: &str, said: &Said) -> Option<bool> {
    let on = |name: &str| match said.by(name)?.trim() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    };
    let is = |name: &str| desktop.split(':').any(|part| part.eq_ignore_ascii_case(name));
    if is("KDE") {
        return on("kde-lock");
    }
    if ["GNOME", "Unity", "Cinnamon", "Budgie"].into_iter().any(is) {
        // "uint32 300": seconds until it counts as idle; 0 is never.
        let idle = said.by("gnome-idle")?.trim().rsplit(' ').next()?.parse::<u32>().ok()?;
        return on("gnome-lock").map(|locks| locks && idle > 0);
    }
    None
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn encrypted(files: &[(&str, &str)]) -> Option<bool> {
        disks_encrypted(system(files).path(), Path::new("/home/ada"))
    }

    const ROOT_ON_DM: &str =
        "22 1 253:1 / / rw - ext4 /dev/mapper/vg-root rw\n30 22 0:5 / /dev rw - devtmpfs udev rw\n";

    #[test]
    fn sees_luks_below_lvm_and_a_plain_disk() {
        let on_dm = ("proc/self/mountinfo", ROOT_ON_DM);
        let lvm = ("sys/dev/block/253:1/dm/uuid", "LVM-abc");
        let below = ("sys/dev/block/253:1/slaves/dm-0/dm/uuid", "CRYPT-LUKS2-abc");
        assert_eq!(encrypted(&[on_dm, lvm, below]), Some(true));
        assert_eq!(encrypted(&[on_dm, lvm]), Some(false));
        assert_eq!(encrypted(&[("proc/self/mountinfo", "1 0 0:40 / / rw - overlay overlay rw\n")]), None);
        assert_eq!(encrypted(&[]), None);
        let half = ("sys/dev/block/253:1/slaves/sdb1/size", "1");
        assert_eq!(encrypted(&[on_dm, below, half]), Some(false));
    }

    #[test]
    fn the_home_counts_as_well_as_the_root() {
        let with_home = format!("{ROOT_ON_DM}31 22 8:3 / /home rw - ext4 /dev/sda3 rw\n");
        let mounts = ("proc/self/mountinfo", with_home.as_str());
        let root = ("sys/dev/block/253:1/dm/uuid", "CRYPT-LUKS2-abc");
        assert_eq!(encrypted(&[mounts, root, ("sys/dev/block/8:3/size", "1")]), Some(false), "a plain home");
        assert_eq!(encrypted(&[mounts, root]), None, "nothing is known of the home");
        assert_eq!(encrypted(&[mounts, root, ("sys/dev/block/8:3/dm/uuid", "CRYPT-LUKS2-x")]), Some(true));
    }

    #[test]
    fn sees_the_device_below_btrfs() {
        let root = system(&[
            ("proc/self/mountinfo", "22 1 0:30 /@ / rw shared:1 - btrfs /dev/mapper/luks-abc rw\n"),
            ("dev/dm-0", ""),
            ("dev/mapper/here", ""),
            ("sys/class/block/dm-0/dm/uuid", "CRYPT-LUKS2-abc"),
        ]);
        symlink("../dm-0", root.path().join("dev/mapper/luks-abc")).unwrap();
        assert_eq!(disks_encrypted(root.path(), Path::new("/home/ada")), Some(true));
    }

    #[test]
    fn names_the_system() {
        let root = system(&[
            ("etc/os-release", "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            ("proc/sys/kernel/osrelease", "6.1.0-21-amd64\n"),
        ]);
        let linux = Linux { root: root.path().into(), home: "/home/ada".into(), desktop: String::new() };
        let mut posture = Posture::default();
        linux.tell(&Said::default(), &mut posture);
        assert_eq!(posture.os_version, "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(posture.kernel_version.as_deref(), Some("6.1.0-21-amd64"));
        assert_eq!((posture.firewall, posture.screen_lock, posture.disk_encrypted), (None, None, None));
    }

    #[test]
    fn knows_firewalls_by_what_they_say() {
        let with = |ufw: &str, tool: &'static str, said: &str| {
            firewall(system(&[("etc/ufw/ufw.conf", ufw)]).path(), &Said::recorded(&[(tool, said)]))
        };
        assert_eq!(with("# x\nENABLED=yes\n", "nft", ""), Some(true));
        assert_eq!(with("ENABLED=no\n", "nft", ""), None, "off here says nothing of another make");
        assert_eq!(with("", "firewalld", "running\n\n"), Some(true));
        assert_eq!(with("", "firewalld", "not running\n"), None);
        let rules =
            "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority 0; policy drop;\n\t}\n}\n";
        assert_eq!(with("", "nft", rules), Some(true));
        assert_eq!(with("", "nft", "table inet filter {\n}\n"), None);
        assert_eq!(with("", "iptables", "*filter\n:INPUT DROP [0:0]\nCOMMIT\n"), Some(true));
        assert_eq!(with("", "iptables", "*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"), None);
    }

    #[test]
    fn asks_only_the_desktop_that_is_used() {
        let gnome = |locks: &str, idle: &str| {
            screen_lock(
                "ubuntu:GNOME",
                &Said::recorded(&[("gnome-lock", locks), ("gnome-idle", idle), ("kde-lock", "true")]),
            )
        };
        assert_eq!(gnome("true\n", "uint32 300\n"), Some(true));
        assert_eq!(gnome("true\n", "uint32 0\n"), Some(false), "it never counts as idle");
        assert_eq!(gnome("false\n", "uint32 300\n"), Some(false));
        assert_eq!(gnome("No such schema\n", "uint32 300\n"), None);
        let all = Said::recorded(&[("gnome-lock", "true"), ("gnome-idle", "uint32 300"), ("kde-lock", "false\n")]);
        assert_eq!(screen_lock("KDE", &all), Some(false));
        assert_eq!((screen_lock("", &all), screen_lock("sway", &all)), (None, None));
    }
}
