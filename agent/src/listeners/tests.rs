//! The listeners of `tcp` apps as the list of apps changes, over real sockets.

mod rebind;

use super::*;
use crate::mock_relay::{MockRelay, access, echo, entry, on_stream, refusal};
use crate::testing::{set_mode, stranger};
use crate::uplink::{Notice, Uplink};
use postern_protocol::local::DenialKind;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

struct Running {
    listeners: Listeners,
    uplink: Arc<Uplink>,
    apps: watch::Receiver<Arc<[LocalApp]>>,
}

impl Running {
    fn open(state_dir: &TempDir, config: &Config, uplink: Arc<Uplink>) -> Result<Self, Problem> {
        let state = Arc::new(StateDir::open(state_dir.path())?);
        let listeners = Listeners::open(state, config, access(uplink.clone()))?;
        let apps = listeners.watch();
        Ok(Self { listeners, uplink, apps })
    }

    /// The apps, once there are `count` of them.
    async fn apps(&mut self, count: usize) -> Arc<[LocalApp]> {
        self.apps.wait_for(|apps| apps.len() == count).await.unwrap().clone()
    }

    async fn only_app(&mut self) -> LocalApp {
        self.apps(1).await[0].clone()
    }
}

fn state_dir() -> TempDir {
    let dir = TempDir::new().unwrap();
    set_mode(dir.path(), 0o700);
    dir
}

fn db() -> Vec<AppEntry> {
    vec![entry("db", AppKind::Tcp)]
}

#[tokio::test]
async fn a_tcp_app_has_a_port_for_as_long_as_it_is_listed() {
    let relay = MockRelay::start(|request| async { echo(request) });
    let dir = state_dir();
    let mut running = Running::open(&dir, &Config::default(), relay.uplink("t").await).unwrap();
    running.uplink.set_apps(vec![entry("db", AppKind::Tcp), entry("wiki", AppKind::Http)]);
    let apps = running.apps(2).await;
    assert_eq!(apps[1].local, format!("http://wiki.localhost:{}/", running.listeners.http_port()));
    let mut stream = TcpStream::connect(&apps[0].local).await.unwrap();
    stream.write_all(b"select 1").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "select 1");
    running.uplink.set_apps(vec![]);
    running.apps(0).await;
    tokio::task::yield_now().await;
    assert!(TcpStream::connect(&apps[0].local).await.is_err());
}

#[tokio::test]
async fn ports_are_remembered_and_a_taken_one_is_replaced() {
    let dir = state_dir();
    let mut first = Running::open(&dir, &Config::default(), Uplink::new()).unwrap();
    first.uplink.set_apps(db());
    let (port, local) = (first.listeners.http_port(), first.only_app().await.local);
    drop(first);
    tokio::task::yield_now().await;
    let mut second = Running::open(&dir, &Config::default(), Uplink::new()).unwrap();
    second.uplink.set_apps(db());
    assert_eq!((second.listeners.http_port(), second.only_app().await.local), (port, local.clone()));
    drop(second);
    tokio::task::yield_now().await;
    let _other_program = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let third = Running::open(&dir, &Config::default(), Uplink::new()).unwrap();
    assert_ne!(third.listeners.http_port(), port);
}

/// A18: another user's program at the other loopback address would be sent this user's cookies.
#[tokio::test]
async fn a18_the_port_is_held_on_both_loopback_addresses() {
    let dir = state_dir();
    let Ok(other_program) = std::net::TcpListener::bind("[::1]:0") else { return };
    let port = other_program.local_addr().unwrap().port();
    let config = Config { http_port: port, ..Config::default() };
    let refused = Running::open(&dir, &config, Uplink::new()).err().unwrap();
    assert_eq!(refused.code, Code::PortInUse);
    drop(other_program);
    let running = Running::open(&dir, &config, Uplink::new()).unwrap();
    assert!(std::net::TcpListener::bind(("::1", running.listeners.http_port())).is_err());
}

#[tokio::test]
async fn a_fixed_port_that_is_taken_is_told_with_the_app() {
    let dir = state_dir();
    let other_program = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [("db".parse().unwrap(), other_program.local_addr().unwrap().port())].into();
    let config = Config { ports, ..Config::default() };
    let mut running = Running::open(&dir, &config, Uplink::new()).unwrap();
    running.uplink.set_apps(db());
    let app = running.only_app().await;
    assert_eq!(app.problem.unwrap().code, Code::PortInUse);
    assert_eq!(app.local, "");
}

