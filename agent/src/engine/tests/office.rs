//! An organisation to sign in at: a mock provider, a mock relay with its public listener, and a keyring.

use crate::config::{Config, ServiceAccount};
use crate::engine::{Engine, Setup};
use crate::mock_relay::{MockRelay, entry, refusal};
use crate::oidc::mock_provider::MockProvider;
use crate::secrets::Vault;
use crate::state_dir::StateDir;
use crate::testing::{Asked, Server, serve_https_requests, set_mode};
use crate::uplink::Uplink;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use keyring_core::{CredentialStore, Error, mock};
use parking_lot::Mutex;
use postern_protocol::control::{AppEntry, AppKind, AppList, RelayEvent};
use postern_protocol::discovery::{RelayEndpoint, SignIn};
use postern_protocol::local::{LoginEvent, LoginMethod, LoginRequest, Status};
use postern_protocol::{Code, Problem, SessionId};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use url::Url;

const PATIENCE: Duration = Duration::from_secs(30);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What the mock relay did and is to do.
#[derive(Default)]
struct Books {
    asked: Vec<String>,
    enrolments: u64,
    exchanges: u64,
    refuse_exchange: Option<Code>,
    refuse_enrolment: Option<Code>,
    listeners: Vec<mpsc::UnboundedSender<RelayEvent>>,
    dark: bool,
    /// What the discovery document says instead of the truth.
    moved: Option<(RelayEndpoint, SignIn)>,
    /// How often that was read.
    looked: usize,
}

pub(super) struct Office {
    pub(super) idp: Arc<MockProvider>,
    pub(super) dir: TempDir,
    relay: Arc<MockRelay>,
    public: Server,
    books: Arc<Mutex<Books>>,
    keyring: Arc<mock::Store>,
    broken: Arc<Mutex<Option<&'static str>>>,
}

/// An engine and what it writes to.
pub(super) struct Agent {
    pub(super) engine: Engine,
    pub(super) uplink: Arc<Uplink>,
    state: Mutex<Option<Arc<StateDir>>>,
}

impl Office {
    pub(super) async fn open() -> Self {
        let books: Arc<Mutex<Books>> = Arc::default();
        let idp = Arc::new(MockProvider::start().await);
        let for_relay = Arc::clone(&books);
        let relay = Arc::new(MockRelay::start(move |request| control(Arc::clone(&for_relay), request)));
        let (for_public, ca, issuer) = (Arc::clone(&books), Arc::clone(&relay), idp.sign_in());
        let public = serve_https_requests(move |asked| {
            let mut books = for_public.lock();
            match asked.path.as_str() {
                "/.well-known/postern" => match books.moved.clone() {
                    Some((endpoint, sign_in)) => {
                        books.looked += 1;
                        (200, discovery(&endpoint, &sign_in))
                    }
                    None => (200, discovery(&ca.endpoint, &issuer)),
                },
                "/enroll" => enroll(&mut books, &ca, &asked),
                _ => (404, String::new()),
            }
        })
        .await;
        let dir = tempfile::tempdir().unwrap();
        set_mode(dir.path(), 0o700);
        Self { idp, dir, relay, public, books, keyring: mock::Store::new().unwrap(), broken: Arc::default() }
    }

    pub(super) async fn agent(&self) -> Agent {
        self.start(Config::default()).await
    }

    pub(super) async fn service_agent(&self) -> Agent {
        let secret = self.dir.path().join("client-secret");
        std::fs::write(&secret, "s3cret").unwrap();
        set_mode(&secret, 0o600);
        let account = ServiceAccount {
            client_id: "ci".into(),
            client_secret_file: secret,
            device_key_file: self.dir.path().join("device.key"),
        };
        let relay = Some(self.public.url.as_str().to_owned());
        let ca_pem = Some(self.public.ca_pem.clone());
        self.start(Config { service_account: Some(account), relay, ca_pem, ..Config::default() }).await
    }

    async fn start(&self, config: Config) -> Agent {
        let state = Arc::new(StateDir::open(self.dir.path()).unwrap());
        let (kept, broken) = (Arc::clone(&self.keyring), Arc::clone(&self.broken));
        let vault = Vault::over(
            Box::new(move || match *broken.lock() {
                Some("locked") => Err(Error::NoStorageAccess("locked".into())),
                Some(_) => Err(Error::PlatformFailure("there is no bus".into())),
                None => {
                    let store: Arc<CredentialStore> = Arc::<mock::Store>::clone(&kept);
                    Ok(store)
                }
            }),
            self.dir.path(),
        );
        let setup = Setup::with_keyring(config, Arc::clone(&state), vault);
        let uplink = Uplink::new();
        let engine = Engine::start_with(setup, Arc::clone(&uplink)).await;
        Agent { engine, uplink, state: Mutex::new(Some(state)) }
    }

    pub(super) fn request(&self) -> LoginRequest {
        LoginRequest {
            renew: false,
            app: None,
            address: Some(self.public.url.as_str().to_owned()),
            ca_pem: Some(self.public.ca_pem.clone()),
            method: LoginMethod::NoBrowser,
            allow_memory_only: false,
        }
    }

