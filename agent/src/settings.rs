//! What a person may set at the agent: kept in `settings.json` in the state directory, below what `config.toml` says.

use crate::config::Config;
use crate::state_dir::StateDir;
use postern_protocol::local::Settings;
use postern_protocol::{AppName, Code, Problem};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const FILE: &str = "settings.json";
const MAX_FILE: u64 = 64 * 1024;
/// Most apps with a port of their own: more are not opened.
const MAX_PORTS: usize = 256;
/// Ports below are the system's; a browser's cookies are worth one that every user may open.
const FIRST_HTTP: u16 = 1024;

/// What is set, and what the configuration leaves to be set.
pub struct Kept {
    state: Arc<StateDir>,
    config_http: u16,
    config_ports: BTreeMap<AppName, u16>,
    /// The person's own.
    own: Settings,
}

impl Kept {
    /// What was set before. A file that is of no use is passed over: it must not keep the agent from starting.
    pub fn load(state: Arc<StateDir>, config: &Config) -> Self {
        let (config_http, config_ports) = (config.http_port, config.ports.clone());
        let kept = Self { state, config_http, config_ports, own: Settings::default() };
        let read = kept.state.read(FILE, MAX_FILE).and_then(|bytes| match bytes {
            None => Ok(Settings::default()),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string())),
        });
        match read.and_then(|own| kept.effective(&own).map(|_| own)) {
            Ok(own) => Self { own, ..kept },
            Err(problem) => {
                tracing::warn!(detail = problem.detail, "{FILE} is of no use: nothing is set");
                kept
            }
        }
    }

    /// What holds now.
    pub fn now(&self) -> Settings {
        // What is kept was checked before it was.
        self.effective(&self.own).unwrap_or_default()
    }

    /// Is the port of HTTP apps the configuration's?
    pub fn fixes_http(&self) -> bool {
        self.config_http != 0
    }

    /// What would hold if `wanted` were set.
    pub fn effective(&self, wanted: &Settings) -> Result<Settings, Problem> {
        let http_port = if self.config_http == 0 { wanted.http_port } else { self.config_http };
        let mut ports = wanted.ports.clone();
        ports.extend(self.config_ports.clone());
        if wanted.ports.len() > MAX_PORTS {
            return Err(invalid(format!("more than {MAX_PORTS} apps have a port")));
        }
        if self.config_http == 0 && (1..FIRST_HTTP).contains(&http_port) {
            return Err(invalid(format!("http_port is 0, to have one chosen, or {FIRST_HTTP} to 65535")));
        }
        let mut taken = BTreeSet::from([http_port]);
        for (app, port) in &ports {
            if *port == 0 {
                return Err(invalid(format!("the port of {app} is 1 to 65535")));
            }
            if !taken.insert(*port) {
                return Err(invalid(format!("port {port} is given twice")));
            }
        }
        let http = (self.config_http != 0).then(|| "http_port".to_owned());
        let fixed = http.into_iter().chain(self.config_ports.keys().map(ToString::to_string)).collect();
        Ok(Settings { http_port, ports, fixed })
    }

    /// Keeps `wanted`, but for what the configuration says.
    pub fn keep(&mut self, wanted: &Settings) -> Result<(), Problem> {
        let http_port = if self.config_http == 0 { wanted.http_port } else { self.own.http_port };
        let mut ports = wanted.ports.clone();
        ports.retain(|app, _| !self.config_ports.contains_key(app));
        let own = Settings { http_port, ports, fixed: Vec::new() };
        let bytes =
            serde_json::to_vec_pretty(&own).map_err(|error| Problem::new(Code::Internal).detail(error.to_string()))?;
        self.state.write(FILE, &bytes)?;
        self.own = own;
        Ok(())
    }
}

fn invalid(detail: String) -> Problem {
    Problem::new(Code::RequestInvalid).detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{is_private, set_mode};
    use tempfile::TempDir;

    fn state() -> (TempDir, Arc<StateDir>) {
        let dir = TempDir::new().unwrap();
        set_mode(dir.path(), 0o700);
        let state = Arc::new(StateDir::open(dir.path()).unwrap());
        (dir, state)
    }

    fn settings(http_port: u16, ports: &[(&str, u16)]) -> Settings {
        let ports = ports.iter().map(|(app, port)| (app.parse().unwrap(), *port)).collect();
        Settings { http_port, ports, fixed: vec![] }
    }

    #[test]
    fn refuses_what_no_listener_could_be() {
        let (_dir, state) = state();
        let kept = Kept::load(state, &Config::default());
        for wrong in [
            settings(80, &[]),
            settings(0, &[("db", 0)]),
            settings(5432, &[("db", 5432)]),
            settings(0, &[("db", 5432), ("other", 5432)]),
        ] {
            assert_eq!(
                kept.effective(&wrong).err().map(|problem| problem.code),
                Some(Code::RequestInvalid),
                "{wrong:?}"
            );
        }
        let many =
            Settings { ports: (1..=257).map(|n| (format!("a{n}").parse().unwrap(), n)).collect(), ..settings(0, &[]) };
        assert!(kept.effective(&many).is_err());
        assert!(kept.effective(&settings(8080, &[("db", 5432), ("other", 443)])).is_ok());
    }

    /// What the configuration says goes first, is told, and is never kept as the person's own.
    #[test]
    fn the_configuration_goes_first() {
        let (dir, state) = state();
        let config = Config { http_port: 80, ports: settings(0, &[("db", 5432)]).ports, ..Config::default() };
        let mut kept = Kept::load(Arc::clone(&state), &config);
        let wanted = settings(9000, &[("db", 1), ("git", 2222)]);
        let now = kept.effective(&wanted).unwrap();
        assert_eq!((now.http_port, &now.ports), (80, &settings(0, &[("db", 5432), ("git", 2222)]).ports));
        assert_eq!(now.fixed, ["http_port", "db"]);
        assert!(kept.effective(&settings(0, &[("git", 5432)])).is_err(), "the configuration gave it away");
        kept.keep(&now).unwrap();
        let path = dir.path().join(FILE);
        assert!(is_private(&path));
        let later = Kept::load(Arc::clone(&state), &Config::default()).now();
        assert_eq!(later, settings(0, &[("git", 2222)]));
        for broken in ["{", "{\"http_port\":80,\"ports\":{}}", "[]", "{\"http_port\":0,\"ports\":{},\"more\":1}"] {
            std::fs::write(&path, broken).unwrap();
            assert_eq!(Kept::load(Arc::clone(&state), &Config::default()).now(), Settings::default(), "{broken}");
        }
    }
}
