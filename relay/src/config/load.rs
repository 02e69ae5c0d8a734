//! From `relay.toml` to a [`Config`]: each section by name, then the checks that need other files.

use super::reader::{Found, Section, Source};
use super::{
    Config, Fault, Limits, Listen, ProviderConfig, ServiceAccount, SignalsConfig, TlsFiles, checks, on_lapse, provider,
    signals,
};
use crate::keys::Keys;
use postern_protocol::AppName;
use postern_protocol::control::AppKind;
use postern_protocol::problem::printable;
use postern_relay_core::app::{App, AppTable, InvalidApps};
use postern_relay_core::limits::MAX_POLICY_BYTES;
use postern_relay_core::principal::PrincipalKey;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// Reads and checks the configuration and the keys it names. The error is every mistake there is, in order.
pub fn load(file: &Path, state_dir: Option<&Path>) -> Result<(Config, Keys), Vec<Fault>> {
    let source = open(file)?;
    let draft = source.read(|root| Draft::read(&source, root, file, state_dir));
    let (loaded, mut faults) = checks::complete(&source, draft);
    faults.extend(source.into_faults());
    faults.sort();
    match loaded {
        Some(loaded) if faults.is_empty() => Ok(loaded),
        _ => Err(faults),
    }
}

/// Where things are, according to a configuration that may have mistakes elsewhere.
pub struct Outline {
    /// Directory of the keys.
    pub keys_dir: PathBuf,
    /// Directory of store, audit log and admin socket.
    pub state_dir: PathBuf,
    /// The Cedar policy file.
    pub policy_file: PathBuf,
    /// The audit log.
    pub audit_file: PathBuf,
    /// How old a posture report may be.
    pub posture_max_age: Duration,
    /// The apps, if they have no mistakes.
    pub apps: Option<Arc<AppTable>>,
    /// The provider's issuer, if there is one.
    pub provider: Option<String>,
}

/// Reads only where things are. The error: the file cannot be read, or is not even TOML.
pub fn outline(file: &Path, state_dir: Option<&Path>) -> Result<Outline, Vec<Fault>> {
    let source = open(file)?;
    if let Err(error) = source.text.parse::<toml::Table>() {
        let at = error.span().map_or(0, |span| span.start);
        return Err(vec![Fault::at(file, &source.text, at, error.message(), "correct the TOML here")]);
    }
    let draft = source.read(|root| Draft::read(&source, root, file, state_dir));
    Ok(Outline {
        keys_dir: draft.keys_dir.value,
        state_dir: draft.state_dir.value,
        policy_file: draft.policy_file.value,
        audit_file: draft.audit_file.value,
        posture_max_age: draft.posture_max_age.value,
        apps: draft.apps,
        provider: draft.provider.map(|provider| provider.issuer_text),
    })
}

