//! The real agent in its own process, and the commands of the person who uses it.

use crate::browser::Browser;
use crate::client::{Reply, exchange, get, http};
use crate::keyring::Keyring;
use crate::process::{Output, Process, run};
use crate::relay::Relay;
use crate::wait::{WAIT, eventually};
use crate::world::World;
use bytes::Bytes;
use http::Request;
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::process::Command;

/// An agent, `postern agent run`, with a state directory of its own.
pub struct Agent {
    /// Its state directory.
    pub state: PathBuf,
    /// The port of its HTTP listener.
    pub http_port: u16,
    name: String,
    config: PathBuf,
    environment: Vec<(String, String)>,
    process: Process,
    starts: u32,
    logs: PathBuf,
    base: PathBuf,
    home: PathBuf,
}

impl Agent {
    /// Starts an agent that keeps its secrets in `keyring`, or has none to keep them in.
    pub async fn start(world: &World, name: &str, keyring: Option<&Keyring>) -> Self {
        Self::start_with(world, name, keyring, "", &[]).await
    }

    /// The same with a configuration file and further environment variables.
    pub async fn start_with(
        world: &World,
        name: &str,
        keyring: Option<&Keyring>,
        config: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let state = world.path(&format!("{name}-state"));
        let config = world.file(&format!("{name}.toml"), config);
        let mut kept = vec![("XDG_RUNTIME_DIR".to_owned(), world.path("run").display().to_string())];
        kept.extend(environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        kept.extend(keyring.map(Keyring::variable));
        let base = crate::world::binary("postern");
        let home = world.path("home");
        let mut command = base_command(&base, &home, &kept);
        command.args(["agent", "run", "--state-dir"]).arg(&state).arg("--config").arg(&config);
        let mut process = Process::spawn(name, &mut command, &world.logs());
        let ready = process.ready().await;
        Self {
            http_port: port_of(&ready),
            name: name.into(),
            environment: kept,
            starts: 1,
            logs: world.logs(),
            state,
            config,
            process,
            base,
            home,
        }
    }

    /// A `postern` command that speaks to this agent.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = base_command(&self.base, &self.home, &self.environment);
        command.args(arguments).arg("--state-dir").arg(&self.state).arg("--config").arg(&self.config);
        command
    }

    /// Runs such a command.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        run(&mut self.command(arguments)).await
    }

    /// Starts such a command and leaves it running.
    pub fn spawn(&self, name: &str, arguments: &[&str]) -> Process {
        Process::spawn(&format!("{}-{name}", self.name), &mut self.command(arguments), &self.logs)
    }

    /// Signs in at `relay` in `browser`; panics unless that works.
    pub async fn login(&self, relay: &Relay, browser: &mut Browser) {
        self.login_with(relay, browser, &[]).await.ok();
    }

    /// The same with further arguments, and whatever comes of it.
    pub async fn login_with(&self, relay: &Relay, browser: &mut Browser, arguments: &[&str]) -> Output {
        let mut login = self.login_begun(relay, arguments);
        let url = login.first_line().await;
        let page = browser.sign_in(&url).await;
        assert!(page.reply.status.is_success(), "{page:?}");
        login.output().await
    }

    /// `postern login --device-code`: whoever it is types the code on another device.
    pub async fn login_by_code(&self, relay: &Relay, user: &str, arguments: &[&str]) -> Output {
        let (address, authority) = (relay.address(), relay.authority_file());
        let mut all = vec!["login", &address, "--device-code", "--ca", authority.to_str().unwrap()];
        all.extend_from_slice(arguments);
        let mut login = self.spawn(&format!("login-{}", crate::forge::random(6)), &all);
        let (url, code) = eventually("address and code are shown", async || {
            let text = login.stdout();
            let url = text.split_whitespace().find(|word| word.starts_with("http"))?.to_owned();
            let code = text.split_whitespace().find(|word| is_code(word))?.to_owned();
            Some((url, code))
        })
        .await;
        Browser::of(user).types("user_code", &code).sign_in(&url).await;
        login.output().await
    }

    /// `postern login --no-browser`, begun; its first line is the address to open.
    pub fn login_begun(&self, relay: &Relay, arguments: &[&str]) -> Process {
        let authority = relay.authority_file();
        let address = relay.address();
        let mut all = vec!["login", &address, "--no-browser", "--ca", authority.to_str().unwrap()];
        all.extend_from_slice(arguments);
        self.spawn(&format!("login-{}", crate::forge::random(6)), &all)
    }

    /// `postern status --json`.
    pub async fn status(&self) -> Value {
        self.run(&["status", "--json"]).await.json()
    }

    /// A call of the local API without a body: the answer's status and JSON, or null where there is none.
    pub async fn local(&self, method: &str, path: &str) -> (u16, Value) {
        let stream = UnixStream::connect(self.state.join("agent.sock")).await.unwrap();
        let request = Request::builder().method(method).uri(path).header("host", "agent");
        let reply = exchange(stream, request.body("").unwrap()).await.unwrap();
        (reply.status.as_u16(), serde_json::from_slice(&reply.body).unwrap_or_default())
    }

    /// Waits until the agent's state is `state`.
    pub async fn reaches(&self, state: &str) -> Value {
        let mut last = Value::Null;
        let asking = async {
            loop {
                last = self.status().await;
                if last["state"] == state {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let reached = tokio::time::timeout(WAIT, asking).await;
        assert!(reached.is_ok(), "{} is not {state} after {WAIT:?}: {last}", self.name);
        last
    }

    /// Its HTTP listener.
    pub fn http(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.http_port).into()
    }

    /// The authority of an HTTP app here.
    pub fn authority(&self, app: &str) -> String {
        format!("{app}.localhost:{}", self.http_port)
    }

    /// `GET path` of an app, as an API client does it.
    pub async fn get(&self, app: &str, path: &str) -> Reply {
        get(self.http(), &self.authority(app), path).await
    }

    /// Any request of an app; `host` is set.
    pub async fn send(&self, app: &str, mut request: Request<impl Into<Bytes>>) -> Reply {
        request.headers_mut().insert("host", self.authority(app).parse().unwrap());
        http(self.http(), request).await
    }

    /// The local port of a TCP app.
    pub async fn port(&self, app: &str) -> u16 {
        let apps = self.run(&["apps", "--json"]).await.json();
        let found = apps["apps"].as_array().unwrap().iter().find(|entry| entry["name"] == app);
        let local = found.unwrap_or_else(|| panic!("no {app} in {apps}"))["local"].as_str().unwrap();
        local.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// What it has logged since it was started last.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id().unwrap()
    }

    /// Does it still run?
    pub fn runs(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Stops the agent as a service manager would, and waits.
    pub async fn stop(&mut self) -> Output {
        self.process.stop().await
    }

    /// Starts it again on the same state.
    pub async fn run_again(&mut self) {
        self.starts += 1;
        let name = format!("{}-{}", self.name, self.starts);
        self.process = Process::spawn(&name, &mut self.command(&["agent", "run"]), &self.logs);
        self.http_port = port_of(&self.process.ready().await);
    }
}

fn is_code(word: &str) -> bool {
    let plain = |part: &str| part.len() == 4 && part.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
    word.split('-').all(plain) && word.contains('-')
}

fn port_of(ready: &Value) -> u16 {
    ready["http_port"].as_u64().unwrap().try_into().unwrap()
}

fn base_command(program: &std::path::Path, home: &std::path::Path, environment: &[(String, String)]) -> Command {
    let mut command = crate::process::command(program);
    command.env("HOME", home).envs(environment.iter().cloned()).current_dir(home);
    command
}
