//! What an administrator can get wrong.

use crate::{CANARY, nothing_leaked, told, usage};
use postern_tests::process::run;
use postern_tests::relay::configure;
use postern_tests::world::set_mode;
use postern_tests::{App, Relay, Settings, World};
use std::path::PathBuf;

/// A relay's directory as `init` makes it, with a small configuration of our own.
async fn prepared(world: &World) -> PathBuf {
    let dir = world.path("relay");
    world.postern_relay(&["init", dir.to_str().unwrap()]).await.ok();
    configure(&dir, &Settings::new("http://127.0.0.1:1"));
    dir
}

#[tokio::test]
async fn wrong_usage_is_status_2() {
    let world = World::new();
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["serve", "--frobnicate"],
        &["serve", "extra"],
        &["serve", "--config"],
        &["init"],
        &["revoke"],
        &["revoke", "user"],
        &["revoke", "device"],
        &["revoke", "planet", "x"],
        &["audit"],
        &["audit", "frobnicate"],
    ] {
        usage(&format!("{arguments:?}"), &world.postern_relay(arguments).await);
    }
    for arguments in [&["--help"][..], &["--version"], &["serve", "--help"], &["help", "revoke"]] {
        let output = world.postern_relay(arguments).await.ok();
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[tokio::test]
async fn init_overwrites_nothing_and_leaves_nothing_half_made() {
    let world = World::new();
    let dir = prepared(&world).await;
    let listing = |dir: &PathBuf| {
        let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let (names, config) = (listing(&dir), std::fs::read(dir.join("relay.toml")).unwrap());
    let again = world.postern_relay(&["init", dir.to_str().unwrap()]).await;
    told("init on top of a relay", &again, "config_invalid", &["relay"]);
    assert_eq!((listing(&dir), std::fs::read(dir.join("relay.toml")).unwrap()), (names, config));

    let file = world.file("a-file", "x");
    told(
        "init into a file",
        &world.postern_relay(&["init", file.to_str().unwrap()]).await,
        "config_invalid",
        &["a-file"],
    );
    let nowhere = world.path("no/such/place");
    let output = world.postern_relay(&["init", nowhere.to_str().unwrap()]).await;
    told("init below nothing", &output, "config_invalid", &["place"]);
    // One name in the way: nothing beside it either.
    let partly = world.directory("partly");
    std::fs::write(partly.join("policy.cedar"), "// mine").unwrap();
    world.postern_relay(&["init", partly.to_str().unwrap()]).await;
    assert_eq!(listing(&partly), ["policy.cedar"]);
}

#[tokio::test]
async fn what_init_makes_passes_check_and_its_keys_are_private() {
    let world = World::new();
    let dir = world.path("relay");
    world.postern_relay(&["init", dir.to_str().unwrap()]).await.ok();
    let config = dir.join("relay.toml");
    world.postern_relay(&["check", "--config", config.to_str().unwrap()]).await.ok();
    assert_eq!(postern_tests::world::mode(&dir.join("keys")), 0o700);
    for name in ["device-ca.key", "server-ca.key", "session.key", "identity.key", "audit.key"] {
        assert_eq!(postern_tests::world::mode(&dir.join("keys").join(name)), 0o600, "{name}");
    }
}

/// `check` reports every mistake at once, each with file and line.
#[tokio::test]
async fn check_tells_all_mistakes_at_once_with_their_lines() {
    let world = World::new();
    let dir = prepared(&world).await;
    let config = r#"organisation = 7
trust_domain = "Not A Domain"
issuer = "http://in-the-clear.example"
unknown = true
[listen]
quic = "nowhere"
public = "127.0.0.1:99999"
[provider]
issuer = "http://login.corp.example"
scopes = ["profile"]
[session]
token_lifetime = "soon"
[limits]
burst = -1
[[app]]
name = "Not A Label"
kind = "udp"
upstream = "ftp://x"
[[app]]
name = "wiki"
kind = "http"
upstream = "tcp://127.0.0.1:1"
[[service_account]]
subject = "ci"
key_thumbprint = "short"
"#;
    std::fs::write(dir.join("relay.toml"), config).unwrap();
    let file = dir.join("relay.toml");
    let output = world.postern_relay(&["check", "--config", file.to_str().unwrap()]).await;
    assert_eq!(output.code, 1, "{output:?}");
    for line in [1, 2, 3, 4, 6, 7, 8, 9, 10, 12, 14, 16, 17, 18, 22, 25] {
        let place = format!("relay.toml:{line}:");
        assert!(output.stdout.contains(&place), "no mistake on line {line}: {}", output.stdout);
    }
    let machine = world.postern_relay(&["check", "--json", "--config", file.to_str().unwrap()]).await;
    let faults = machine.json()["faults"].as_array().unwrap().clone();
    assert!(faults.len() >= 16 && faults.iter().all(|fault| fault["fix"].is_string()), "{faults:?}");
    // `serve` takes none of it, either.
    let output = world.postern_relay(&["serve", "--config", file.to_str().unwrap()]).await;
    told("serve with all of that", &output, "config_invalid", &["relay.toml:2:", "relay.toml:25:"]);
}

#[tokio::test]
async fn policies_are_judged_before_they_count() {
    let world = World::new();
    let dir = prepared(&world).await;
    let file = dir.join("relay.toml");
    let check = ["check", "--config", file.to_str().unwrap()];
    for (what, line, policy) in [
        ("a syntax error", 2, "@id(\"a\")\npermit(principal, action resource);"),
        ("an unknown action", 2, "@id(\"a\")\npermit(principal, action == Action::\"fly\", resource);"),
        (
            "an unknown attribute",
            3,
            "@id(\"a\")\npermit(principal, action, resource)\nwhen { principal.email == \"x\" };",
        ),
        ("no @id", 1, "permit(principal, action, resource);"),
        (
            "two of one @id",
            2,
            "@id(\"a\") permit(principal, action, resource);\n@id(\"a\") forbid(principal, action, resource);",
        ),
    ] {
        std::fs::write(dir.join("policy.cedar"), policy).unwrap();
        let output = world.postern_relay(&check).await;
        assert_eq!(output.code, 1, "{what}: {output:?}");
        assert!(output.stdout.contains(&format!("policy.cedar:{line}:")), "{what}: {}", output.stdout);
    }
}

#[tokio::test]
async fn files_that_are_missing_foreign_or_open_to_others_are_named() {
    let world = World::new();
    let dir = prepared(&world).await;
    let file = dir.join("relay.toml");
    let config = file.to_str().unwrap().to_owned();
    let serve = ["serve", "--config", config.as_str()];
    let missing = world.path("missing.toml");
    let output = world.postern_relay(&["serve", "--config", missing.to_str().unwrap()]).await;
    told("no configuration", &output, "config_invalid", &["missing.toml", "init"]);
    told(
        "no configuration anywhere",
        &world.postern_relay(&["serve"]).await,
        "config_invalid",
        &["relay.toml", "init"],
    );
    let directory = world.directory("directory");
    let output = world.postern_relay(&["serve", "--config", directory.to_str().unwrap()]).await;
    told("a directory for a configuration", &output, "config_invalid", &["directory"]);
    std::fs::write(world.path("binary.toml"), [0xff, 0xfe, 0, 1]).unwrap();
    let output = world.postern_relay(&["check", "--config", world.path("binary.toml").to_str().unwrap()]).await;
    assert!(output.code == 1 && !output.stderr.contains("panicked"), "{output:?}");

    for (what, path, mode, words) in [
        ("a key that others can read", dir.join("keys/session.key"), 0o644, "session.key"),
        ("keys that others can list", dir.join("keys"), 0o755, "keys"),
    ] {
        let before = postern_tests::world::mode(&path);
        set_mode(&path, mode);
        told(what, &world.postern_relay(&serve).await, "config_invalid", &[words, "chmod"]);
        set_mode(&path, before);
    }
    let state = dir.join("state");
    std::fs::create_dir(&state).unwrap();
    set_mode(&state, 0o777);
    told("a state directory open to all", &world.postern_relay(&serve).await, "config_invalid", &["state", "chmod"]);
    std::fs::remove_dir(&state).unwrap();
    std::fs::write(&state, "a file").unwrap();
    told("a file for a state directory", &world.postern_relay(&serve).await, "config_invalid", &["state"]);
    std::fs::remove_file(&state).unwrap();
    let mut command = world.command("postern-relay");
    let output = run(command.args(serve).env("POSTERN_STATE_DIR", world.path("no/such/dir"))).await;
    told("POSTERN_STATE_DIR that is nowhere", &output, "config_invalid", &["no/such"]);
    let output = run(world.command("postern-relay").args(serve).env("POSTERN_STATE_DIR", "")).await;
    assert!(output.code != 0 && !output.stderr.contains("panicked"), "an empty POSTERN_STATE_DIR: {output:?}");
    let output =
        run(world.command("postern-relay").args(["check", "--config", &config]).env("POSTERN_LOG", "[[=,,")).await;
    crate::sound("a POSTERN_LOG that is none", &output);
}

/// A wrong file in the place of a secret is refused without showing what is in it.
#[tokio::test]
async fn contents_of_wrong_files_are_not_shown() {
    let world = World::new();
    let dir = prepared(&world).await;
    let secret = world.file("secret", format!("-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n"));
    set_mode(&secret, 0o600);
    let settings = Settings::new("http://127.0.0.1:1");
    let file = format!("\"{}\"", secret.display());
    for settings in [
        settings.clone().set("tls", "certificate", &file).set("tls", "key", &file),
        settings.clone().set("policy", "file", &file),
    ] {
        configure(&dir, &settings);
        let config = dir.join("relay.toml");
        for command in ["check", "serve"] {
            let output = world.postern_relay(&[command, "--config", config.to_str().unwrap()]).await;
            crate::sound("a secret in the wrong place", &output);
            assert_eq!(output.code, 1, "{output:?}");
        }
    }
}

#[tokio::test]
async fn ports_and_state_taken_by_others_are_told() {
    let world = World::new();
    let relay = Relay::start(&world, Settings::new("http://127.0.0.1:1")).await;
    let config = relay.dir.join("relay.toml");
    let second = world.postern_relay(&["serve", "--config", config.to_str().unwrap()]).await;
    told("a second relay on the same state", &second, "state_dir", &["state"]);
    let other = world.path("other");
    world.postern_relay(&["init", other.to_str().unwrap()]).await.ok();
    let config = other.join("relay.toml");
    for key in ["public", "quic"] {
        let taken = if key == "public" { relay.public } else { relay.quic };
        configure(&other, &Settings::new("http://127.0.0.1:1").set("listen", key, &format!("\"{taken}\"")));
        let output = world.postern_relay(&["serve", "--config", config.to_str().unwrap()]).await;
        told("a port that is taken", &output, "port_in_use", &[&taken.to_string()]);
    }
    nothing_leaked(&world);
}

#[tokio::test]
async fn revoking_what_is_not_there_is_told_and_changes_nothing() {
    let world = World::new();
    let wiki = postern_tests::Upstream::plain().await;
    let provider = postern_tests::StandIn::start().await;
    let relay = Relay::start(&world, Settings::new(&provider.issuer).app(App::http("wiki", wiki.address))).await;
    let (device, quic) = postern_tests::Device::signed_in(&relay, &provider, "ada").await;
    let nobody = "0".repeat(32);
    for (what, id) in [
        ("device", nobody.as_str()),
        ("device", "x"),
        ("device", "../../etc/passwd"),
        ("device", ""),
        ("session", &nobody),
        ("session", &nobody.to_uppercase()),
        ("session", "\u{1b}[2J"),
        ("user", "nobody"),
        ("user", "nobody@corp.example"),
        ("user", "' or 1=1 --"),
        ("user", "%"),
    ] {
        let output = relay.revoke(what, id).await;
        crate::sound(&format!("{what} {id:?}"), &output);
        assert!(output.code == 1 || output.code == 2, "{what} {id:?}: {output:?}");
        assert!(!output.stderr.is_empty());
    }
    assert_eq!(device.get(&quic, "wiki", "/").await.status, 200);
}

#[tokio::test]
async fn a_broken_store_is_an_error_not_a_new_store() {
    let world = World::new();
    let mut relay = Relay::start(&world, Settings::new("http://127.0.0.1:1")).await;
    relay.stop().await.ok();
    let state = relay.dir.join("state");
    let store = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
    let store =
        store.into_iter().find(|path| path.extension().is_some_and(|e| e == "db" || e == "sqlite" || e == "sqlite3"));
    let store = store.expect("a store in the state directory");
    std::fs::write(&store, "this is no database, and long enough to be looked at by anyone who cares").unwrap();
    let config = relay.dir.join("relay.toml");
    let output = world.postern_relay(&["serve", "--config", config.to_str().unwrap()]).await;
    told("a store that is none", &output, "store_unavailable", &[store.file_name().unwrap().to_str().unwrap()]);
    assert!(
        std::fs::read_to_string(&store).unwrap().starts_with("this is no"),
        "it is left for the administrator to see"
    );
}