/// The text of a file, but no more than could be a policy's, and a byte: a link may lead to what never ends.
pub(crate) fn text_of(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(file)?.take(MAX_POLICY_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

fn open(file: &Path) -> Result<Source, Vec<Fault>> {
    let text = text_of(file).map_err(|error| {
        let fix = "give the file with --config FILE, or make one: postern-relay init DIR";
        vec![Fault::of_file(file, format!("cannot be read: {error}"), fix)]
    })?;
    Ok(Source::new(file.to_owned(), text))
}

/// What the file says, before the files it names are opened. `None`: there was a mistake, already noted.
pub(super) struct Draft {
    pub(super) file: PathBuf,
    pub(super) text: Arc<str>,
    pub(super) state_override: Option<PathBuf>,
    pub(super) organisation: Option<String>,
    pub(super) trust_domain: Option<postern_protocol::TrustDomain>,
    pub(super) issuer: Option<Url>,
    pub(super) listen: Option<Listen>,
    pub(super) tls: Option<Found<TlsFiles>>,
    pub(super) keys_dir: Found<PathBuf>,
    pub(super) state_dir: Found<PathBuf>,
    pub(super) policy_file: Found<PathBuf>,
    pub(super) audit_file: Found<PathBuf>,
    pub(super) provider: Option<ProviderConfig>,
    pub(super) token_lifetime: Duration,
    pub(super) session_max_age: Option<Duration>,
    pub(super) certificate_lifetime: Duration,
    pub(super) posture_max_age: Found<Duration>,
    pub(super) limits: Limits,
    pub(super) apps: Option<Arc<AppTable>>,
    pub(super) service_accounts: Vec<ServiceAccount>,
    pub(super) signals: Vec<SignalsConfig>,
}

impl Draft {
    fn read(source: &Source, mut root: Section<'_>, file: &Path, state_override: Option<&Path>) -> Self {
        let base = file.parent().unwrap_or(Path::new(""));
        let organisation = root.needed_text("organisation", "Example Corp");
        let organisation = root.parsed("organisation", organisation, shown_text, SHORTER);
        let trust_domain = root.needed_text("trust_domain", "corp.example");
        let trust_domain = root.parsed(
            "trust_domain",
            trust_domain,
            str::parse,
            "write a name of your own in lower case, such as \"corp.example\"",
        );
        let issuer = root.text("issuer");
        let issuer = root.parsed("issuer", issuer, public_address, "write https://HOST or https://HOST:PORT");
        let listen = listen(root.child("listen"));
        if issuer.is_none() && listen.as_ref().is_some_and(|listen| listen.public.ip().is_unspecified()) {
            let fix = "add issuer = \"https://HOST:PORT\", the address that people type";
            source.fault(
                0,
                "`issuer` is missing, and an address to listen on that means all addresses cannot stand for it",
                fix,
            );
        }
        let tls = tls(source, root.child("tls"), base);
        let keys_dir = only_path(root.child("keys"), "dir", &base.join("keys"), base);
        let mut state_dir = only_path(root.child("state"), "dir", &base.join("state"), base);
        if let Some(dir) = state_override {
            state_dir.value = dir.to_owned();
        }
        let policy_file = only_path(root.child("policy"), "file", &base.join("policy.cedar"), base);
        let audit_file = only_path(root.child("audit"), "file", &state_dir.value.join("audit.jsonl"), base);
        let provider = provider::read(source, root.child("provider"));
        let (token_lifetime, session_max_age) = session(root.child("session"));
        let certificate_lifetime =
            only_duration(root.child("certificate"), "lifetime", DAY, SECOND * 5, DAY * 30).value;
        let posture_max_age = only_duration(root.child("posture"), "max_age", MINUTE * 5, SECOND, DAY);
        let limits = limits(root.child("limits"));
        let apps = apps(source, root.children("app"));
        let service_accounts = service_accounts(source, root.children("service_account"), provider.as_ref());
        let signals = signals::read(source, root.children("signals"), base);
        root.finish();
        Self {
            file: file.to_owned(),
            text: source.text.as_str().into(),
            state_override: state_override.map(Path::to_owned),
            organisation: organisation.map(|found| found.value),
            trust_domain: trust_domain.map(|found| found.value),
            issuer: issuer.map(|found| found.value),
            listen,
            tls,
            keys_dir,
            state_dir,
            policy_file,
            audit_file,
            provider,
            token_lifetime,
            session_max_age,
            certificate_lifetime,
            posture_max_age,
            limits,
            apps,
            service_accounts,
            signals,
        }
    }
}

fn listen(mut section: Section<'_>) -> Option<Listen> {
    let fix = "write an IP address and a port, such as \"0.0.0.0:8443\" or \"[::]:8443\"";
    let address =
        |text: &str| text.parse::<SocketAddr>().map_err(|_| format!("\"{text}\" is not an address to listen on"));
    let quic = section.needed_text("quic", "0.0.0.0:4433");
    let quic = section.parsed("quic", quic, address, fix);
    let public = section.needed_text("public", "0.0.0.0:8443");
    let public = section.parsed("public", public, address, fix);
    let advertise = section.text("advertise_quic");
    let advertise_quic =
        section.parsed("advertise_quic", advertise, host_and_port, "write HOST:PORT, as agents reach it");
    section.finish();
    Some(Listen { quic: quic?.value, public: public?.value, advertise_quic: advertise_quic.map(|found| found.value) })
}

fn tls(source: &Source, mut section: Section<'_>, base: &Path) -> Option<Found<TlsFiles>> {
    let (certificate, key) = (section.text("certificate"), section.text("key"));
    let start = section.start();
    if section.present() && certificate.is_some() != key.is_some() {
        let fix = "give both certificate and key, or remove [tls] and let the relay issue its own";
        source.fault(start, "`tls` names only one of certificate and key", fix);
    }
    section.finish();
    let (certificate, key) = (certificate?, key?);
    let span = certificate.span;
    let value = TlsFiles { certificate: base.join(certificate.value), key: base.join(key.value) };
    Some(Found { value, span })
}

fn limits(mut section: Section<'_>) -> Limits {
    // Agents keep four streams back for what keeps a session alive.
    let streams_per_connection = section.number("streams_per_connection", 8, 20_000).unwrap_or(1_000);
    let mut number = |key, default: u32, most| {
        let value = section.number(key, 1, most).unwrap_or(default);
        NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN)
    };
    let limits = Limits {
        requests_per_second: number("requests_per_second", 2_000, 1_000_000),
        burst: number("burst", 4_000, 1_000_000),
        enrolments_per_minute: number("enrolments_per_minute", 30, 100_000),
        connections: number("connections", 10_000, 1_000_000).get(),
        streams_per_connection,
    };
    section.finish();
    limits
}

fn apps(source: &Source, sections: Vec<Section<'_>>) -> Option<Arc<AppTable>> {
    let mut apps: Vec<App> = Vec::new();
    let mut names = BTreeSet::new();
    let mut sound = true;
    for mut section in sections {
        let (named, found) = app(&mut section);
        section.finish();
        if let Some(Found { value: name, span }) = &named
            && !names.insert(name.clone())
        {
            sound = false;
            source.fault(span.start, format!("a second app is named `{name}`"), "give each app a name of its own");
            continue;
        }
        let Some((app, name_at, upstream_at)) = found else {
            sound = false;
            continue;
        };
        if let Err(faults) = AppTable::new(vec![app.clone()]) {
            sound = false;
            for fault in faults {
                let (at, fix) = match fault {
                    InvalidApps::Kind(..) => (upstream_at, "an http app has http:// or https://, a tcp app tcp://"),
                    InvalidApps::Duplicate(_) | InvalidApps::Reserved(_) => (name_at, "choose another name"),
                };
                source.fault(at, fault.to_string(), fix);
            }
        } else {
            apps.push(app);
        }
    }
    let table = AppTable::new(apps).ok().filter(|_| sound)?;
    Some(Arc::new(table))
}

/// An app, and where its name and its upstream stand.
type Placed = (App, usize, usize);

/// The name of an app, which may have mistakes elsewhere, and the app if it has none.
fn app(section: &mut Section<'_>) -> (Option<Found<AppName>>, Option<Placed>) {
    let name = section.needed_text("name", "wiki");
    let fix = "use lower-case letters, digits and hyphens: it becomes NAME.localhost";
    let name = section.parsed("name", name, str::parse, fix);
    let kind = section.needed_text("kind", "http");
    let kind = section.parsed("kind", kind, app_kind, "write kind = \"http\" or kind = \"tcp\"");
    let upstream = section.needed_text("upstream", "http://127.0.0.1:8080");
    let fix = "write http://HOST:PORT, https://HOST:PORT or tcp://HOST:PORT";
    let upstream = section.parsed("upstream", upstream, str::parse, fix);
    let description = section.text("description").map(|found| found.value).unwrap_or_default();
    let groups = section.list("groups").unwrap_or_default().into_iter().map(|group| group.value).collect();
    let hidden = section.flag("hidden", false);
    let on_lapse = on_lapse::read(section, kind.as_ref().map(|kind| kind.value));
    let whole = name.clone().zip(kind).zip(upstream).map(|((name, kind), upstream)| {
        let Found { value: name, span } = name;
        let app = App { name, kind: kind.value, upstream: upstream.value, description, groups, hidden, on_lapse };
        (app, span.start, upstream.span.start)
    });
    (name, whole)
}

fn service_accounts(
    source: &Source,
    sections: Vec<Section<'_>>,
    provider: Option<&ProviderConfig>,
) -> Vec<ServiceAccount> {
    let mut accounts: Vec<ServiceAccount> = Vec::new();
    for mut section in sections {
        let start = section.start();
        let subject = section.needed_text("subject", "ci-runner");
        let subject =
            section.parsed("subject", subject, checked_subject, "write the subject as the provider's token has it");
        let thumbprint = section.needed_text("key_thumbprint", "base64url of the key's SHA-256");
        let thumbprint = section.parsed(
            "key_thumbprint",
            thumbprint,
            checked_thumbprint,
            "write the 43 characters that the agent prints for its key",
        );
        section.finish();
        if provider.is_some_and(|provider| provider.resource.is_none()) {
            let fix = "add resource = \"...\" to [provider]: what the provider puts into `aud` of access tokens for the relay";
            source.fault(
                start,
                "a service account signs in with an access token, but `provider.resource` is not set",
                fix,
            );
        }
        let (Some(subject), Some(thumbprint)) = (subject, thumbprint) else { continue };
        if accounts.iter().any(|other| other.subject == subject.value && other.key_thumbprint == thumbprint.value) {
            let fix = "keep one of the two";
            source.fault(subject.span.start, format!("service account `{}` stands here twice", subject.value), fix);
        } else {
            accounts.push(ServiceAccount { subject: subject.value, key_thumbprint: thumbprint.value });
        }
    }
    accounts
}

/// A section whose only key is a path.
fn only_path(mut section: Section<'_>, key: &'static str, default: &Path, base: &Path) -> Found<PathBuf> {
    let found = section.text(key);
    let start = section.start();
    section.finish();
    match found {
        Some(Found { value, span }) => Found { value: base.join(value), span },
        None => Found { value: default.to_owned(), span: start..start },
    }
}

/// How long a session token lives, and how long a session after its user proved themself.
fn session(mut section: Section<'_>) -> (Duration, Option<Duration>) {
    let token_lifetime = section.duration("token_lifetime", MINUTE * 5, SECOND, HOUR).value;
    let max_age = section.duration_if_given("max_age", HOUR * 12, SECOND * 15, DAY * 366);
    section.finish();
    (token_lifetime, max_age.map(|found| found.value))
}

/// A section whose only key is a duration.
fn only_duration(
    mut section: Section<'_>,
    key: &'static str,
    default: Duration,
    least: Duration,
    most: Duration,
) -> Found<Duration> {
    let value = section.duration(key, default, least, most);
    section.finish();
    value
}

/// An https address without anything after the port.
fn public_address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if url.scheme() != "https" {
        Err("the relay's address begins with https://".to_owned())
    } else if !bare || has_user(&url) {
        Err("only host and port belong here".to_owned())
    } else {
        Ok(url)
    }
}

