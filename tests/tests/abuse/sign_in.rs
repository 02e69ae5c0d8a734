//! The sign-in, seen from the agent: A01, A02, A03, A04, A05.

use http::{Request, StatusCode};
use postern_tests::client::{Reply, http};
use postern_tests::process::{Process, command_as, run};
use postern_tests::world::{is_root, set_mode};
use postern_tests::{Agent, Browser, Provider, Relay, Settings, StandIn, World, eventually};
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpStream;
use url::Url;

/// An agent about to sign in at a relay whose provider is a stand-in.
struct Desk {
    agent: Agent,
    relay: Relay,
    provider: StandIn,
    world: World,
}

impl Desk {
    async fn new() -> Self {
        let world = World::new();
        let provider = StandIn::start().await;
        let relay = Relay::start(&world, Settings::new(&provider.issuer)).await;
        // Programs that open browsers, replaced by one that only notes what it was called with.
        let bin = world.directory("bin");
        for name in ["xdg-open", "x-www-browser", "www-browser", "sensible-browser", "gio", "firefox", "open"] {
            let script = format!("#!/bin/sh\nprintf '%s\\n' \"$0 $*\" >> {}\n", world.path("opened").display());
            let file = world.file(&format!("bin/{name}"), script);
            set_mode(&file, 0o755);
        }
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let opener = bin.join("xdg-open");
        let environment = [("PATH", path.as_str()), ("BROWSER", opener.to_str().unwrap()), ("DISPLAY", ":99")];
        let agent = Agent::start_with(&world, "agent", None, "", &environment).await;
        Self { agent, relay, provider, world }
    }

    fn begin(&self) -> Process {
        self.agent.login_begun(&self.relay, &["--memory-only"])
    }

    /// A sign-in by which the agent opens the browser itself.
    fn begin_with_browser(&self) -> Process {
        let (address, authority) = (self.relay.address(), self.relay.authority_file());
        let arguments = ["login", &address, "--memory-only", "--ca", authority.to_str().unwrap()];
        self.agent.spawn("browser", &arguments)
    }

    fn opened(&self) -> String {
        std::fs::read_to_string(self.world.path("opened")).unwrap_or_default()
    }
}

/// A01: an authorization code caught on its way back is worth nothing without the verifier, which never left the agent.
#[tokio::test]
async fn a01_a_stolen_code_gives_no_tokens() {
    let world = World::new();
    let provider = Provider::start(&world).await;
    let relay = Relay::start(&world, Settings::new(&provider.issuer)).await;
    let agent = Agent::start(&world, "agent", None).await;
    let mut login = agent.login_begun(&relay, &["--memory-only"]);
    let url = login.first_line().await;
    let asked: Url = url.parse().unwrap();
    assert_eq!(parameter(&asked, "code_challenge_method"), "S256");
    assert_eq!(parameter(&asked, "code_challenge").len(), 43);

    let back = Browser::of("ada").sign_in_until(&url, |url| url.path() == "/callback").await;
    let code = parameter(&back, "code");
    let redirect = parameter(&asked, "redirect_uri");
    let challenge = parameter(&asked, "code_challenge");
    for verifier in [None, Some(challenge.as_str()), Some(&"a".repeat(43)), Some("")] {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs([
            ("grant_type", "authorization_code"),
            ("client_id", "postern"),
            ("redirect_uri", &redirect),
        ]);
        form.append_pair("code", &code);
        if let Some(verifier) = verifier {
            form.append_pair("code_verifier", verifier);
        }
        let request = Request::post("/token").header("host", provider.issuer.authority());
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form.finish()).unwrap();
        let reply = http(provider.address(), request).await;
        assert_eq!(reply.status, 400, "{verifier:?}: {}", reply.text());
        assert!(reply.json().get("access_token").is_none() && reply.json().get("id_token").is_none());
    }
    // The code was good: brought to the agent, which has the verifier, it ends the sign-in well.
    let page = Browser::of("ada").sign_in(back.as_str()).await;
    assert_eq!(page.reply.status, 200, "{page:?}");
    login.output().await.ok();
}

