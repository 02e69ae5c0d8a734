//! The agent's configuration: what `config.toml` says, checked, with every path resolved.
//!
//! The file may be absent. A mistake in it never goes unnoticed, and all mistakes are told at once, with their lines.

use crate::discovery;
use crate::state_dir::{read_regular, read_secret_file};
use postern_protocol::problem::printable;
use postern_protocol::{AppName, Code, Problem};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use url::Url;

const FILE_NAME: &str = "config.toml";
const MAX_FILE: u64 = 256 * 1024;
const MAX_SECRET: u64 = 4096;
const MAX_DEVICE_NAME: usize = 64;

/// A configuration that passed every check.
#[derive(Clone, Debug)]
pub struct Config {
    /// The relay to sign in at where none is given.
    pub relay: Option<String>,
    /// A further authority for the relay's public listener, in PEM.
    pub ca_pem: Option<String>,
    /// What the device calls itself.
    pub device_name: Option<String>,
    /// The local port of HTTP apps; 0: chosen once and remembered.
    pub http_port: u16,
    /// Are secrets kept in the system's keyring? If not, in memory only.
    pub keyring: bool,
    /// Fixed local ports of TCP apps.
    pub ports: BTreeMap<AppName, u16>,
    /// An http address that answers 204 where no page of the network stands in the way.
    pub captive_probe: Option<Url>,
    /// The service account that this agent signs in as.
    pub service_account: Option<ServiceAccount>,
}

/// A service account. There is no person and no keyring: the administrator gives its secrets as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its client at the provider.
    pub client_id: String,
    /// Holds the client's secret; nobody else may read it.
    pub client_secret_file: PathBuf,
    /// Holds the device key; made on first use.
    pub device_key_file: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            relay: None,
            ca_pem: None,
            device_name: None,
            http_port: 0,
            keyring: true,
            ports: BTreeMap::new(),
            captive_probe: None,
            service_account: None,
        }
    }
}

impl Config {
    /// Reads the file at `path`, or `config.toml` in the state directory if there is one.
    pub fn load(path: Option<&Path>, state_dir: &Path) -> Result<Self, Problem> {
        let file = path.map_or_else(|| state_dir.join(FILE_NAME), Path::to_path_buf);
        // The directory of the file named by --config may be linked to; the file itself is the user's own choice.
        let file = file.canonicalize().unwrap_or(file);
        match read_regular(&file, MAX_FILE) {
            Ok(bytes) => Self::parse(&file, &bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && path.is_none() => Ok(Self::default()),
            Err(error) => Err(invalid(&[format!("{}: {error}", file.display())])),
        }
    }

    fn parse(file: &Path, bytes: &[u8]) -> Result<Self, Problem> {
        let text = std::str::from_utf8(bytes).map_err(|_| invalid(&[format!("{}: is not UTF-8", file.display())]))?;
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut reader = Reader { file, text, mistakes: Vec::new() };
        for error in errors {
            reader.mistake(&error.span().unwrap_or_default(), error.message());
        }
        let config = reader.config(document.get_ref());
        if reader.mistakes.is_empty() { Ok(config) } else { Err(invalid(&reader.mistakes)) }
    }
}

impl ServiceAccount {
    /// The client's secret, read anew each time so that it can be replaced while the agent runs.
    pub fn client_secret(&self) -> Result<SecretString, Problem> {
        let bytes = read_secret_file(&self.client_secret_file, MAX_SECRET).map_err(|why| invalid(&[why]))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| invalid(&["client_secret_file is not UTF-8".into()]))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(invalid(&[format!("{} is empty", self.client_secret_file.display())])),
            secret => Ok(SecretString::from(secret)),
        }
    }
}

/// Reads tables and gathers mistakes.
struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    mistakes: Vec<String>,
}

type Entry<'t, 'a> = Option<(&'t DeValue<'a>, Range<usize>)>;

