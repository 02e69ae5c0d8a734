//! The real relay in its own process, and the commands of its administrator.

use crate::client::{Reply, collect, exchange};
use crate::process::{Output, Process, run};
use crate::wait::{SHORT, within};
use crate::world::World;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What goes into `relay.toml` and `policy.cedar`.
#[derive(Clone)]
pub struct Settings {
    sections: BTreeMap<&'static str, BTreeMap<&'static str, String>>,
    apps: Vec<App>,
    service_accounts: Vec<(String, String)>,
    transmitters: Vec<String>,
    policy: Option<String>,
    environment: Vec<(&'static str, String)>,
}

/// An app of the relay.
#[derive(Clone)]
pub struct App {
    name: String,
    kind: &'static str,
    upstream: String,
    group: &'static str,
    hidden: bool,
    hold_for: Option<&'static str>,
}

impl App {
    /// An HTTP app in the group `internal`.
    pub fn http(name: &str, upstream: SocketAddr) -> Self {
        Self {
            name: name.into(),
            kind: "http",
            upstream: format!("http://{upstream}"),
            group: "internal",
            hidden: false,
            hold_for: None,
        }
    }

    /// A TCP app in the group `internal`.
    pub fn tcp(name: &str, upstream: SocketAddr) -> Self {
        Self { kind: "tcp", upstream: format!("tcp://{upstream}"), ..Self::http(name, upstream) }
    }

    /// The same app in the group `vault`, which the sample policy denies with a reason and a fix.
    #[must_use]
    pub fn denied(self) -> Self {
        Self { group: "vault", ..self }
    }

    /// The same app, whose streams are held for so long instead of being cut when the user can mend the cause.
    #[must_use]
    pub fn held(self, hold_for: &'static str) -> Self {
        Self { hold_for: Some(hold_for), ..self }
    }

    /// The same app, hidden from whoever may not use it.
    #[must_use]
    pub fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }
}

/// Staff may use the group `internal`.
const STAFF: &str = r#"@id("staff-internal")
permit(principal in Group::"staff", action, resource in AppGroup::"internal");
"#;

/// The group `vault` is for its keepers, and says why.
const VAULT: &str = r#"@id("keepers-vault")
permit(principal in Group::"keepers", action, resource in AppGroup::"vault");

@id("vault-closed")
@reason("The vault is for its keepers only.")
@fix("Ask security@corp.example to make you a keeper.")
forbid(principal, action, resource in AppGroup::"vault") unless { principal in Group::"keepers" };
"#;

