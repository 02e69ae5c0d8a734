//! The real desktop, `postern-desktop`, in a real WebKit window on a screen that nobody sees, driven by WebDriver.
//!
//! Its message bus and keyring are real; its browser is a stand-in that notes which addresses it was asked to open, for
//! the test to visit as [`Browser`](crate::Browser) does.

use crate::keyring::Keyring;
use crate::process::{Output, Process, bare_command, command, run};
use crate::relay::Relay;
use crate::wait::{eventually, within};
use crate::webdriver::Window;
use crate::world::{World, binary, set_mode};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;

/// How long a program may take until its window can be driven.
const START: Duration = Duration::from_secs(60);
/// The clock in which the kernel counts the time of processes.
const TICKS: f64 = 100.0;

/// A person's desktop. Make it after the world and before what outlives it.
pub struct Desktop {
    /// Where the person's agent keeps its state.
    pub state: PathBuf,
    window: Option<Window>,
    driver: Option<Process>,
    environment: Vec<(String, String)>,
    home: PathBuf,
    opened: PathBuf,
    logs: PathBuf,
    starts: u32,
    program: PathBuf,
    postern: PathBuf,
    _screen: Process,
    keyring: Keyring,
}

impl Desktop {
    /// A screen, a bus and a keyring; the program does not run yet.
    pub async fn new(world: &World) -> Self {
        for (program, package) in [
            ("Xvfb", "the Debian package xvfb"),
            ("WebKitWebDriver", "the Debian package webkit2gtk-driver"),
            ("tauri-driver", "cargo install tauri-driver --version '^2' --locked"),
        ] {
            assert!(find(program).is_some(), "{program} is missing, which drives the desktop: {package}");
        }
        let keyring = Keyring::unlocked(world).await;
        let mut screen = command("Xvfb");
        screen.args(["-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp", "-noreset"]);
        let mut screen = Process::spawn("screen", &mut screen, &world.logs());
        let display = format!(":{}", screen.first_line().await);
        let opened = world.path("opened");
        let script = format!("#!/bin/sh\nprintf '%s\\n' \"$*\" >> {}\n", opened.display());
        let bin = world.directory("bin");
        set_mode(&world.file("bin/xdg-open", script), 0o755);
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let home = world.path("home");
        let own = |name: &str, value: &Path| (name.to_owned(), value.display().to_string());
        let environment = vec![
            ("DISPLAY".into(), display),
            ("PATH".into(), path),
            ("GDK_BACKEND".into(), "x11".into()),
            ("NO_AT_BRIDGE".into(), "1".into()),
            own("HOME", &home),
            own("XDG_RUNTIME_DIR", &world.path("run")),
            keyring.variable(),
        ];
        let state = world.path("home/.local/state/postern");
        Self {
            state,
            window: None,
            driver: None,
            environment,
            home,
            opened,
            logs: world.logs(),
            starts: 0,
            program: binary("postern-desktop"),
            postern: binary("postern"),
            _screen: screen,
            keyring,
        }
    }

    /// Lets the agent trust this relay's authority, as an administrator would who deploys it.
    pub fn trusts(&self, relay: &Relay) {
        self.make_state();
        let config = format!("ca_file = \"{}\"\n", relay.authority_file().display());
        std::fs::write(self.state.join("config.toml"), config).unwrap();
    }

    /// Makes the state directory, as the agent would.
    pub fn make_state(&self) {
        std::fs::create_dir_all(&self.state).unwrap();
        set_mode(&self.state, 0o700);
    }

    /// Starts the program and waits until its window has its pages.
    pub async fn start(&mut self) -> &Window {
        self.starts += 1;
        let (driver, address) = self.drive().await;
        self.driver = Some(driver);
        let window = within(START, "the window opens", Window::open(address, &self.program)).await;
        let window = self.window.insert(window.unwrap_or_else(|error| panic!("no window: {error}")));
        window.element("heading", "//h1").await;
        self.window()
    }

    /// Starts the driver on ports that are free.
    async fn drive(&self) -> (Process, SocketAddr) {
        for _ in 0..5 {
            let (port, native) = (free_port(), free_port());
            let mut driver = bare_command(find("tauri-driver").unwrap());
            driver.args(["--port", &port.to_string(), "--native-port", &native.to_string()]);
            driver.arg("--native-driver").arg(find("WebKitWebDriver").unwrap());
            driver.envs(self.environment.iter().cloned()).current_dir(&self.home);
            let mut driver = Process::spawn(&format!("desktop-{}", self.starts), &mut driver, &self.logs);
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let serves = eventually("the driver serves or ends", async || {
                let both = [address, (Ipv4Addr::LOCALHOST, native).into()];
                let up = TcpStream::connect(both[0]).await.is_ok() && TcpStream::connect(both[1]).await.is_ok();
                let over = driver.ended().is_some();
                (up || over).then_some(up && !over)
            })
            .await;
            if serves {
                return (driver, address);
            }
        }
        panic!("tauri-driver does not start: see the log");
    }

    /// Where the person's programs keep their settings.
    pub fn config(&self) -> PathBuf {
        self.home.join(".config")
    }

    /// Its window.
    pub fn window(&self) -> &Window {
        self.window.as_ref().expect("the desktop does not run")
    }