impl Reader<'_> {
    fn config(&mut self, table: &DeTable<'_>) -> Config {
        let known =
            ["relay", "ca_file", "device_name", "http_port", "keyring", "ports", "captive_probe", "service_account"];
        self.unknown_keys(table, &known);
        Config {
            relay: self.relay(get(table, "relay")),
            ca_pem: self.authority(get(table, "ca_file")),
            device_name: self.device_name(get(table, "device_name")),
            http_port: self.number(get(table, "http_port"), 0).unwrap_or(0),
            keyring: self.boolean(get(table, "keyring")).unwrap_or(true),
            ports: self.ports(get(table, "ports")),
            captive_probe: self.captive_probe(get(table, "captive_probe")),
            service_account: self.service_account(get(table, "service_account")),
        }
    }

    fn relay(&mut self, entry: Entry) -> Option<String> {
        let (text, span) = self.text(entry)?;
        if let Err(problem) = discovery::parse_address(&text) {
            self.mistake(&span, &problem.detail.unwrap_or_default());
        }
        Some(text)
    }

    fn authority(&mut self, entry: Entry) -> Option<String> {
        let (path, span) = self.path(entry)?;
        let pem = match std::fs::metadata(&path).and_then(|_| read_regular(&path.canonicalize()?, MAX_FILE)) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => {
                self.mistake(&span, &format!("{}: {error}", path.display()));
                return None;
            }
        };
        if CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok).next().is_none() {
            self.mistake(&span, &format!("{} holds no certificate in PEM", path.display()));
        }
        Some(pem)
    }

    fn device_name(&mut self, entry: Entry) -> Option<String> {
        let (name, span) = self.text(entry)?;
        if name.trim().is_empty() || name.chars().count() > MAX_DEVICE_NAME || printable(&name) != name {
            self.mistake(&span, &format!("device_name is 1 to {MAX_DEVICE_NAME} printable characters"));
        }
        Some(name)
    }

    /// In the clear, as a page of the network can only take the place of what is not encrypted.
    fn captive_probe(&mut self, entry: Entry) -> Option<Url> {
        let (text, span) = self.text(entry)?;
        let plain = |url: &Url| url.scheme() == "http" && url.has_host() && url.username().is_empty();
        let url = Url::parse(&text).ok().filter(plain);
        url.or_else(|| self.wrong(&span, "an address that begins with http://"))
    }

    fn ports(&mut self, entry: Entry) -> BTreeMap<AppName, u16> {
        let mut ports = BTreeMap::new();
        let Some((table, _)) = self.table(entry) else { return ports };
        for (key, value) in table {
            let name = key.get_ref().parse::<AppName>();
            let port = self.number(Some((value.get_ref(), value.span())), 1);
            match (name, port) {
                (Err(error), _) => self.mistake(&key.span(), &error.to_string()),
                (_, None) => {}
                (Ok(_), Some(port)) if ports.values().any(|other| *other == port) => {
                    self.mistake(&value.span(), &format!("port {port} is given to two apps"));
                }
                (Ok(name), Some(port)) => {
                    ports.insert(name, port);
                }
            }
        }
        ports
    }

    fn service_account(&mut self, entry: Entry) -> Option<ServiceAccount> {
        let (table, span) = self.table(entry)?;
        self.unknown_keys(table, &["client_id", "client_secret_file", "device_key_file"]);
        for key in ["client_id", "client_secret_file", "device_key_file"] {
            if get(table, key).is_none() {
                self.mistake(&span, &format!("service_account needs {key}"));
            }
        }
        let (client_id, at) = self.text(get(table, "client_id"))?;
        if client_id.is_empty() || printable(&client_id) != client_id {
            self.mistake(&at, "client_id is empty or not printable");
        }
        let secret = self.path(get(table, "client_secret_file"));
        let key = self.path(get(table, "device_key_file"));
        for (path, at) in secret.iter().chain(key.iter().filter(|(path, _)| path.symlink_metadata().is_ok())) {
            if let Err(why) = read_secret_file(path, MAX_SECRET) {
                self.mistake(at, &why);
            }
        }
        Some(ServiceAccount { client_id, client_secret_file: secret?.0, device_key_file: key?.0 })
    }

    fn unknown_keys(&mut self, table: &DeTable<'_>, known: &[&str]) {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let name = printable(key.get_ref());
            self.mistake(&key.span(), &format!("there is no key {name}; known here are {}", known.join(", ")));
        }
    }

    fn text(&mut self, entry: Entry) -> Option<(String, Range<usize>)> {
        match entry? {
            (DeValue::String(text), span) => Some((text.to_string(), span)),
            (_, span) => self.wrong(&span, "a text in quotes"),
        }
    }

    /// A path, taken from the directory of the file if relative.
    fn path(&mut self, entry: Entry) -> Option<(PathBuf, Range<usize>)> {
        let (text, span) = self.text(entry)?;
        if text.is_empty() {
            return self.wrong(&span, "a path");
        }
        Some((self.file.parent().unwrap_or(Path::new("/")).join(text), span))
    }

    fn number(&mut self, entry: Entry, least: u16) -> Option<u16> {
        match entry? {
            (DeValue::Integer(number), span) => {
                let port = u16::from_str_radix(number.as_str(), number.radix()).ok().filter(|port| *port >= least);
                port.or_else(|| self.wrong(&span, &format!("a port from {least} to 65535")))
            }
            (_, span) => self.wrong(&span, &format!("a port from {least} to 65535")),
        }
    }

    fn boolean(&mut self, entry: Entry) -> Option<bool> {
        match entry? {
            (DeValue::Boolean(value), _) => Some(*value),
            (_, span) => self.wrong(&span, "true or false"),
        }
    }

    fn table<'t, 'a>(&mut self, entry: Entry<'t, 'a>) -> Option<(&'t DeTable<'a>, Range<usize>)> {
        match entry? {
            (DeValue::Table(table), span) => Some((table, span)),
            (_, span) => self.wrong(&span, "a table"),
        }
    }

    fn wrong<T>(&mut self, span: &Range<usize>, wanted: &str) -> Option<T> {
        self.mistake(span, &format!("{wanted} is expected here"));
        None
    }

    fn mistake(&mut self, span: &Range<usize>, what: &str) {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        self.mistakes.push(format!("{}:{line}: {}", self.file.display(), printable(what)));
    }
}