impl Settings {
    /// A relay of `corp.example` that trusts this provider, with short but honest defaults.
    pub fn new(provider: impl std::fmt::Display) -> Self {
        let mut settings = Self {
            sections: BTreeMap::new(),
            apps: Vec::new(),
            service_accounts: Vec::new(),
            transmitters: Vec::new(),
            policy: None,
            environment: Vec::new(),
        };
        settings.put("", "organisation", "\"Example Corp\"");
        settings.put("", "trust_domain", "\"corp.example\"");
        settings.put("listen", "quic", "\"127.0.0.1:0\"");
        settings.put("listen", "public", "\"127.0.0.1:0\"");
        // Issuers are compared byte by byte, and a URL type's own "/" at the end is not part of ours.
        settings.put("provider", "issuer", &format!("\"{}\"", provider.to_string().trim_end_matches('/')));
        settings.put("provider", "client_id", "\"postern\"");
        settings.put("provider", "scopes", r#"["openid", "profile", "email", "offline_access"]"#);
        settings.put("provider", "resource", &format!("\"{}\"", crate::stand_in::RESOURCE));
        settings.put("policy", "file", "\"policy.cedar\"");
        settings.put("limits", "enrolments_per_minute", "100000");
        settings
    }

    /// With this app.
    #[must_use]
    pub fn app(mut self, app: App) -> Self {
        self.apps.push(app);
        self
    }

    /// With `key = value` (as TOML writes it) in a section; the empty name is the top of the file.
    #[must_use]
    pub fn set(mut self, section: &'static str, key: &'static str, value: &str) -> Self {
        self.put(section, key, value);
        self
    }

    /// With this policy instead of the one that goes with the apps.
    #[must_use]
    pub fn policy(mut self, policy: &str) -> Self {
        self.policy = Some(policy.into());
        self
    }

    /// With this service account.
    #[must_use]
    pub fn service_account(mut self, subject: &str, thumbprint: &str) -> Self {
        self.service_accounts.push((subject.into(), thumbprint.into()));
        self
    }

    /// With this variable in the environment of the relay.
    #[must_use]
    pub fn environment(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// With this transmitter of security events, whose keys are at `/jwks` below its issuer, for the audience `urn:relay`.
    #[must_use]
    pub fn transmitter(mut self, issuer: &str) -> Self {
        self.transmitters.push(issuer.into());
        self
    }

    fn put(&mut self, section: &'static str, key: &'static str, value: &str) {
        self.sections.entry(section).or_default().insert(key, value.into());
    }

    /// The policy: a relay refuses one that speaks of apps it does not have.
    fn policy_text(&self) -> String {
        let part =
            |group: &str, text: &'static str| if self.apps.iter().any(|app| app.group == group) { text } else { "" };
        self.policy.clone().unwrap_or_else(|| [part("internal", STAFF), part("vault", VAULT)].concat())
    }

    fn to_toml(&self) -> String {
        let mut text = String::new();
        for (section, entries) in &self.sections {
            if !section.is_empty() {
                text += &format!("[{section}]\n");
            }
            for (key, value) in entries {
                text += &format!("{key} = {value}\n");
            }
        }
        for App { name, kind, upstream, group, hidden, hold_for } in &self.apps {
            text += &format!("[[app]]\nname = \"{name}\"\nkind = \"{kind}\"\nupstream = \"{upstream}\"\n");
            text += &format!("description = \"The {name}\"\ngroups = [\"{group}\"]\nhidden = {hidden}\n");
            if let Some(time) = hold_for {
                text += &format!("on_lapse = \"hold\"\nhold_for = \"{time}\"\n");
            }
        }
        for (subject, thumbprint) in &self.service_accounts {
            text += &format!("[[service_account]]\nsubject = \"{subject}\"\nkey_thumbprint = \"{thumbprint}\"\n");
        }
        for issuer in &self.transmitters {
            text += &format!("[[signals]]\nname = \"{issuer}\"\nissuer = \"{issuer}\"\njwks_uri = \"{issuer}/jwks\"\n");
            text += "audience = \"urn:relay\"\n";
        }
        text
    }
}

/// A relay.
pub struct Relay {
    /// Its directory: configuration, keys, state.
    pub dir: PathBuf,
    /// Its public listener.
    pub public: SocketAddr,
    /// Its QUIC endpoint.
    pub quic: SocketAddr,
    /// Its issuer.
    pub issuer: String,
    /// The name on the certificate of its QUIC endpoint.
    pub server_name: String,
    name: String,
    logs: PathBuf,
    serve: PathBuf,
    process: Process,
    settings: Settings,
    starts: u32,
}

impl Relay {
    /// Makes a relay by `init`, writes its configuration and serves it.
    pub async fn start(world: &World, settings: Settings) -> Self {
        Self::start_named(world, "relay", settings).await
    }

    /// The same under another name than `relay`.
    pub async fn start_named(world: &World, name: &str, settings: Settings) -> Self {
        let dir = world.path(name);
        world.postern_relay(&["init", dir.to_str().unwrap()]).await.ok();
        configure(&dir, &settings);
        let serve = crate::world::binary("postern-relay");
        let mut process = spawn(&dir, &serve, &settings, name, &world.logs());
        let ready = process.ready().await;
        let mut relay = Self {
            public: ready["public"].as_str().unwrap().parse().unwrap(),
            quic: ready["quic"].as_str().unwrap().parse().unwrap(),
            issuer: ready["issuer"].as_str().unwrap().into(),
            server_name: String::new(),
            name: name.into(),
            logs: world.logs(),
            dir,
            serve,
            process,
            settings,
            starts: 1,
        };
        let discovery = relay.get("/.well-known/postern").await.json();
        relay.server_name = discovery["relay"]["server_name"].as_str().unwrap().into();
        relay
    }

    /// Asks it to stop, as a service manager would, and waits.
    pub async fn stop(&mut self) -> Output {
        self.process.stop().await
    }

    /// Ends it as a power cut would.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Serves again, at the same addresses and with these settings' other values.
    pub async fn serve_again(&mut self, settings: Option<Settings>) {
        let settings = settings.unwrap_or_else(|| self.settings.clone());
        self.settings = settings.set("listen", "quic", &format!("\"{}\"", self.quic)).set(
            "listen",
            "public",
            &format!("\"{}\"", self.public),
        );
        configure(&self.dir, &self.settings);
        self.starts += 1;
        let name = format!("{}-{}", self.name, self.starts);
        self.process = spawn(&self.dir, &self.serve, &self.settings, &name, &self.logs);
        self.process.ready().await;
    }

    /// Lets no file of the running relay grow beyond `bytes`, as a full disk would; `None` takes that back.
    pub async fn limit_files(&self, bytes: Option<u64>) {
        let limit = bytes.map_or("unlimited".into(), |bytes| bytes.to_string());
        let id = self.process.id().unwrap().to_string();
        let mut prlimit = crate::process::command("prlimit");
        run(prlimit.args(["--pid", &id, &format!("--fsize={limit}:unlimited")])).await.ok();
    }

    /// Does it still run?
    pub fn runs(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// What it has logged since it was started last.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// A command of its administrator, with its configuration.
    pub async fn admin(&self, arguments: &[&str]) -> Output {
        run(base(&self.dir, &self.serve).args(arguments).arg("--config").arg(self.dir.join("relay.toml"))).await
    }

    /// Revokes a `user`, `device` or `session`.
    pub async fn revoke(&self, what: &str, id: &str) -> Output {
        self.admin(&["revoke", what, id]).await
    }

    /// The file of the audit log.
    pub fn audit_file(&self) -> PathBuf {
        self.dir.join("state/audit.jsonl")
    }

    /// The records of the audit log so far.
    pub fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.audit_file()).unwrap_or_default();
        // The last line may be in the middle of being written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// The first audit record for which `wanted` holds, once it is there.
    pub async fn audited(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        crate::wait::eventually(&format!("audit: {what}"), async || self.audit().into_iter().find(&wanted)).await
    }

    /// The public half of one of its keys: `session`, `identity`, `audit`, `device-ca` or `server-ca`.
    pub fn public_key(&self, name: &str) -> Vec<u8> {
        let pem = std::fs::read_to_string(self.dir.join("keys").join(name).with_extension("key")).unwrap();
        rcgen::KeyPair::from_pem(&pem).unwrap().public_key_raw().to_vec()
    }

    /// The authority behind its server certificates, in DER.
    pub fn server_authority(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.authority_file()).unwrap()
    }

    /// The same as the file that an administrator gives to users.
    pub fn authority_file(&self) -> PathBuf {
        self.dir.join("keys/server-ca.crt")
    }

    /// The address a user types.
    pub fn address(&self) -> String {
        self.public.to_string()
    }

    /// A TLS connection to the public listener.
    pub async fn tls(&self) -> TlsStream<TcpStream> {
        let socket = TcpStream::connect(self.public).await.unwrap();
        self.tls_over(socket).await.unwrap()
    }

    /// The same over any connection to it.
    pub async fn tls_over<IO: AsyncRead + AsyncWrite + Unpin>(&self, io: IO) -> std::io::Result<TlsStream<IO>> {
        self.connector().over(io).await
    }

    /// What makes TLS connections to the public listener, by itself.
    pub fn connector(&self) -> Connector {
        let mut roots = RootCertStore::empty();
        roots.add(self.server_authority()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Connector { tls: TlsConnector::from(Arc::new(config)), public: self.public }
    }

    /// A connection to the public listener for many exchanges.
    pub async fn kept(&self) -> Kept {
        let io = TokioIo::new(self.tls().await);
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        Kept { sender, host: self.public.to_string() }
    }

    /// One exchange with the public listener.
    pub async fn public(&self, request: Request<impl Into<Bytes>>) -> Reply {
        exchange(self.tls().await, request).await.unwrap()
    }

    /// `GET path` from the public listener.
    pub async fn get(&self, path: &str) -> Reply {
        self.public(Request::get(path).header("host", self.public.to_string()).body("").unwrap()).await
    }

    /// `POST path` with a JSON body to the public listener.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        let request = Request::post(path).header("host", self.public.to_string());
        self.public(request.header("content-type", "application/json").body(body.to_string()).unwrap()).await
    }
}

/// Makes TLS connections to a relay's public listener.
#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
    public: SocketAddr,
}