#[tokio::test]
async fn a_broken_ports_file_is_begun_anew() {
    let dir = state_dir();
    std::fs::write(dir.path().join("ports.json"), "{\"http\": \"x\"").unwrap();
    assert!(Running::open(&dir, &Config::default(), Uplink::new()).is_ok());
}

/// A17: a list without end does not take every file descriptor.
#[tokio::test]
async fn a17_a_hostile_list_of_apps_opens_a_bounded_number_of_ports() {
    let dir = state_dir();
    let mut running = Running::open(&dir, &Config::default(), Uplink::new()).unwrap();
    running.uplink.set_apps((0..300).map(|n| entry(&format!("app-{n}"), AppKind::Tcp)).collect());
    let apps = running.apps(300).await;
    assert_eq!(apps.iter().filter(|app| app.problem.is_none()).count(), MAX_TCP_APPS);
}

#[tokio::test]
async fn a_refused_stream_is_reset_and_told() {
    let relay = MockRelay::start(|_| async { refusal(&Problem::new(Code::PolicyDenied)) });
    let dir = state_dir();
    let mut running = Running::open(&dir, &Config::default(), relay.uplink("t").await).unwrap();
    let mut denied = running.uplink.subscribe();
    running.uplink.set_apps(db());
    let mut stream = TcpStream::connect(running.only_app().await.local).await.unwrap();
    let error = stream.read(&mut [0; 1]).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let Notice::Denied(told) = denied.recv().await.unwrap() else { panic!("it is told") };
    assert_eq!((told.app.as_str(), told.problem.code), ("db", Code::PolicyDenied));
}

/// A client must not take a cut for the app's orderly end.
#[tokio::test]
async fn a_stream_that_breaks_is_reset_not_closed() {
    let relay = MockRelay::start(|request| async {
        on_stream(request, |mut stream| async move {
            stream.write_all(b"half an ans").await.unwrap();
            std::future::pending::<()>().await;
        })
    });
    let dir = state_dir();
    let mut running = Running::open(&dir, &Config::default(), relay.uplink("t").await).unwrap();
    running.uplink.set_apps(db());
    let mut stream = TcpStream::connect(running.only_app().await.local).await.unwrap();
    stream.read_exact(&mut [0; 11]).await.unwrap();
    relay.close(Code::SessionRevoked);
    let error = stream.read(&mut [0; 1]).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

/// The relay's own word, which would say by which decision, need not come.
#[tokio::test]
async fn a_cut_stream_is_told_with_the_cause_it_was_reset_with() {
    let relay = MockRelay::start(|request| async { echo(request) });
    let dir = state_dir();
    let mut running = Running::open(&dir, &Config::default(), relay.uplink("t").await).unwrap();
    running.uplink.set_apps(db());
    let mut stream = TcpStream::connect(running.only_app().await.local).await.unwrap();
    stream.write_all(b"!").await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
    let mut told = running.uplink.subscribe();
    relay.close(Code::SessionRevoked);
    let told = tokio::time::timeout(Duration::from_secs(10), told.recv()).await.expect("it is told").unwrap();
    let Notice::Denied(told) = told else { panic!("{told:?}") };
    assert_eq!((told.kind, told.app.as_str(), told.problem.code), (DenialKind::Cut, "db", Code::SessionRevoked));
}

/// A18: a web page that makes the browser speak to the port of a `tcp` app.
#[tokio::test]
async fn a18_a_page_cannot_speak_to_a_tcp_app() {
    let relay = MockRelay::start(|request| async { echo(request) });
    let dir = state_dir();
    let mut running = Running::open(&dir, &Config::default(), relay.uplink("t").await).unwrap();
    let mut denied = running.uplink.subscribe();
    running.uplink.set_apps(db());
    let local = running.only_app().await.local;
    let mut stream = TcpStream::connect(&local).await.unwrap();
    let request = format!("POST / HTTP/1.1\r\nHost: {local}\r\nOrigin: https://evil.example\r\n\r\nFLUSHALL\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let error = stream.read(&mut [0; 1]).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let Notice::Denied(told) = denied.recv().await.unwrap() else { panic!("it is told") };
    assert_eq!(told.problem.code, Code::CrossSite);
}

/// A18: another user's connection. The listener expects a user who is not the one that connects.
#[tokio::test]
async fn a18_another_users_connection_reaches_nobody() {
    let relay = MockRelay::start(|request| async { echo(request) });
    let uplink = relay.uplink("t").await;
    uplink.set_apps(db());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(tcp::serve(Arc::new(listener), stranger(), "db".parse().unwrap(), access(uplink)));
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.err().unwrap().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(relay.streams.load(Ordering::SeqCst), 0);
}