    pub(super) fn request_with(&self, change: impl FnOnce(&mut LoginRequest)) -> LoginRequest {
        let mut request = self.request();
        change(&mut request);
        request
    }

    /// Signs in; the person at the browser does what is asked. All steps.
    pub(super) async fn login(&self, agent: &Agent, request: LoginRequest) -> Vec<LoginEvent> {
        let mut listener = agent.engine.login(request);
        let mut steps = Vec::new();
        while let Some(step) = tokio::time::timeout(PATIENCE, listener.recv()).await.expect("the sign-in goes on") {
            if let LoginEvent::Authorize { url } = &step {
                let (code, query) = self.idp.person_signs_in(url);
                tokio::spawn(visit(format!("{}?code={code}&state={}", query["redirect_uri"], query["state"])));
            }
            steps.push(step);
        }
        steps
    }

    /// How many secrets of the agent, whole ones, the keyring holds.
    pub(super) fn secrets(&self) -> Vec<Vec<u8>> {
        let inner = self.keyring.inner.lock().unwrap();
        let creds = inner.borrow();
        creds
            .iter()
            .filter_map(|cred| cred.inner.lock().unwrap().borrow().secret.clone())
            .map(|s| s[1..].to_vec())
            .collect()
    }

    /// Waits until the session would outlive the process.
    pub(super) async fn saved(&self) {
        let recorded = |office: &Self| {
            let record = std::fs::read(office.dir.path().join("session.json")).unwrap_or_default();
            serde_json::from_slice::<serde_json::Value>(&record).is_ok_and(|record| record["session"]["over"].is_null())
        };
        self.wait(|office| office.secrets().len() == 3 && recorded(office)).await;
    }

    pub(super) async fn kept_when(&self, count: usize) {
        self.wait(|office| office.secrets().len() == count).await;
    }