    /// Ends the program, and the agent runs on.
    pub async fn quit(&mut self) {
        let gone: Vec<_> = self.processes().into_iter().map(|process| process.id).collect();
        if let Some(window) = self.window.take() {
            window.close().await;
        }
        if let Some(mut driver) = self.driver.take() {
            driver.kill().await;
        }
        eventually("the program's processes end", async || {
            gone.iter().all(|id| Running::read(*id).is_none_or(|process| process.over)).then_some(())
        })
        .await;
    }

    /// Every address that it opened in the browser so far.
    pub fn all_opened(&self) -> Vec<String> {
        let opened = std::fs::read_to_string(&self.opened).unwrap_or_default();
        opened.lines().map(str::to_owned).collect()
    }

    /// The `n`th of them.
    pub async fn opened(&self, n: usize) -> String {
        eventually("the browser is opened", async || self.all_opened().into_iter().nth(n - 1)).await
    }

    /// A `postern` command of the same person.
    pub async fn postern(&self, arguments: &[&str]) -> Output {
        let mut postern = command(&self.postern);
        postern.args(arguments).envs(self.environment.iter().cloned()).current_dir(&self.home);
        run(&mut postern).await
    }

    /// Where the agent stands.
    pub async fn status(&self) -> Value {
        self.postern(&["status", "--json"]).await.json()
    }

    /// The local address of an app, as the agent tells it.
    pub async fn address(&self, app: &str) -> SocketAddr {
        let apps = self.postern(&["apps", "--json"]).await.json();
        let found = apps["apps"].as_array().unwrap().iter().find(|entry| entry["name"] == app);
        let local = found.unwrap_or_else(|| panic!("no {app} in {apps}"))["local"].as_str().unwrap();
        let port = local.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
        (Ipv4Addr::LOCALHOST, port).into()
    }

    /// Keeps a picture of the window in `target/desktop-shots`.
    pub async fn keep_picture(&self, name: &str) {
        let dir = binary("postern-desktop").ancestors().nth(2).unwrap().join("desktop-shots");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("{name}.png")), self.window().screenshot().await).unwrap();
    }

    /// The processes of the running program: itself and WebKit's.
    pub fn processes(&self) -> Vec<Running> {
        let group = self.driver.as_ref().and_then(Process::id);
        let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Running::read(id)
        });
        let drivers = ["tauri-driver", "WebKitWebDriver", "WebKitWebDriv"];
        all.filter(|process| Some(process.group) == group && !drivers.contains(&process.name.as_str())).collect()
    }

    /// What the program logged since its last start.
    pub fn logged(&self) -> String {
        self.driver.as_ref().map(Process::stderr).unwrap_or_default()
    }

    /// The message bus of the person.
    pub fn bus(&self) -> String {
        self.keyring.variable().1
    }

    /// The person's screen.
    pub fn display(&self) -> &str {
        self.environment.iter().find(|(name, _)| name == "DISPLAY").map_or("", |(_, display)| display)
    }

    /// What runs of the program itself.
    pub fn main_process(&self) -> Running {
        let all = self.processes();
        all.iter().find(|process| process.name.starts_with("postern-desktop")).cloned().unwrap_or_else(|| {
            panic!("no postern-desktop among {:?}", all.iter().map(|process| &process.name).collect::<Vec<_>>())
        })
    }

    /// How long the program took from its start to the first picture of its pages, and to pages that can be used.
    pub async fn start_times(&self) -> (Duration, Duration) {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        let began = now - uptime + self.main_process().began;
        let script = "const paint = performance.getEntriesByName('first-contentful-paint')[0]; \
             const [page] = performance.getEntriesByType('navigation'); \
             return paint && [performance.timeOrigin + paint.startTime, performance.timeOrigin + \
             page.domContentLoadedEventEnd]";
        let window = self.window();
        let painted = async || Some(window.run(script).await).filter(Value::is_array);
        let times = window.until("the first picture", painted).await;
        let after = |at: &Value| Duration::from_secs_f64((at.as_f64().unwrap_or_default() / 1e3 - began).max(0.0));
        (after(&times[0]), after(&times[1]))
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.state.join("agent.log")).unwrap_or_default();
            eprintln!("---- the agent's log\n{log}");
        }
        // An agent that the window started is nobody's child any more.
        if self.state.join("agent.sock").exists() {
            let mut stop = std::process::Command::new(&self.postern);
            stop.args(["agent", "stop"]).env_clear().envs(self.environment.iter().cloned());
            let _ = stop.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status();
        }
    }
}

/// A process as the kernel tells of it.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its id.
    pub id: u32,
    /// The name of its program, at most 15 characters.
    pub name: String,
    /// How long it has computed.
    pub computed: Duration,
    group: u32,
    /// It has ended, with all its threads, and nobody asked how: what it had open is closed.
    over: bool,
    /// Seconds from the machine's start to its own.
    began: f64,
}

impl Running {
    /// `None` if it is gone.
    pub fn read(id: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let (head, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<_> = rest.split(' ').collect();
        let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
        Some(Self {
            id,
            name: head.split_once('(')?.1.to_owned(),
            computed: Duration::from_secs_f64((number(11)? + number(12)?) / TICKS),
            group: fields.get(2)?.parse().ok()?,
            over: *fields.first()? == "Z" && std::fs::read_dir(format!("/proc/{id}/task")).ok()?.count() < 2,
            began: number(19)? / TICKS,
        })
    }

    /// The most memory it ever had, in KiB.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id)).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
    }
}

/// A program on the search path, or among those that cargo installed.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let dirs = std::env::split_paths(&path).chain(cargo.map(|cargo| cargo.join("bin")));
    dirs.map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