impl Connector {
    /// One over TCP.
    pub async fn connect(&self) -> TlsStream<TcpStream> {
        self.over(TcpStream::connect(self.public).await.unwrap()).await.unwrap()
    }

    async fn over<IO: AsyncRead + AsyncWrite + Unpin>(&self, io: IO) -> std::io::Result<TlsStream<IO>> {
        let connecting = self.tls.connect(ServerName::from(self.public.ip()), io);
        within(SHORT, "a TLS handshake", connecting).await
    }
}

/// A connection to the public listener that is kept.
pub struct Kept {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    host: String,
}

impl Kept {
    /// `POST path` with a JSON body.
    pub async fn post(&mut self, path: &str, body: &Value) -> Reply {
        let request = Request::post(path).header("host", &self.host).header("content-type", "application/json");
        let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
        self.sender.ready().await.unwrap();
        let response = within(SHORT, "an exchange", self.sender.send_request(request)).await.unwrap();
        collect(response).await.unwrap()
    }
}

/// Writes configuration and policy into `dir`.
pub fn configure(dir: &Path, settings: &Settings) {
    std::fs::write(dir.join("relay.toml"), settings.to_toml()).unwrap();
    std::fs::write(dir.join("policy.cedar"), settings.policy_text()).unwrap();
}

fn base(dir: &Path, program: &Path) -> Command {
    let mut command = crate::process::command(program);
    command.current_dir(dir).env("HOME", dir);
    command
}

/// The relay is started with SIGXFSZ ignored, as a service manager may, so that [`Relay::limit_files`] makes writes fail.
fn spawn(dir: &Path, program: &Path, settings: &Settings, name: &str, logs: &Path) -> Process {
    let mut command = base(dir, Path::new("sh"));
    command.envs(settings.environment.iter().map(|(name, value)| (name, value)));
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(program);
    Process::spawn(name, command.arg("serve").arg("--config").arg(dir.join("relay.toml")), logs)
}
