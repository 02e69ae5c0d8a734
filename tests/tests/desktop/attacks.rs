//! Attacks on the window: from another user's agent (A15), from a script in its page (A16), and from an agent that lies
//! (A17). That nothing of it is secret (A19) is looked at in `day` and `office`.

use postern_tests::client::get;
use postern_tests::process::{Process, command_as};
use postern_tests::stand_in_agent::StandInAgent;
use postern_tests::world::{is_root, set_mode};
use postern_tests::{Desktop, Upstream, World};
use serde_json::{Value, json};

/// Who listens in another user's name and keeps all that it hears.
const LISTENER: &str = "require('net').createServer((c) => { console.log('called'); c.on('data', (d) => \
     console.log('heard ' + d)); }).listen(process.argv[1], () => { require('fs').chmodSync(process.argv[1], 0o777); \
     console.log('ready'); });";

#[tokio::test]
async fn a15_a_directory_that_others_can_use_is_not_used() {
    let world = World::new();
    let mut desktop = Desktop::new(&world).await;
    desktop.make_state();
    let agent = StandInAgent::start(&desktop.state.join("agent.sock"), |_| lines(&[status("online"), apps(&[])]));
    set_mode(&desktop.state, 0o770);
    desktop.start().await;
    let window = desktop.window();
    window.stands_at("The agent cannot be used").await;
    window.click("//summary").await;
    window.sees("chmod 700").await;
    desktop.keep_picture("a15-open-directory").await;
    assert_eq!(agent.asked(), [""; 0], "nothing was asked");
    drop(agent);
    set_mode(&desktop.state, 0o700);
    window.press("Start the agent").await;
    window.stands_at("Welcome to Postern").await;
}

#[tokio::test]
async fn a15_an_agent_of_another_user_is_told_nothing() {
    if !is_root() {
        eprintln!("A15 needs root to be another user: not tried");
        return;
    }
    let world = World::new();
    let mut desktop = Desktop::new(&world).await;
    desktop.make_state();
    let trap = world.directory("trap");
    set_mode(&trap, 0o777);
    let mut listener = command_as("65534", "node");
    listener.args(["-e", LISTENER]).arg(trap.join("agent.sock"));
    let mut listener = Process::spawn("listener", &mut listener, &world.logs());
    assert_eq!(listener.first_line().await, "ready");
    // As root sees to it, or whoever could write there once.
    std::os::unix::fs::symlink(trap.join("agent.sock"), desktop.state.join("agent.sock")).unwrap();
    desktop.start().await;
    let window = desktop.window();
    window.stands_at("This agent belongs to someone else").await;
    desktop.keep_picture("a15-other-user").await;
    listener.logged("").await;
    assert!(listener.stdout().contains("called"), "it was looked at: {}", listener.stdout());
    assert!(!listener.stdout().contains("heard"), "{}", listener.stdout());
}

#[tokio::test]
async fn a16_a_script_in_the_page_reaches_nothing_but_the_listed_commands() {
    let world = World::new();
    let mut desktop = Desktop::new(&world).await;
    desktop.start().await;
    let window = desktop.window();
    window.stands_at("The agent is not running").await;
    let call = async |command: &str, arguments: Value| {
        let script = format!("return ['did', await window.__TAURI_INTERNALS__.invoke('{command}', {arguments})]");
        window.run_async(&script).await
    };
    assert_eq!(call("copy", json!({"text": "a control"})).await[0], "did");
    for (command, arguments) in [
        ("plugin:opener|open_url", json!({"url": "http://evil.example/"})),
        ("plugin:opener|open_path", json!({"path": "/etc/passwd"})),
        ("plugin:opener|reveal_item_in_dir", json!({"paths": ["/etc/passwd"]})),
        ("plugin:clipboard-manager|read_text", json!({})),
        ("plugin:clipboard-manager|write_text", json!({"text": "x"})),
        ("plugin:autostart|enable", json!({})),
        ("plugin:notification|notify", json!({"options": {"title": "x"}})),
        ("plugin:webview|create_webview_window", json!({"options": {"label": "x", "url": "http://evil.example/"}})),
        ("plugin:window|create", json!({"options": {"label": "x"}})),
        ("plugin:window|close", json!({"label": "main"})),
        ("plugin:event|emit", json!({"event": "x", "payload": 1})),
        ("plugin:event|listen", json!({"event": "x", "target": {"kind": "Any"}, "handler": 1})),
        ("plugin:path|resolve_directory", json!({"directory": 1})),
        ("plugin:app|version", json!({})),
        ("plugin:menu|new", json!({"kind": "Menu", "handler": 1})),
        ("plugin:shell|execute", json!({"program": "sh", "args": []})),
        ("plugin:fs|read_text_file", json!({"path": "/etc/passwd"})),
        ("perform", json!({"act": "stop"})),
        ("open_url", json!({"url": "http://evil.example/"})),
    ] {
        let answer = call(command, arguments).await;
        let answer = answer.as_str().unwrap_or_else(|| panic!("{command}: {answer}"));
        let refused = answer.contains("not allowed") || answer.contains("not found");
        assert!(answer.starts_with("threw: ") && refused, "{command}: {answer}");
    }
    // Within the listed ones a name is a name, not a way to somewhere.
    for (command, arguments) in [
        ("open_app", json!({"organisation": "default", "app": "http://evil.example/"})),
        ("open_app", json!({"organisation": "default", "app": "wiki"})),
        ("activity", json!({"organisation": "../../etc"})),
        ("remove_organisation", json!({"organisation": "default"})),
        ("reopen_sign_in", json!({"organisation": "default"})),
        ("set_preferences", json!({"preferences": {"selected": "../..", "theme": "dark"}})),
        ("copy", json!({"text": "x".repeat(5000)})),
    ] {
        let answer = call(command, arguments).await;
        assert!(answer.as_str().is_some_and(|text| text.starts_with("threw: ")), "{command}: {answer}");
    }
    assert_eq!(desktop.all_opened(), [""; 0]);
}

