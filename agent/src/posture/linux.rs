//! Linux: what files that everyone may read tell.

use postern_protocol::control::Posture;
use postern_protocol::problem::printable;
use std::fs;
use std::path::{Path, PathBuf};

/// LVM on LUKS on RAID is three layers; deeper than this nobody builds.
const MAX_LAYERS: usize = 8;

pub(super) fn observe(posture: &mut Posture) {
    if let Some(name) = os_release(Path::new("/")) {
        posture.os_version = name;
    }
    posture.disk_encrypted = disk_encrypted(Path::new("/"));
    posture.firewall = firewall(Path::new("/"));
}

/// `PRETTY_NAME` (os-release(5)).
fn os_release(root: &Path) -> Option<String> {
    let text =
        ["etc/os-release", "usr/lib/os-release"].iter().find_map(|path| fs::read_to_string(root.join(path)).ok())?;
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(printable(value.trim_matches(['"', '\''])).chars().take(100).collect())
}

/// Does the file system at / lie on dm-crypt, directly or through LVM? Unknown where it is on no block device.
fn disk_encrypted(root: &Path) -> Option<bool> {
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    // Fields: id, parent, major:minor, root, mount point, ... The last mount on / is the one in use.
    let device = mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ');
        let device = fields.nth(2)?;
        (fields.nth(1)? == "/").then_some(device)
    })?;
    let block = root.join("sys/dev/block").join(device);
    block.exists().then(|| is_encrypted(&block, MAX_LAYERS))
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

/// ufw says in its configuration whether it is on. Other firewalls tell only root.
fn firewall(root: &Path) -> Option<bool> {
    let text = fs::read_to_string(root.join("etc/ufw/ufw.conf")).ok()?;
    let value = text.lines().find_map(|line| line.trim().strip_prefix("ENABLED="))?;
    match value.trim_matches('"') {
        "yes" => Some(true),
        // Off here says nothing of a firewall of another make.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const ROOT_ON_DM: &str =
        "22 1 253:1 / / rw - ext4 /dev/mapper/vg-root rw\n30 22 0:5 / /dev rw - devtmpfs udev rw\n";

    #[test]
    fn sees_luks_below_lvm_and_a_plain_disk() {
        let encrypted = system(&[
            ("proc/self/mountinfo", ROOT_ON_DM),
            ("sys/dev/block/253:1/dm/uuid", "LVM-abc"),
            ("sys/dev/block/253:1/slaves/dm-0/dm/uuid", "CRYPT-LUKS2-abc"),
        ]);
        assert_eq!(disk_encrypted(encrypted.path()), Some(true));
        let plain = system(&[("proc/self/mountinfo", ROOT_ON_DM), ("sys/dev/block/253:1/dm/uuid", "LVM-abc")]);
        assert_eq!(disk_encrypted(plain.path()), Some(false));
        let overlay = system(&[("proc/self/mountinfo", "1 0 0:40 / / rw - overlay overlay rw\n")]);
        assert_eq!(disk_encrypted(overlay.path()), None);
        assert_eq!(disk_encrypted(system(&[]).path()), None);
        let half = system(&[
            ("proc/self/mountinfo", ROOT_ON_DM),
            ("sys/dev/block/253:1/slaves/dm-0/dm/uuid", "CRYPT-LUKS2-abc"),
            ("sys/dev/block/253:1/slaves/sdb1/size", "1"),
        ]);
        assert_eq!(disk_encrypted(half.path()), Some(false));
    }

    #[test]
    fn names_the_system_and_ufw() {
        let root = system(&[("etc/os-release", "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n")]);
        assert_eq!(os_release(root.path()).as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(firewall(root.path()), None);
        assert_eq!(firewall(system(&[("etc/ufw/ufw.conf", "# x\nENABLED=yes\n")]).path()), Some(true));
        assert_eq!(firewall(system(&[("etc/ufw/ufw.conf", "ENABLED=no\n")]).path()), None);
    }
}