    /// Waits for what another task is about to do.
    pub(super) async fn wait(&self, done: impl Fn(&Self) -> bool) {
        let look = async {
            while !done(self) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("it happens in time");
    }

    /// Breaks or mends the keyring; connections to it break too.
    pub(super) fn break_keyring(&self, how: Option<&'static str>) {
        *self.broken.lock() = how;
        let inner = self.keyring.inner.lock().unwrap();
        for cred in inner.borrow().iter() {
            let broken = how.map(|_| Error::PlatformFailure("the connection broke".into()));
            cred.inner.lock().unwrap().borrow_mut().error = broken;
        }
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.books.lock().asked.clone()
    }

    pub(super) fn enrolments(&self) -> u64 {
        self.books.lock().enrolments
    }

    pub(super) fn exchanges(&self) -> u64 {
        self.books.lock().exchanges
    }

    pub(super) fn refuse_next_exchange(&self, code: Code) {
        self.books.lock().refuse_exchange = Some(code);
    }

    pub(super) fn refuse_enrolment(&self, code: Option<Code>) {
        self.books.lock().refuse_enrolment = code;
    }

    /// Sends an event to whoever listens.
    pub(super) async fn tell(&self, event: RelayEvent) {
        self.wait(|office| !office.books.lock().listeners.is_empty()).await;
        self.books.lock().listeners.iter().for_each(|listener| drop(listener.send(event.clone())));
    }

    /// The relay stops for good; its public address names this endpoint and provider from now on.
    pub(super) fn move_relay(&self, endpoint: RelayEndpoint, sign_in: SignIn) {
        let mut books = self.books.lock();
        (books.moved, books.looked) = (Some((endpoint, sign_in)), 0);
        self.relay.close(Code::Draining);
    }

    /// Whoever signs in from now on reaches the relay by way of this address.
    pub(super) fn reached_by(&self, quic: &str) {
        let endpoint = RelayEndpoint { quic: quic.to_owned(), ..self.relay.endpoint.clone() };
        self.books.lock().moved = Some((endpoint, self.idp.sign_in()));
    }

    /// Where the relay itself listens.
    pub(super) fn relay_address(&self) -> &str {
        &self.relay.endpoint.quic
    }

    /// How often an agent read where the relay moved to.
    pub(super) fn looked(&self) -> usize {
        self.books.lock().looked
    }

    /// Another endpoint of the same relay.
    pub(super) fn another_relay(&self) -> MockRelay {
        let books = Arc::clone(&self.books);
        MockRelay::start_for(self.relay.device_ca.clone(), move |request| control(Arc::clone(&books), request))
    }

    pub(super) fn drop_connections(&self) {
        self.relay.drop_connections();
    }

    /// Nobody answers any more, neither relay nor provider.
    pub(super) fn go_dark(&self) {
        self.books.lock().dark = true;
        self.relay.close(Code::Draining);
        let mut idp = self.idp.state.lock();
        (idp.metadata, idp.revocation) = (json!({ "issuer": null }), 503);
    }
}

impl Agent {
    /// Ends the engine and gives the state directory back.
    pub(super) async fn stop(&self) {
        self.engine.shutdown().await;
        let state = self.state.lock().take();
        let look = async {
            while state.as_ref().is_some_and(|state| Arc::strong_count(state) > 1) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("the engine lets go of its directory");
    }

    pub(super) async fn apps_when(&self, done: impl Fn(&[AppEntry]) -> bool) {
        let mut apps = self.uplink.watch_apps();
        tokio::time::timeout(PATIENCE, apps.wait_for(|apps| done(apps))).await.expect("the apps change").unwrap();
    }
}

pub(super) async fn sign_in_as_ada(office: &Office, agent: &Agent, request: LoginRequest) -> Vec<LoginEvent> {
    let steps = office.login(agent, request).await;
    assert!(matches!(steps.last(), Some(LoginEvent::Online { .. })), "{steps:?}");
    steps
}

pub(super) async fn status_when(engine: &Engine, done: impl Fn(&Status) -> bool) -> Status {
    let mut watch = engine.watch();
    let found = tokio::time::timeout(PATIENCE, watch.wait_for(|status| done(status))).await;
    found.unwrap_or_else(|_| panic!("the status stays {:?}", engine.status())).unwrap().clone()
}

/// A browser that opens one page.
async fn visit(address: String) {
    let url = Url::parse(&address).unwrap();
    let port = url.port().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let target = format!("{}?{}", url.path(), url.query().unwrap());
    let request = format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

fn discovery(endpoint: &RelayEndpoint, sign_in: &SignIn) -> String {
    json!({
        "version": 1, "issuer": "https://relay.example/", "organisation": "Example Corp",
        "trust_domain": "corp.example", "relay": endpoint, "sign_in": sign_in,
    })
    .to_string()
}

fn enroll(books: &mut Books, relay: &MockRelay, asked: &Asked) -> (u16, String) {
    if let Some(code) = books.refuse_enrolment {
        return (code.status(), serde_json::to_string(&Problem::new(code)).unwrap());
    }
    let request: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    assert!(request["token"].is_string() && request["device_name"].is_string());
    books.enrolments += 1;
    let (certificate, device) = relay.device_ca.certify(request["csr"].as_str().unwrap(), "corp.example");
    let session = SessionId::from_random(u128::from(books.enrolments));
    let answer = json!({ "certificate": certificate, "device": device, "session": session, "not_after": 0 });
    (200, answer.to_string())
}

/// The mock relay's control requests.
async fn control(books: Arc<Mutex<Books>>, request: Request<Incoming>) -> Response<Body> {
    let called = format!("{} {}", request.method(), request.uri().path());
    let bearer = request.headers().get("proxy-authorization").cloned();
    assert_eq!(request.headers()["host"], "postern.relay");
    let is_exchange = called == "POST /session";
    assert_eq!(bearer.is_some(), !is_exchange, "{called}");
    let delete = request.method() == Method::DELETE;
    let request_query = request.uri().query().map(str::to_owned);
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut books = books.lock();
    books.asked.push(match request_query {
        Some(query) => format!("{called}?{query}"),
        None => called.clone(),
    });
    let json = |value: serde_json::Value| Response::new(Full::new(Bytes::from(value.to_string())).boxed_unsync());
    match called.as_str() {
        _ if books.dark => failure(&Problem::new(Code::StoreUnavailable)),
        "POST /session" => match books.refuse_exchange.take() {
            Some(code) => failure(&Problem::new(code)),
            None => json(grant(&mut books, &body)),
        },
        "GET /apps" => json(serde_json::to_value(AppList { apps: vec![entry("wiki", AppKind::Http)] }).unwrap()),
        "GET /events" => {
            let (sender, receiver) = mpsc::unbounded_channel();
            books.listeners.push(sender);
            Response::new(events(receiver))
        }
        _ if delete => json(json!({})),
        _ => failure(&Problem::new(Code::NotFound)),
    }
}

fn grant(books: &mut Books, form: &Bytes) -> serde_json::Value {
    let field = |name: &str| {
        form_urlencoded::parse(form).find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap()
    };
    let posture: serde_json::Value = serde_json::from_str(&field("posture")).unwrap();
    assert_eq!(posture["os"], "linux");
    books.exchanges += 1;
    json!({
        "access_token": format!("session-token-{}", books.exchanges), "token_type": "Bearer", "expires_in": 300,
        "issued_token_type": postern_protocol::control::TYPE_ACCESS_TOKEN, "session": field("session"),
        "principal": { "issuer": "http://idp", "subject": "user-1", "groups": ["staff"] },
    })
}

fn failure(problem: &Problem) -> Response<Body> {
    refusal(problem).map(|body| match body {
        http_body_util::Either::Left(full) => full.boxed_unsync(),
        http_body_util::Either::Right(_) => Full::default().boxed_unsync(),
    })
}

fn events(receiver: mpsc::UnboundedReceiver<RelayEvent>) -> Body {
    let lines = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let event = receiver.recv().await?;
        let line = format!("{}\n", serde_json::to_string(&event).unwrap());
        Some((Ok(Frame::data(Bytes::from(line))), receiver))
    });
    StreamBody::new(lines).boxed_unsync()
}