#[tokio::test]
async fn a16_nothing_leads_out_of_the_window_and_nothing_comes_in() {
    let world = World::new();
    let mut desktop = Desktop::new(&world).await;
    let remote = Upstream::plain().await;
    desktop.start().await;
    let (place, window) = (remote.address, desktop.window());
    window.stands_at("The agent is not running").await;
    let home = window.url().await;
    for script in [
        format!("await fetch('http://{place}/fetch', {{mode: 'no-cors'}}); return 'went'"),
        format!(
            "await new Promise((y, n) => {{ const i = new Image(); i.onload = y; i.onerror = () => n('blocked'); i.src = 'http://{place}/i.png'; document.body.append(i) }}); return 'went'"
        ),
        format!(
            "await new Promise((y, n) => {{ const i = document.createElement('script'); i.onload = y; i.onerror = () => n('blocked'); i.src = 'http://{place}/i.js'; document.body.append(i) }}); return 'went'"
        ),
        format!(
            "await new Promise((y, n) => {{ const i = document.createElement('link'); i.rel = 'stylesheet'; i.onload = y; i.onerror = () => n('blocked'); i.href = 'http://{place}/i.css'; document.head.append(i) }}); return 'went'"
        ),
        format!(
            "await new Promise((y, n) => {{ const s = new WebSocket('ws://{place}/'); s.onopen = y; s.onerror = () => n('blocked') }}); return 'went'"
        ),
        "eval('1'); return 'went'".into(),
        "new Function('return 1')(); return 'went'".into(),
    ] {
        let answer = window.run_async(&script).await;
        assert!(answer.as_str().is_some_and(|text| text.starts_with("threw: ")), "{script}: {answer}");
    }
    let inline = "const s = document.createElement('script'); s.textContent = 'window.hacked = 1'; document.body.append(s); \
         const a = document.createElement('div'); a.innerHTML = '<img src=x onerror=\"window.hacked = 1\">'; \
         document.body.append(a); await new Promise((r) => setTimeout(r, 200)); return window.hacked ?? 'no'";
    assert_eq!(window.run_async(inline).await, "no");
    let beside = format!(
        "navigator.sendBeacon?.('http://{place}/beacon'); const f = document.createElement('iframe'); \
         f.src = 'http://{place}/frame'; document.body.append(f); const o = document.createElement('form'); \
         o.action = 'http://{place}/form'; o.method = 'post'; document.body.append(o); o.submit(); \
         return window.open('http://{place}/window') === null"
    );
    assert_eq!(window.run(&beside).await, true, "no window opens");
    for (n, elsewhere) in
        [format!("http://{place}/away"), "file:///etc/passwd".into(), "about:blank".into()].iter().enumerate()
    {
        let way = format!("setTimeout(() => {{ location.href = '{elsewhere}' }}); return 1");
        let before = desktop.logged().matches("asked to go elsewhere").count();
        window.run(&way).await;
        if n == 0 {
            postern_tests::eventually("the way out is refused", async || {
                (desktop.logged().matches("asked to go elsewhere").count() > before).then_some(())
            })
            .await;
        }
        assert_eq!(window.url().await, home, "{elsewhere}");
    }
    window.sees("The agent is not running").await;
    assert_eq!(desktop.all_opened(), [""; 0]);
    get(place, "control", "/control").await;
    let came: Vec<_> = remote.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(came, ["/control"], "nothing else arrived");
}

#[tokio::test]
async fn a17_an_agent_that_lies_opens_nothing_and_breaks_nothing() {
    let world = World::new();
    let mut desktop = Desktop::new(&world).await;
    desktop.make_state();
    let agent = lying(&desktop.state.join("agent.sock"));
    desktop.start().await;
    let window = desktop.window();
    window.stands_at("Connected").await;
    desktop.keep_picture("a17-lies").await;
    for app in ["wiki", "files", "script", "login", "other"] {
        window.press(&format!("Open {app}")).await;
        window.sees("the app's address is not on this device").await;
    }
    for view in ["Session", "Device", "Activity", "Home"] {
        window.press(view).await;
        let script = "return [document.documentElement.scrollWidth <= innerWidth, window.hacked ?? 'no', \
             document.querySelectorAll('img, iframe, script:not([src]), marquee').length, \
             /[\\u202a-\\u202e\\u2066\\u2067]/.test(document.body.innerText)]";
        assert_eq!(window.run(script).await, json!([true, "no", 0, false]), "{view}");
    }
    assert!(agent.asked().contains(&"GET /v1/events".to_owned()));
    assert_eq!(desktop.all_opened(), [""; 0], "the browser was not asked for anything");
}

