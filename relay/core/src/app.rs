//! The apps a relay stands in front of, as the configuration names them.

use postern_protocol::AppName;
use postern_protocol::control::AppKind;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// One app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Its name.
    pub name: AppName,
    /// What it speaks.
    pub kind: AppKind,
    /// Where the relay reaches it.
    pub upstream: Upstream,
    /// One line for people.
    pub description: String,
    /// The app groups it belongs to, for policy.
    pub groups: Vec<String>,
    /// To whoever may not use it, it does not exist.
    pub hidden: bool,
    /// What becomes of a live stream when its session lapses in a way that the user can mend.
    pub on_lapse: OnLapse,
}

/// What becomes of a live stream whose permit lapses for a cause that the user can mend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLapse {
    /// It is cut, as for any other cause.
    #[default]
    Cut,
    /// It is frozen, for at most this long: no byte passes either way, and none is lost.
    Hold(Duration),
}

/// Where the relay reaches an app.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// How.
    pub scheme: Scheme,
    /// Host name or IP address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// How the relay speaks to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// The bytes as they are.
    Tcp,
}

impl Scheme {
    /// As in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
        }
    }

    /// The kind of app this scheme serves.
    pub const fn kind(self) -> AppKind {
        match self {
            Self::Http | Self::Https => AppKind::Http,
            Self::Tcp => AppKind::Tcp,
        }
    }
}

/// Why a text is no upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUpstream {
    /// Not a URL.
    #[error("not a URL ({0}); write http://host:port, https://host:port or tcp://host:port")]
    Url(String),
    /// Some other scheme.
    #[error("the scheme must be http, https or tcp")]
    Scheme,
    /// No good host, or no port where there is no default.
    #[error("the host or the port is missing or not valid")]
    Authority,
    /// User information, path, query or fragment.
    #[error("only scheme, host and port belong here: no user, path, query or fragment")]
    Extra,
}

impl FromStr for Upstream {
    type Err = InvalidUpstream;
    fn from_str(text: &str) -> Result<Self, InvalidUpstream> {
        let url = Url::parse(text).map_err(|e| InvalidUpstream::Url(e.to_string()))?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "tcp" => Scheme::Tcp,
            _ => return Err(InvalidUpstream::Scheme),
        };
        let bare = url.username().is_empty() && url.password().is_none() && matches!(url.path(), "" | "/");
        if !bare || url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidUpstream::Extra);
        }
        let host =
            url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        // A host of the non-special scheme `tcp` is taken by the parser as it comes, escapes and all.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
        if host.is_empty() || !host.bytes().all(plain) {
            return Err(InvalidUpstream::Authority);
        }
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or(InvalidUpstream::Authority)?;
        Ok(Self { scheme, host, port })
    }
}

impl Upstream {
    /// `host:port`, an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

/// Why apps do not make a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidApps {
    /// Two apps have one name.
    #[error("two apps are named {0}")]
    Duplicate(AppName),
    /// The upstream's scheme does not fit the kind.
    #[error("app {0} is of kind {1}, but its upstream begins {2}://")]
    Kind(AppName, &'static str, &'static str),
    /// A name the relay keeps for itself.
    #[error("app {0}: this name is the relay's own")]
    Reserved(AppName),
}

/// The apps by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppTable {
    apps: BTreeMap<AppName, Arc<App>>,
}

impl AppTable {
    /// The table of these apps, or everything that is wrong with them.
    pub fn new(apps: Vec<App>) -> Result<Self, Vec<InvalidApps>> {
        let (mut table, mut faults) = (BTreeMap::new(), Vec::new());
        for app in apps {
            if app.upstream.scheme.kind() != app.kind {
                faults.push(InvalidApps::Kind(app.name.clone(), app.kind.as_str(), app.upstream.scheme.as_str()));
            }
            // `localhost` would put the app at the browser's own `http://localhost.localhost`.
            if app.name.as_str() == "localhost" {
                faults.push(InvalidApps::Reserved(app.name.clone()));
            }
            if let Some(twin) = table.insert(app.name.clone(), Arc::new(app)) {
                faults.push(InvalidApps::Duplicate(twin.name.clone()));
            }
        }
        if faults.is_empty() { Ok(Self { apps: table }) } else { Err(faults) }
    }

    /// The app of this name.
    pub fn get(&self, name: &AppName) -> Option<&Arc<App>> {
        self.apps.get(name)
    }

    /// All apps, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<App>> {
        self.apps.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn app(name: &str, kind: AppKind, upstream: &str) -> App {
        App {
            name: name.parse().unwrap(),
            kind,
            upstream: upstream.parse().unwrap(),
            description: String::new(),
            groups: vec![],
            hidden: false,
            on_lapse: OnLapse::Cut,
        }
    }

    #[test]
    fn upstreams_parse_and_print() {
        for (text, printed) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://wiki.internal/", "http://wiki.internal:80"),
            ("https://Wiki.internal", "https://wiki.internal:443"),
            ("tcp://[::1]:5432", "tcp://[::1]:5432"),
            ("tcp://DB:5432", "tcp://db:5432"),
        ] {
            assert_eq!(text.parse::<Upstream>().unwrap().to_string(), printed);
        }
        for bad in [
            "",
            "127.0.0.1:80",
            "ftp://a:1",
            "tcp://db",
            "http://u:p@a",
            "http://a/x",
            "http://a?x",
            "http://a#x",
            "tcp://a:0",
            "tcp://a%20b:1",
        ] {
            assert!(bad.parse::<Upstream>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_table_tells_every_fault_at_once() {
        let apps = vec![
            app("wiki", AppKind::Http, "http://a"),
            app("wiki", AppKind::Http, "http://b"),
            app("db", AppKind::Http, "tcp://c:1"),
            app("localhost", AppKind::Tcp, "tcp://c:1"),
        ];
        assert_eq!(AppTable::new(apps).unwrap_err().len(), 3);
    }

    proptest! {
        #[test]
        fn what_parses_prints_as_it_parses(text in "(http|tcp)://[a-z0-9.:\\[\\]@]{1,12}(:[0-9]{1,5})?") {
            if let Ok(upstream) = text.parse::<Upstream>() {
                prop_assert_eq!(upstream.to_string().parse::<Upstream>().unwrap(), upstream);
            }
        }
    }
}