/// A02: a provider that does not offer S256 is not signed in at, not even with a weaker method or none.
#[tokio::test]
async fn a02_without_s256_the_flow_does_not_start() {
    let desk = Desk::new().await;
    for methods in [json!(null), json!([]), json!(["plain"]), json!(["s256"])] {
        desk.provider.metadata(json!({"code_challenge_methods_supported": methods}));
        let output = desk.begin().output().await;
        assert_eq!(output.code, 1, "{methods}: {output:?}");
        assert!(output.stderr.contains("provider_no_s256"), "{methods}: {output:?}");
        assert!(!output.stdout.contains("http"), "an address was offered: {output:?}");
    }
    assert_eq!(desk.provider.authorizations(), 0);
    assert_eq!(desk.opened(), "");
}

/// A03: where the provider says that it names itself in its answers, an answer that does not, or names another, ends
/// the sign-in before any token request.
#[tokio::test]
async fn a03_an_answer_of_another_issuer_leads_to_no_token_request() {
    let desk = Desk::new().await;
    let other = format!("{}/", desk.provider.issuer);
    for iss in [json!(null), json!("https://evil.example"), json!(""), json!(other)] {
        desk.provider.callback(json!({"iss": iss}));
        let mut login = desk.begin();
        let url = login.first_line().await;
        let page = Browser::of("mallory").sign_in(&url).await;
        assert!(page.reply.status.is_client_error(), "{iss}: {page:?}");
        let output = login.output().await;
        assert_eq!(output.code, 1, "{iss}: {output:?}");
        assert!(output.stderr.contains("callback_rejected") || output.stderr.contains("sign_in_failed"), "{output:?}");
    }
    assert_eq!(desk.provider.server.count("/token"), 0, "a token request left");
    desk.provider.callback(json!({}));
    let mut login = desk.begin();
    Browser::of("mallory").sign_in(&login.first_line().await).await;
    login.output().await.ok();
}

/// A04: the loopback listener takes the one answer of the sign-in under way: on 127.0.0.1 alone, at a port that nobody
/// can know before, once.
#[tokio::test]
async fn a04_the_loopback_listener_takes_one_true_answer_only() {
    let desk = Desk::new().await;
    let mut ports = Vec::new();
    for round in 0..3 {
        let mut login = desk.begin();
        let url = login.first_line().await;
        let asked: Url = url.parse().unwrap();
        let redirect: Url = parameter(&asked, "redirect_uri").parse().unwrap();
        assert_eq!((redirect.scheme(), redirect.host_str()), ("http", Some("127.0.0.1")));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, redirect.port().unwrap()));
        ports.push(address.port());
        assert!(parameter(&asked, "state").len() >= 22 && parameter(&asked, "nonce").len() == 43, "{asked}");

        let elsewhere = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), address.port()));
        assert!(TcpStream::connect(elsewhere).await.is_err(), "the listener is open to more than 127.0.0.1");

        let good = Browser::of("mallory").sign_in_until(&url, |url| url.path() == redirect.path()).await;
        let target = &good[url::Position::BeforePath..];
        let host = redirect.authority().to_owned();
        let wrong_state = target.replace("state=", "state=x");
        let no_state = target.replace("state=", "stat=");
        for (what, target, host, header, value) in [
            ("another Host", target, "evil.example", "accept", "*/*"),
            ("another Host with the port", target, &format!("evil.example:{}", address.port()), "accept", "*/*"),
            ("a name for the address", target, &format!("localhost:{}", address.port()), "accept", "*/*"),
            ("a page of another origin", target, &host, "origin", "https://evil.example"),
            ("another state", &wrong_state, &host, "accept", "*/*"),
            ("no state", &no_state, &host, "accept", "*/*"),
            ("another path", &target.replace("/callback", "/"), &host, "accept", "*/*"),
            ("no parameters", "/callback", &host, "accept", "*/*"),
            ("two codes", &format!("{target}&code=mine"), &host, "accept", "*/*"),
            ("an error with another state", "/callback?error=access_denied&state=x", &host, "accept", "*/*"),
        ] {
            let request = Request::get(target).header("host", host).header(header, value).body("").unwrap();
            let reply = http(address, request).await;
            assert!(reply.status.is_client_error(), "{what}: {reply:?}");
        }
        let request = Request::post(target).header("host", &host).body("").unwrap();
        assert!(http(address, request).await.status.is_client_error(), "POST");
        assert_eq!(desk.provider.server.count("/token"), round, "a false answer led to a token request");

        if is_root() {
            // Another user of the machine can read the address in the process list, and bring his own sign-in back.
            let script = desk.world.file("probe.mjs", include_str!("../../node/probe.mjs"));
            let port = json!({"port": address.port()}).to_string();
            let theft = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            let answer = run(command_as("65534", "node").arg(script).args([port, theft])).await.ok().stdout;
            assert!(!answer.contains("200 OK"), "another user finished the sign-in: {answer}");
            assert_eq!(desk.provider.server.count("/token"), round);
        }

        // None of that disturbed the true answer; and after it, nobody listens any more.
        let request = || Request::get(target).header("host", &host).body("").unwrap();
        let reply: Reply = http(address, request()).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        login.output().await.ok();
        eventually("the listener is gone", async || TcpStream::connect(address).await.is_err().then_some(())).await;
        assert_eq!(desk.provider.server.count("/token"), round + 1);
        desk.agent.run(&["logout"]).await.ok();
    }
    ports.dedup();
    assert_eq!(ports.len(), 3, "the same port again and again");
}