fn get<'t, 'a>(table: &'t DeTable<'a>, key: &str) -> Entry<'t, 'a> {
    table.get(key).map(|value: &Spanned<DeValue>| (value.get_ref(), value.span()))
}

fn invalid(mistakes: &[String]) -> Problem {
    Problem::new(Code::ConfigInvalid).detail(mistakes.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::set_mode;
    use proptest::prelude::*;
    use std::fs;

    fn load(text: &str) -> Result<Config, Problem> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.toml"), text).unwrap();
        let ca = rcgen::CertificateParams::default().self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.path().join("ca.crt"), ca.pem()).unwrap();
        fs::write(dir.path().join("secret"), "s3cret\n").unwrap();
        set_mode(&dir.path().join("secret"), 0o600);
        let config = Config::load(None, dir.path())?;
        if let Some(account) = &config.service_account {
            use secrecy::ExposeSecret as _;
            assert_eq!(account.client_secret().unwrap().expose_secret(), "s3cret");
        }
        Ok(config)
    }

    #[test]
    fn everything_is_optional() {
        let config = load("").unwrap();
        assert!(config.keyring && config.relay.is_none() && config.http_port == 0);
        let dir = tempfile::tempdir().unwrap();
        assert!(Config::load(None, dir.path()).is_ok(), "the default file may be absent");
        assert_eq!(Config::load(Some(&dir.path().join("x")), dir.path()).unwrap_err().code, Code::ConfigInvalid);
    }

    #[test]
    fn reads_what_it_is_told() {
        let config = load(
            "relay = \"relay.example\"\nca_file = \"ca.crt\"\ndevice_name = \"laptop\"\nhttp_port = 8000\nkeyring = false\ncaptive_probe = \"http://probe.example/204\"\n\
             [ports]\ndb = 15432\n[service_account]\nclient_id = \"ci\"\nclient_secret_file = \"secret\"\ndevice_key_file = \"k\"\n",
        )
        .unwrap();
        assert_eq!(config.ports.get(&"db".parse().unwrap()), Some(&15432));
        assert!(config.ca_pem.unwrap().contains("BEGIN CERTIFICATE"));
        assert!(config.service_account.unwrap().device_key_file.is_absolute());
        assert!(!config.keyring && config.captive_probe.is_some());
    }

    #[test]
    fn tells_every_mistake_with_its_line() {
        let problem = load(
            "relay = \"http://relay.example\"\nca_file = \"absent\"\nhttp_port = 70000\nkeyring = \"no\"\nkeyrng = true\ncaptive_probe = \"https://x.example\"\n\
             [ports]\nDB = 1\na = 0\nb = 5\nc = 5\n[service_account]\nclient_id = 7\n",
        )
        .unwrap_err();
        assert_eq!(problem.code, Code::ConfigInvalid);
        let detail = problem.detail.unwrap();
        for (line, what) in [
            (1, "only https"),
            (2, "absent"),
            (3, "a port from 0"),
            (4, "true or false"),
            (5, "there is no key keyrng"),
            (6, "begins with http://"),
            (8, "app name"),
            (9, "a port from 1"),
            (11, "two apps"),
            (12, "needs client_secret_file"),
            (13, "a text in quotes"),
        ] {
            let found = detail.lines().any(|m| m.contains(&format!("config.toml:{line}:")) && m.contains(what));
            assert!(found, "line {line} {what:?} in {detail}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_that_others_can_read_is_a_mistake() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        set_mode(&dir.path().join("secret"), 0o644);
        let text = "[service_account]\nclient_id = \"ci\"\nclient_secret_file = \"secret\"\ndevice_key_file = \"k\"\n";
        fs::write(dir.path().join("config.toml"), text).unwrap();
        let detail = Config::load(None, dir.path()).unwrap_err().detail.unwrap();
        assert!(detail.contains("chmod 600"), "{detail}");
    }

    proptest! {
        #[test]
        fn a30_no_text_makes_it_panic(text in "(\\PC|\n){0,200}") {
            let _ = Config::parse(Path::new("/c.toml"), text.as_bytes());
        }

        #[test]
        fn a30_no_near_miss_makes_it_panic(
            key in "(relay|ca_file|http_port|ports|ports.a|service_account|service_account.client_id|keyring)",
            value in "(\"[ -~]{0,20}\"|-?[0-9_]{1,25}|0x[0-9a-f]{1,20}|\\[\\]|\\{\\}|true|1e5|\\{a=1\\})",
        ) {
            let _ = Config::parse(Path::new("/c.toml"), format!("{key} = {value}\n").as_bytes());
        }
    }
}
