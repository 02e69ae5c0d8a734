//! The device's state as far as the agent can see it without being root. What it cannot see it leaves out.

#[cfg(target_os = "linux")]
mod linux;

use postern_protocol::control::Posture;

/// Looks now. `key_storage` is where the device key lives.
pub fn observe(key_storage: &str) -> Posture {
    let mut posture = Posture {
        os: std::env::consts::OS.into(),
        os_version: "unknown".into(),
        agent_version: env!("CARGO_PKG_VERSION").into(),
        key_storage: key_storage.into(),
        ..Posture::default()
    };
    #[cfg(target_os = "linux")]
    linux::observe(&mut posture);
    posture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_it_can_see() {
        let posture = observe("keyring");
        assert_eq!((posture.os.as_str(), posture.key_storage.as_str()), (std::env::consts::OS, "keyring"));
        assert_eq!(posture.agent_version, env!("CARGO_PKG_VERSION"));
        assert!(!posture.os_version.is_empty());
    }
}
