//! A command line that reaches a `tcp` app, where its port at the relay is that of a well-known protocol.

use postern_protocol::AppName;
use std::path::Path;

/// The command of the app whose port at the relay is `known`, reached at `local` here. `state_dir`: where it is not the
/// default one.
pub(super) fn of(app: &AppName, known: Option<u16>, local: Option<u16>, state_dir: Option<&Path>) -> Option<String> {
    match (known?, local) {
        (22, local) => ssh(app, local, state_dir),
        (3306, Some(port)) => Some(format!("mysql -h 127.0.0.1 -P {port}")),
        (3389, Some(port)) => Some(format!("xfreerdp /v:127.0.0.1:{port}")),
        (5432, Some(port)) => Some(format!("psql -h 127.0.0.1 -p {port}")),
        (6379, Some(port)) => Some(format!("redis-cli -h 127.0.0.1 -p {port}")),
        (27017, Some(port)) => Some(format!("mongosh mongodb://127.0.0.1:{port}")),
        _ => None,
    }
}

/// By `postern connect`, whose host name is the app's: so are the entries in known_hosts.
fn ssh(app: &AppName, local: Option<u16>, state_dir: Option<&Path>) -> Option<String> {
    let connect = match state_dir.map(|path| path.to_str().filter(|path| is_plain(path))) {
        None => format!("postern connect {app}"),
        Some(Some(path)) => format!("postern --state-dir {path} connect {app}"),
        // Quoted for two shells and for ssh's own percent signs nobody could read it.
        Some(None) => return Some(format!("ssh -p {} -o HostKeyAlias={app} 127.0.0.1", local?)),
    };
    Some(format!("ssh -o ProxyCommand='{connect}' {app}"))
}

/// Does it mean itself to every shell?
fn is_plain(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_ports_have_a_command() {
        let db: AppName = "db".parse().unwrap();
        let command = |known, local, dir: Option<&str>| of(&db, known, local, dir.map(Path::new));
        for (known, wanted) in [
            (22, "ssh -o ProxyCommand='postern connect db' db"),
            (3306, "mysql -h 127.0.0.1 -P 7000"),
            (5432, "psql -h 127.0.0.1 -p 7000"),
            (6379, "redis-cli -h 127.0.0.1 -p 7000"),
            (27017, "mongosh mongodb://127.0.0.1:7000"),
        ] {
            assert_eq!(command(Some(known), Some(7000), None).as_deref(), Some(wanted));
        }
        assert_eq!(command(Some(8080), Some(7000), None), None);
        assert_eq!(command(None, Some(7000), None), None);
        assert_eq!(command(Some(5432), None, None), None, "there is no local port");
    }

    #[test]
    fn another_state_directory_is_named_and_no_path_is_a_command() {
        let git: AppName = "git".parse().unwrap();
        let ssh = |dir: &str| of(&git, Some(22), Some(7000), Some(Path::new(dir))).unwrap();
        assert_eq!(ssh("/home/ada/.work"), "ssh -o ProxyCommand='postern --state-dir /home/ada/.work connect git' git");
        for odd in ["/tmp/a b", "/tmp/'; rm -rf ~;'", "/tmp/$(id)", "/tmp/%h", "/tmp/\u{e4}"] {
            assert_eq!(ssh(odd), "ssh -p 7000 -o HostKeyAlias=git 127.0.0.1");
        }
    }
}