/// All that people read is as hostile as it can be, and no address is what it should be.
fn lying(socket: &std::path::Path) -> StandInAgent {
    StandInAgent::start(socket, |asked| match asked {
        "GET /v1/events" => lines(&[
            status("online"),
            apps(&[
                ("wiki", "http://evil.example/"),
                ("files", "file:///etc/passwd"),
                ("script", "javascript:window.hacked=1"),
                ("login", "http://login.localhost:80@evil.example:80/"),
                ("other", "http://wiki.localhost:8080/"),
            ]),
        ]),
        "GET /v1/activity" => lines(&[json!({"entries": []})]),
        _ => b"{}".to_vec(),
    })
}

#[tokio::test]
async fn a17_a_page_that_is_not_the_web_is_never_opened_for_a_sign_in() {
    let world = World::new();
    let mut desktop = Desktop::new(&world).await;
    desktop.make_state();
    for page in ["file:///etc/passwd", "javascript:alert(1)", "http://evil.example/", "https://a:b@evil.example/"] {
        let agent = StandInAgent::start(&desktop.state.join("agent.sock"), move |asked| match asked {
            "GET /v1/events" => lines(&[status("signed_out")]),
            "POST /v1/login" => lines(&[json!({"step": "authorize", "url": page})]),
            _ => b"{}".to_vec(),
        });
        desktop.start().await;
        let window = desktop.window();
        window.stands_at("Signed out").await;
        window.click("//form//button[@type='submit']").await;
        window.press("Open the page again").await;
        window.sees("the sign-in page has an address that is never opened").await;
        assert!(agent.asked().contains(&"POST /v1/login".to_owned()));
        assert_eq!(desktop.all_opened(), [""; 0], "{page}");
        drop(agent);
        desktop.quit().await;
    }
}

#[tokio::test]
async fn a17_a_line_without_end_and_json_without_bottom_do_no_harm() {
    const KIB: u64 = 1024;
    let world = World::new();
    let mut desktop = Desktop::new(&world).await;
    desktop.make_state();
    for (what, body, heading) in [
        ("a line without end", vec![b'['; 64 << 20], "The agent is not running"),
        ("json without bottom", [vec![b'['; 1 << 20], b"\n".to_vec()].concat(), "An update is needed"),
        ("nothing at all", Vec::new(), "Asking the agent"),
        ("words of tomorrow", lines(&[status("online"), json!({"event": "from the future"})]), "An update is needed"),
    ] {
        let agent = StandInAgent::start(&desktop.state.join("agent.sock"), move |asked| match asked {
            "GET /v1/events" => body.clone(),
            _ => b"{}".to_vec(),
        });
        desktop.start().await;
        let window = desktop.window();
        window.stands_at(heading).await;
        window.press("Settings").await;
        window.stands_at("Settings").await;
        let peak = desktop.main_process().peak_memory() / KIB;
        eprintln!("desktop: {what}: at most {peak} MiB");
        assert!(peak < 400, "{what}: {peak} MiB");
        drop(agent);
        desktop.quit().await;
    }
}

fn lines(events: &[Value]) -> Vec<u8> {
    events.iter().map(|event| format!("{event}\n")).collect::<String>().into_bytes()
}

/// Text that would like to be more.
fn nasty() -> String {
    let start =
        "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script>\u{202e}gnp.exe\u{2066}\u{0}\u{7}";
    format!("{start}{}", "W".repeat(10_000))
}

fn status(state: &str) -> Value {
    let principal =
        json!({"issuer": nasty(), "subject": nasty(), "name": nasty(), "email": nasty(), "groups": vec![nasty(); 50]});
    let device = json!({"name": nasty(), "key_thumbprint": nasty(), "key_storage": nasty(), "spiffe_id": nasty()});
    let session = json!({"id": "0123456789abcdef0123456789abcdef"});
    let mut status = json!({
        "version": nasty(), "state": state, "relay": "https://relay.example/", "organisation": nasty(), "device": device,
    });
    if state == "online" {
        status["principal"] = principal;
        status["session"] = session;
        status["carrier"] = "quic".into();
    }
    json!({"event": "status", "status": status})
}

fn apps(apps: &[(&str, &str)]) -> Value {
    let app = |(name, local): &(&str, &str)| {
        json!({
            "name": name, "kind": "http", "description": nasty(), "allowed": true, "reason": nasty(), "fix": nasty(),
            "local": local, "command": nasty(),
        })
    };
    json!({"event": "apps", "apps": apps.iter().map(app).collect::<Vec<_>>()})
}
