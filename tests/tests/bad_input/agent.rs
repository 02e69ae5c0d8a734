//! What a person can get wrong at the command line.

use crate::{CANARY, nothing_leaked, sound, told, usage};
use postern_tests::process::{Output, run};
use postern_tests::server::{Server, reply};
use postern_tests::world::{is_root, set_mode};
use postern_tests::{Agent, Browser, Relay, Settings, StandIn, World};
use std::fs::File;
use std::process::Stdio;

#[tokio::test]
async fn wrong_usage_is_status_2() {
    let world = World::new();
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["login", "--frobnicate"],
        &["login", "a", "b"],
        &["login", "x", "--no-browser", "--device-code"],
        &["login", "x", "--ca"],
        &["status", "extra"],
        &["connect"],
        &["connect", "Not A Label"],
        &["connect", "../x"],
        &["agent"],
        &["agent", "frobnicate"],
        &["status", "--state-dir"],
    ] {
        usage(&format!("{arguments:?}"), &world.postern(arguments).await);
    }
    for arguments in [&["--help"][..], &["--version"], &["login", "--help"], &["agent", "run", "--help"]] {
        let output = world.postern(arguments).await.ok();
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[tokio::test]
async fn addresses_that_lead_to_no_relay_are_told_apart() {
    let world = World::new();
    let provider = StandIn::start().await;
    let relay = Relay::start(&world, Settings::new(&provider.issuer)).await;
    let agent = Agent::start(&world, "agent", None).await;
    let plain = Server::http(|_| reply(200, "text/html", "hello")).await;
    let (plain, address) = (plain.address.to_string(), relay.address());
    let closed = postern_tests::nginx::free_address().to_string();
    let authority = relay.authority_file();
    let authority = authority.to_str().unwrap();
    let login =
        async |arguments: &[&str]| agent.run(&[&["login", "--no-browser", "--memory-only"], arguments].concat()).await;
    told("nobody there", &login(&[&closed, "--ca", authority]).await, "relay_unreachable", &[]);
    told("no relay but a web server", &login(&[&plain, "--ca", authority]).await, "relay_unreachable", &[]);
    told("an unknown authority", &login(&[&address]).await, "relay_untrusted", &["--ca"]);
    told("a name that is nobody's", &login(&["no-such-host.invalid"]).await, "relay_unreachable", &[]);
    for bad in [
        "http://127.0.0.1:1",
        "ftp://relay.example",
        "https://user:canary-5f1d9a@relay.example",
        "https://relay.example/path",
        "relay.example:99999",
        "relay example",
        "",
        "://",
        "\u{1b}[2J",
    ] {
        let output = login(&[bad, "--ca", authority]).await;
        sound(bad, &output);
        assert!(output.code == 1 || output.code == 2, "{bad:?}: {output:?}");
        assert!(!output.stderr.is_empty() && !output.stdout.contains("http"), "{bad:?}: {output:?}");
    }
    told("no address, ever", &login(&[]).await, "request_invalid", &["postern login ADDRESS"]);
    nothing_leaked(&world);
}

#[tokio::test]
async fn authority_files_that_are_none_are_told() {
    let world = World::new();
    let agent = Agent::start(&world, "agent", None).await;
    let secret = world.file("key.pem", format!("-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n"));
    let huge = world.file("huge.pem", vec![b'x'; 10 << 20]);
    let (empty, binary) = (world.file("empty.pem", ""), world.file("binary.pem", [0xff, 0, 0xfe]));
    for file in [secret, huge, empty, binary, world.path("missing.pem"), world.path("logs")] {
        let arguments = ["login", "127.0.0.1:1", "--no-browser", "--memory-only", "--ca", file.to_str().unwrap()];
        let output = agent.run(&arguments).await;
        told(&file.display().to_string(), &output, "config_invalid", &["ca"]);
    }
    nothing_leaked(&world);
}

#[tokio::test]
async fn state_directories_that_are_not_ones_own_are_refused() {
    let world = World::new();
    let run_in =
        async |dir: &std::path::Path| world.postern(&["agent", "run", "--state-dir", dir.to_str().unwrap()]).await;
    let open = world.directory("open");
    set_mode(&open, 0o777);
    told("open to all", &run_in(&open).await, "state_dir", &["chmod 700"]);
    let file = world.file("file", "x");
    told("a file", &run_in(&file).await, "state_dir", &["file"]);
    let link = world.path("link");
    std::os::unix::fs::symlink(world.directory("target"), &link).unwrap();
    told("a link", &run_in(&link).await, "state_dir", &["link"]);
    let deep = world.path("x".repeat(90).as_str()).join("y".repeat(90));
    let output = run_in(&deep).await;
    told("a path too long for a socket", &output, "state_dir", &[]);
    if is_root() {
        let foreign = world.directory("foreign");
        set_mode(&foreign, 0o700);
        run(postern_tests::process::command("chown").arg("65534").arg(&foreign)).await.ok();
        told("somebody else's", &run_in(&foreign).await, "state_dir", &["another user"]);
    }
    for command in [&["status"][..], &["apps", "--json"], &["logout"], &["connect", "wiki"]] {
        let arguments = [command, &["--state-dir", open.to_str().unwrap()]].concat();
        let output = world.postern(&arguments).await;
        assert!(output.code == 1 && output.stderr.contains("state_dir"), "{command:?}: {output:?}");
    }
    let output = run(world.command("postern").arg("status").env("POSTERN_STATE_DIR", world.path("fresh"))).await;
    told("a directory without an agent", &output, "agent_not_running", &["postern login"]);
    assert!(!world.path("fresh").exists(), "asking makes nothing");
    let output = run(world.command("postern").arg("status").env_remove("HOME")).await;
    told("no home", &output, "state_dir", &["HOME"]);
}

#[tokio::test]
async fn configurations_with_mistakes_name_each_with_its_line() {
    let world = World::new();
    let secret = world.file("client-secret", CANARY);
    set_mode(&secret, 0o644);
    let config = format!(
        "relay = 7\nhttp_port = 99999\nkeyring = \"maybe\"\nunknown = 1\n[ports]\n\"Not A Label\" = 1\n\
         [service_account]\nclient_id = \"ci\"\nclient_secret_file = \"{}\"\ndevice_key_file = \"k\"\n",
        secret.display()
    );
    let file = world.file("agent.toml", config);
    let state = world.path("state");
    let arguments = ["agent", "run", "--state-dir", state.to_str().unwrap(), "--config", file.to_str().unwrap()];
    let output = world.postern(&arguments).await;
    told("six mistakes", &output, "config_invalid", &[":1:", ":2:", ":3:", ":4:", ":6:", "chmod 600"]);
    for (what, content) in
        [("no TOML", "= = ="), ("deep", &"[".repeat(100_000)), ("a key twice", "relay = \"a\"\nrelay = \"b\"")]
    {
        std::fs::write(&file, content).unwrap();
        told(what, &world.postern(&arguments).await, "config_invalid", &["agent.toml"]);
    }
    std::fs::remove_file(&file).unwrap();
    told("a file that is not there", &world.postern(&arguments).await, "config_invalid", &["agent.toml"]);
}

#[tokio::test]
async fn ports_taken_by_others_are_told_and_cost_that_port_only() {
    let world = World::new();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = world.file("agent.toml", format!("http_port = {port}\n"));
    let state = world.path("state");
    let arguments = ["agent", "run", "--state-dir", state.to_str().unwrap(), "--config", config.to_str().unwrap()];
    told("the HTTP port", &world.postern(&arguments).await, "port_in_use", &[&port.to_string()]);

    let provider = StandIn::start().await;
    let echo = postern_tests::Upstream::echo().await;
    let settings = Settings::new(&provider.issuer).app(postern_tests::App::tcp("echo", echo.address));
    let relay = Relay::start(&world, settings).await;
    let agent = Agent::start_with(&world, "agent", None, &format!("[ports]\necho = {port}\n"), &[]).await;
    agent.login_with(&relay, &mut Browser::of("mallory"), &["--memory-only"]).await.ok();
    let apps = agent.run(&["apps", "--json"]).await.ok().json();
    assert_eq!(apps["apps"][0]["problem"]["code"], "port_in_use", "{apps}");
    let echoed = postern_tests::process::run_with(&mut agent.command(&["connect", "echo"]), b"still").await;
    assert_eq!(echoed.stdout, "still", "{echoed:?}");
}

/// State that was damaged is put aside or told; it never stops a sign-in for good and never panics.
#[tokio::test]
async fn damaged_state_files_are_survived() {
    let world = World::new();
    let provider = StandIn::start().await;
    let relay = Relay::start(&world, Settings::new(&provider.issuer)).await;
    let keyring = postern_tests::Keyring::unlocked(&world).await;
    let mut agent = Agent::start(&world, "agent", Some(&keyring)).await;
    agent.login(&relay, &mut Browser::of("mallory")).await;
    agent.stop().await.ok();
    let files: Vec<_> = std::fs::read_dir(&agent.state).unwrap().map(|entry| entry.unwrap().path()).collect();
    let files: Vec<_> = files.into_iter().filter(|path| path.is_file()).collect();
    assert!(!files.is_empty());
    for content in [&b""[..], b"{", b"\xff\xfe\x00", b"{\"http\": 99999999}", b"[[[[[[[[[[[["] {
        for file in &files {
            std::fs::write(file, content).unwrap();
        }
        agent.run_again().await;
        // The keyring has not been touched: the session goes on, or a new sign-in is all that it takes.
        let status = agent.status().await;
        if status["state"] == "signed_out" {
            agent.login(&relay, &mut Browser::of("mallory")).await;
        }
        agent.reaches("online").await;
        agent.stop().await.ok();
    }
    nothing_leaked(&world);
}

/// Output that cannot be written is an error like any other, not a panic; a reader that has seen enough is none.
#[tokio::test]
async fn output_that_goes_nowhere_is_no_panic() {
    let world = World::new();
    let agent = Agent::start(&world, "agent", None).await;
    for arguments in [&["status"][..], &["status", "--json"], &["apps"], &["--help"]] {
        let mut command = agent.command(arguments);
        command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .stdout(File::options().write(true).open("/dev/full").unwrap());
        let output = command.spawn().unwrap().wait_with_output().await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let output = Output { code: output.status.code().unwrap_or(128), stdout: String::new(), stderr };
        sound(&format!("{arguments:?} to a full disk"), &output);
    }
}
