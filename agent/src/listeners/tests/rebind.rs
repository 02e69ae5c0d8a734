//! Other ports while the agent runs, over real sockets.

use super::*;

/// A port that was free a moment ago.
fn free() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn settings(http_port: u16, ports: &[(&str, u16)]) -> Settings {
    let ports = ports.iter().map(|(app, port)| (app.parse().unwrap(), *port)).collect();
    Settings { http_port, ports, fixed: vec![] }
}

/// What the app answers at this port to somebody who says `ping`; nothing: nobody listens.
async fn ping(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(b"ping").await.ok()?;
    stream.shutdown().await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

async fn closes(port: u16) {
    for _ in 0..500 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{port} stays open");
}

fn port_of(app: &LocalApp) -> u16 {
    app.local.rsplit(':').next().unwrap().parse().unwrap()
}

/// An agent with the apps `db` and `git`, each of which says its own name first.
async fn office(dir: &TempDir) -> (MockRelay, Running) {
    let relay = MockRelay::start(|request| async move {
        let name = request.uri().host().unwrap_or_default().to_owned();
        on_stream(request, |mut stream| async move {
            let mut bytes = [0; 4];
            while stream.read_exact(&mut bytes).await.is_ok() {
                stream.write_all(name.as_bytes()).await.unwrap();
            }
            let _ = stream.shutdown().await;
        })
    });
    let running = Running::open(dir, &Config::default(), relay.uplink("t").await).unwrap();
    running.uplink.set_apps(vec![entry("db", AppKind::Tcp), entry("git", AppKind::Tcp), entry("wiki", AppKind::Http)]);
    (relay, running)
}

/// Streams that live go on; the list of apps follows; a restart remembers.
#[tokio::test]
async fn ports_are_changed_while_streams_live() {
    let dir = state_dir();
    let (_relay, mut running) = office(&dir).await;
    let before = running.apps(3).await;
    let (db, http) = (port_of(&before[0]), running.listeners.http_port());
    let mut stream = TcpStream::connect(("127.0.0.1", db)).await.unwrap();
    let mut answer = [0; 2];
    stream.write_all(b"ping").await.unwrap();
    stream.read_exact(&mut answer).await.unwrap();

    let wanted = settings(free(), &[("db", free()), ("not-listed", free())]);
    assert_eq!(running.listeners.set(wanted.clone()).await.unwrap(), wanted);
    let after = running.listeners.apps();
    assert_eq!((port_of(&after[0]), &after[1]), (wanted.ports[&after[0].entry.name], &before[1]));
    assert_eq!(after[0].command.as_deref(), Some(&*format!("psql -h 127.0.0.1 -p {}", port_of(&after[0]))));
    assert_eq!(after[2].local, format!("http://wiki.localhost:{}/", wanted.http_port));
    assert_eq!(running.listeners.http_port(), wanted.http_port);
    assert_eq!(ping(port_of(&after[0])).await.as_deref(), Some("db"));
    assert!(TcpStream::connect(("127.0.0.1", wanted.http_port)).await.is_ok());
    closes(db).await;
    closes(http).await;
    stream.write_all(b"ping").await.unwrap();
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"db", "what was open lives on");

    // Given back, they stay where they are, also after a restart.
    running.listeners.set(settings(0, &[])).await.unwrap();
    assert_eq!(running.listeners.apps(), after);
    drop(running);
    closes(wanted.http_port).await;
    let (_relay, mut again) = office(&dir).await;
    assert_eq!(again.apps(3).await[0].local, after[0].local);
    assert_eq!(again.listeners.http_port(), wanted.http_port);
    assert_eq!(again.listeners.settings().await.unwrap(), Settings::default());
}

#[tokio::test]
async fn a_port_that_is_taken_changes_nothing() {
    let dir = state_dir();
    let (_relay, mut running) = office(&dir).await;
    let before = running.apps(3).await;
    let other_program = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other_program.local_addr().unwrap().port();
    let http = running.listeners.http_port();
    for wanted in [settings(taken, &[("db", free())]), settings(free(), &[("db", taken)]), settings(0, &[("db", http)])]
    {
        assert_eq!(running.listeners.set(wanted).await.err().unwrap().code, Code::PortInUse);
    }
    assert_eq!(running.listeners.set(settings(1, &[])).await.err().unwrap().code, Code::RequestInvalid);
    assert_eq!(running.listeners.apps(), before);
    assert_eq!(running.listeners.settings().await.unwrap(), Settings::default());
    assert!(!dir.path().join("settings.json").exists());
    assert_eq!(ping(port_of(&before[0])).await.as_deref(), Some("db"));
}

/// Two apps exchange their ports, one takes another's, and HTTP takes that of an app: nobody is in their own way.
#[tokio::test]
async fn ports_go_from_one_to_the_other() {
    let dir = state_dir();
    let (_relay, mut running) = office(&dir).await;
    let before = running.apps(3).await;
    let (db, git) = (port_of(&before[0]), port_of(&before[1]));
    running.listeners.set(settings(0, &[("db", git), ("git", db)])).await.unwrap();
    assert_eq!((ping(git).await.as_deref(), ping(db).await.as_deref()), (Some("db"), Some("git")));
    running.listeners.set(settings(0, &[("git", git)])).await.unwrap();
    let apps = running.listeners.apps();
    assert_eq!(ping(git).await.as_deref(), Some("git"));
    let moved = port_of(&apps[0]);
    assert!(moved != git, "who had no port given makes room");
    assert_eq!(ping(moved).await.as_deref(), Some("db"));
    let http = running.listeners.http_port();
    running.listeners.set(settings(git, &[("db", http)])).await.unwrap();
    assert_eq!((running.listeners.http_port(), ping(http).await.as_deref()), (git, Some("db")));
}