pub(super) fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Is the host of `url` this machine, by its address or by the name that always means it?
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

pub(super) const SHORTER: &str = "write it shorter and in plain characters";

/// Text that agents show or send on; they refuse a relay that tells them other text.
pub(super) fn shown_text(text: &str) -> Result<String, &'static str> {
    match text {
        long if long.len() > 200 => Err("longer than 200 bytes"),
        odd if printable(odd) != odd => Err("holds control characters"),
        fine => Ok(fine.to_owned()),
    }
}

fn host_and_port(text: &str) -> Result<String, String> {
    let url = Url::parse(&format!("quic://{text}")).map_err(|error| error.to_string())?;
    let bare = url.path().is_empty() && url.query().is_none() && url.fragment().is_none() && !has_user(&url);
    if bare && url.host().is_some() && url.port().is_some_and(|port| port != 0) {
        Ok(text.to_owned())
    } else {
        Err(format!("\"{text}\" is not HOST:PORT"))
    }
}

fn app_kind(text: &str) -> Result<AppKind, String> {
    match text {
        "http" => Ok(AppKind::Http),
        "tcp" => Ok(AppKind::Tcp),
        other => Err(format!("there is no kind \"{other}\"")),
    }
}

fn checked_subject(text: &str) -> Result<String, String> {
    PrincipalKey::new("https://provider", text).map(|key| key.subject().to_owned()).map_err(|error| error.to_string())
}

fn checked_thumbprint(text: &str) -> Result<String, String> {
    use base64::Engine as _;
    match base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text) {
        Ok(hash) if hash.len() == 32 => Ok(text.to_owned()),
        _ => Err("not the base64url of a SHA-256".to_owned()),
    }
}