/// A05: an authorization endpoint that is no plain web address is never opened, nor shown as one to open.
#[tokio::test]
async fn a05_hostile_authorization_endpoints_are_never_opened() {
    let desk = Desk::new().await;
    let issuer = desk.provider.issuer.clone();
    for endpoint in [
        "file:///etc/passwd".to_owned(),
        "javascript:alert(1)".into(),
        "data:text/html,x".into(),
        "--version".into(),
        "-e calc".into(),
        "smb://evil.example/x".into(),
        "vscode://evil".into(),
        format!("{issuer}/auth --incognito"),
        format!("{issuer}/auth\u{1b}[2J"),
        format!("{issuer}/auth$(touch {})", desk.world.path("touched").display()),
        format!("{issuer}/auth`touch {}`", desk.world.path("touched").display()),
        format!("{issuer}/auth;touch {}", desk.world.path("touched").display()),
        "http://evil.example/auth".into(),
        "https://user:password@evil.example/auth".into(),
        String::new(),
    ] {
        desk.provider.metadata(json!({"authorization_endpoint": endpoint}));
        let mut login = desk.begin_with_browser();
        let ends = eventually("the browser is opened or the sign-in ends", async || {
            let opened = desk.opened();
            (login.ended().is_some() || !opened.is_empty()).then_some(opened)
        })
        .await;
        // The shell's characters are dangerous to shells only: percent-encoded, such an address is plain enough.
        let harmless =
            |opened: &str| opened.contains("%60") || opened.contains("%20") || !opened.contains([' ', '`', '\u{1b}']);
        let address = ends.trim().split_once(' ').map_or("", |(_, address)| address);
        assert!(address.is_empty() || address.starts_with(&issuer) && harmless(address), "{endpoint}: {ends}");
        assert!(!desk.world.path("touched").exists(), "{endpoint} ran a command");
        if address.is_empty() {
            let output = login.output().await;
            assert_eq!(output.code, 1, "{endpoint}: {output:?}");
            assert!(output.stderr.contains("provider_invalid"), "{endpoint}: {output:?}");
        }
        login.kill().await;
        let _ = std::fs::remove_file(desk.world.path("opened"));
    }
    // The same way with an honest provider does open the browser, with that one address as its one argument.
    desk.provider.metadata(json!({}));
    let _login = desk.begin_with_browser();
    let opened =
        eventually("the browser is opened", async || Some(desk.opened()).filter(|text| text.ends_with('\n'))).await;
    let (_, address) = opened.trim().split_once(' ').unwrap();
    assert!(address.starts_with(&format!("{issuer}/auth?")), "{opened}");
}

fn parameter(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}
