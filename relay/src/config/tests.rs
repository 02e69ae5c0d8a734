//! Broken configurations, and where each mistake is told.

use super::*;
use crate::clock::Clock;
use crate::init;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// A directory as `init` makes it.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        init::init(&dir.path().join("relay"), &Clock::new()).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("relay").join(name)
    }

    fn load(&self) -> Result<Config, Vec<Fault>> {
        load(&self.path("relay.toml"), None).map(|(config, _)| config)
    }

    /// The mistakes of this `relay.toml`: line, message and fix.
    fn faults(&self, text: &str) -> Vec<(usize, String)> {
        std::fs::write(self.path("relay.toml"), text).unwrap();
        let faults = self.load().err().unwrap_or_default();
        assert!(faults.iter().all(|fault| fault.column >= 1 && !fault.fix.is_empty()));
        faults.into_iter().map(|fault| (fault.line, format!("{} ({})", fault.message, fault.fix))).collect()
    }
}

/// A small good configuration, nine lines long; what a test adds begins at line 10.
const GOOD: &str = "organisation = \"Test\"
trust_domain = \"corp.example\"
[listen]
quic = \"127.0.0.1:0\"
public = \"127.0.0.1:0\"
[provider]
issuer = \"https://login.corp.example\"
client_id = \"postern\"
[[app]]
name = \"wiki\"
kind = \"http\"
upstream = \"http://127.0.0.1:1\"
groups = [\"internal\"]
";

#[test]
fn what_init_makes_passes_and_means_what_its_comments_say() {
    let world = World::new();
    let config = world.load().unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(config.state_dir, world.path("state"));
    assert_eq!(config.audit_file, world.path("state/audit.jsonl"));
    assert_eq!(config.token_lifetime, Duration::from_secs(300));
    assert_eq!(config.certificate_lifetime, Duration::from_secs(86_400));
    assert_eq!(config.limits.streams_per_connection, 1000);
    assert_eq!(config.policy.apps().iter().count(), 1);
    // The defaults that its comments show are the defaults.
    let text = std::fs::read_to_string(world.path("relay.toml")).unwrap();
    let less: String = text
        .lines()
        .filter(|line| {
            !["token_", "lifetime", "max_age", "requests", "burst", "enrol", "conn", "streams_", "groups_c"]
                .iter()
                .any(|key| line.starts_with(key))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(world.path("relay.toml"), less).unwrap();
    let by_default = world.load().unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(
        format!("{:?}{:?}", config.limits, config.provider),
        format!("{:?}{:?}", by_default.limits, by_default.provider)
    );
    assert_eq!(config.posture_max_age, by_default.posture_max_age);
}

/// A transmitter whose fourth line and on are these.
fn signals(more: &str) -> String {
    format!("[[signals]]\nname = \"a\"\nissuer = \"b\"\naudience = \"c\"\n{more}")
}

#[test]
fn every_kind_of_mistake_is_told_at_its_line() {
    let world = World::new();
    assert_eq!(world.faults(GOOD), [], "the good one has none");
    for (line, words, change) in [
        (1, "`organisation` must be text, not a whole number", ("organisation = \"Test\"", "organisation = 7")),
        (1, "`organisation`: holds control characters", ("\"Test\"", "\"T\\u001b[2J\"")),
        (8, "out of bounds", ("client_id", "token_max_age = \"9s\"\nclient_id")),
        (1, "`organisation` is empty", ("\"Test\"", "\"\"")),
        (1, "`trust_domain` is missing (add trust_domain = ", ("trust_domain = \"corp.example\"\n", "")),
        (2, "`trust_domain`: ", ("corp.example\"\n[listen]", "Corp Example\"\n[listen]")),
        (1, "unknown key `organization` (did you mean `organisation`?)", ("organisation", "organization")),
        (3, "`issuer`: the relay's address begins with https://", ("[listen]", "issuer = \"http://a\"\n[listen]")),
        (3, "only host and port", ("[listen]", "issuer = \"https://a/b\"\n[listen]")),
        (4, "`listen.quic`: \"localhost:1\" is not an address", ("127.0.0.1:0\"\npublic", "localhost:1\"\npublic")),
        (5, "unknown key `listen.publik` (did you mean `public`?)", ("public", "publik")),
        (1, "`issuer` is missing", ("public = \"127.0.0.1:0\"", "public = \"0.0.0.0:0\"")),
        (5, "`listen.advertise_quic`: ", ("public =", "advertise_quic = \"nowhere\"\npublic =")),
        (7, "http is for a provider on loopback", ("https://login", "http://login")),
        (7, "no user, query or fragment", ("https://login.corp.example", "https://a.example?x")),
        (6, "`provider.client_id` is missing", ("client_id = \"postern\"\n", "")),
        (8, "lacks \"openid\"", ("client_id", "scopes = [\"profile\"]\nclient_id")),
        (8, "one word", ("client_id", "scopes = [\"openid\", \"a b\"]\nclient_id")),
        (8, "`provider.scopes` must be a list", ("client_id", "scopes = \"openid\"\nclient_id")),
        (8, "\"soon\" is not a duration", ("client_id", "token_max_age = \"soon\"\nclient_id")),
        (8, "out of bounds", ("client_id", "token_max_age = \"2d\"\nclient_id")),
        (10, "`session.max_age`: \"14s\" is out of bounds", ("[[app]]", "[session]\nmax_age = \"14s\"\n[[app]]")),
        (10, "`session.max_age`: \"ever\" is not a duration", ("[[app]]", "[session]\nmax_age = \"ever\"\n[[app]]")),
        (8, "`provider.require_nonce` must be", ("client_id", "require_nonce = \"yes\"\nclient_id")),
        (8, "`provider.redirect_port` is out of bounds", ("client_id", "redirect_port = 70000\nclient_id")),
        (8, "`provider.backchannel_logout` must be true", ("client_id", "backchannel_logout = \"no\"\nclient_id")),
        (
            6,
            "means nothing while backchannel_logout is false",
            ("client_id", "backchannel_logout = false\nbackchannel_logout_untyped = true\nclient_id"),
        ),
        (10, "`app.name`: ", ("\"wiki\"", "\"The Wiki\"")),
        (11, "there is no kind \"udp\"", ("\"http\"", "\"udp\"")),
        (12, "`app.upstream`: ", ("http://127.0.0.1:1", "127.0.0.1:1")),
        (12, "its upstream begins tcp://", ("http://127.0.0.1:1", "tcp://127.0.0.1:1")),
        (10, "the relay's own", ("\"wiki\"", "\"localhost\"")),
        (9, "`app.kind` is missing", ("kind = \"http\"\n", "")),
        (9, "`app` must be a list of tables", ("[[app]]", "[app]")),
    ] {
        let text = GOOD.replacen(change.0, change.1, 1);
        assert_ne!(text, GOOD, "{words}");
        let faults = world.faults(&text);
        let told = faults.iter().any(|(at, message)| *at == line && message.contains(words));
        assert!(told, "line {line} should say {words:?}: {faults:?}");
    }
    for (line, words, more) in [
        (14, "`app.hidden` must be true or false", "hidden = \"yes\""),
        (15, "a second app is named `wiki`", "[[app]]\nname = \"wiki\"\nkind = \"http\"\nupstream = \"http://a\""),
        (15, "`posture.max_age` is too short", "[posture]\nmax_age = \"59s\""),
        (15, "`limits.burst` is out of bounds", "[limits]\nburst = 0"),
        (15, "`limits.burst` must be a whole number", "[limits]\nburst = 1.5"),
        (14, "unknown key `limit` (did you mean `limits`?)", "[limit]\nburst = 1"),
        (14, "provider.resource` is not set", "[[service_account]]\nsubject = \"ci\"\nkey_thumbprint = \"x\""),
        (16, "`service_account.key_thumbprint`", "[[service_account]]\nsubject = \"ci\"\nkey_thumbprint = \"x\""),
        (14, "`signals.audience` is missing", "[[signals]]\nname = \"a\"\nissuer = \"b\"\njwks_uri = \"https://c\""),
        (18, "http is for a transmitter on loopback", &signals("jwks_uri = \"http://keys.example\"")),
        (19, "none.secret does not exist", &signals("jwks_uri = \"https://c\"\nauthorization = \"none.secret\"")),
        (19, "does not hold a bearer secret", &signals("jwks_uri = \"https://c\"\nauthorization = \"relay.toml\"")),
        (19, "unknown key `signals.audiense`", &signals("jwks_uri = \"https://c\"\naudiense = \"d\"")),
        (
            19,
            "has this issuer",
            &format!(
                "{}\n{}",
                signals("jwks_uri = \"https://c\""),
                signals("jwks_uri = \"https://d\"").replace("\"a\"", "\"z\"")
            ),
        ),
        (15, "does not exist", "[tls]\ncertificate = \"none.crt\"\nkey = \"none.key\""),
        (14, "only one of certificate and key", "[tls]\nkey = \"none.key\""),
        (15, "the directory of the keys", "[keys]\ndir = \"elsewhere\""),
        (15, "the policy", "[policy]\nfile = \"none.cedar\""),
        (15, "the directory above", "[state]\ndir = \"no/such/dir\""),
        (15, "is not a directory", "[state]\ndir = \"policy.cedar\""),
        (15, "the audit log cannot stand", "[audit]\nfile = \"no/such/audit.jsonl\""),
    ] {
        let faults = world.faults(&format!("{GOOD}{more}\n"));
        let told = faults.iter().any(|(at, message)| *at == line && message.contains(words));
        assert!(told, "line {line} should say {words:?}: {faults:?}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_and_in_order() {
    let world = World::new();
    let text = GOOD.replace("\"Test\"", "7").replace("127.0.0.1:0", "x").replace("\"wiki\"", "\"W\"") + "oops = 1\n";
    let lines: Vec<_> = world.faults(&text).into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, [1, 4, 5, 10, 14]);
}

/// A line that is no TOML is told for itself; the rest of the file is still judged, but nothing is called missing.
#[test]
fn broken_syntax_does_not_hide_other_mistakes() {
    let world = World::new();
    let text = GOOD.replace("client_id = \"postern\"", "client_id = postern").replace("\"Test\"", "7");
    let faults = world.faults(&text);
    let lines: Vec<_> = faults.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 8], "{faults:?}");
    let unclosed = GOOD.replace("[listen]", "[listen");
    let faults = world.faults(&unclosed);
    assert!(faults.iter().any(|(line, _)| *line == 3), "{faults:?}");
    assert!(!faults.iter().any(|(_, message)| message.contains("is missing")), "{faults:?}");
    let twice = format!("organisation = \"Again\"\n{GOOD}");
    assert!(world.faults(&twice).iter().any(|(line, message)| *line == 2 && message.contains("duplicate")));
}

#[test]
fn policy_faults_name_the_line_of_the_policy() {
    let world = World::new();
    std::fs::write(world.path("policy.cedar"), "\n\npermit (principal, action, resource) when { resource.colour };\n")
        .unwrap();
    let faults = world.load().unwrap_err();
    assert!(faults.iter().all(|fault| fault.file.ends_with("policy.cedar") && fault.line == 3), "{faults:?}");
    assert!(!faults.is_empty());
}

/// One look at both files: mistakes of one do not hide those of the other, nor one app's those of the next.
#[test]
fn mistakes_of_an_app_hide_none_elsewhere() {
    let world = World::new();
    let policy = "@id(\"a\") permit (principal, action, resource == App::\"wikki\") when { resource.colour };\n";
    std::fs::write(world.path("policy.cedar"), policy).unwrap();
    let text = std::fs::read_to_string(world.path("relay.toml")).unwrap();
    let broken = "[[app]]\nname = \"twice\"\nkind = \"htp\"\nupstream = \"http://127.0.0.1:1\"\n";
    std::fs::write(world.path("relay.toml"), format!("{text}\n{broken}{broken}")).unwrap();
    let told: Vec<String> = world.load().unwrap_err().into_iter().map(|fault| fault.message).collect();
    let count = |part: &str| told.iter().filter(|message| message.contains(part)).count();
    assert_eq!((count("there is no kind"), count("a second app is named `twice`")), (2, 1), "{told:?}");
    assert!(count("colour") > 0, "{told:?}");
    assert_eq!(count("wikki"), 0, "which apps there will be is not known: {told:?}");
}

/// A36: with an authority's file missing, empty or foreign the configuration does not load.
#[test]
fn a36_a_missing_or_empty_authority_is_a_mistake() {
    let world = World::new();
    for name in
        ["device-ca.crt", "device-ca.key", "server-ca.crt", "server-ca.key", "session.key", "identity.key", "audit.key"]
    {
        let path = world.path("keys").join(name);
        let good = std::fs::read_to_string(&path).unwrap();
        for content in
            [None, Some(""), Some("\n \n"), Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")]
        {
            match content {
                None => std::fs::remove_file(&path).unwrap(),
                Some(text) => std::fs::write(&path, text).unwrap(),
            }
            let faults = world.load().unwrap_err();
            assert!(faults.iter().any(|fault| fault.file == path), "{name} with {content:?}: {faults:?}");
        }
        write_private(&path, &good);
    }
    assert!(world.load().is_ok());
}

/// A14: one key per purpose. A key, or authority, in the place of another is a mistake.
#[test]
fn a14_a_key_serves_one_purpose() {
    let world = World::new();
    let keys = world.path("keys");
    let read = |name: &str| std::fs::read_to_string(keys.join(name)).unwrap();
    for (from, to) in [("session.key", "audit.key"), ("device-ca.key", "identity.key"), ("session.key", "identity.key")]
    {
        let good = read(to);
        write_private(&keys.join(to), &read(from));
        let faults = world.load().unwrap_err();
        assert!(faults.iter().any(|fault| fault.file == keys.join(to)), "{from} for {to}: {faults:?}");
        write_private(&keys.join(to), &good);
    }
    // The other authority's certificate beside our key.
    let good = read("device-ca.crt");
    write_private(&keys.join("device-ca.crt"), &read("server-ca.crt"));
    let faults = world.load().unwrap_err();
    assert!(faults.iter().any(|fault| fault.message.contains("does not belong")), "{faults:?}");
    write_private(&keys.join("device-ca.crt"), &good);
    assert!(world.load().is_ok());
}

#[test]
fn keys_that_others_can_reach_are_a_mistake() {
    let world = World::new();
    for (path, mode) in [("keys/session.key", 0o640), ("keys", 0o750), ("keys/device-ca.key", 0o604)] {
        let path = world.path(path);
        let before = std::fs::metadata(&path).unwrap().permissions();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let faults = world.load().unwrap_err();
        assert!(faults.iter().any(|fault| fault.file == path && fault.fix.contains("chmod")), "{faults:?}");
        std::fs::set_permissions(&path, before).unwrap();
    }
}

#[test]
fn tls_files_must_fit_together() {
    let world = World::new();
    let keys = world.path("keys");
    let tls = |certificate: &str, key: &str| {
        let text = format!("{GOOD}[tls]\ncertificate = \"keys/{certificate}\"\nkey = \"keys/{key}\"\n");
        world.faults(&text)
    };
    assert_eq!(tls("server-ca.crt", "server-ca.key"), []);
    let faults = tls("server-ca.crt", "device-ca.key");
    assert!(faults.iter().any(|(line, message)| *line == 15 && message.contains("does not belong")), "{faults:?}");
    assert!(!tls("server-ca.key", "server-ca.key").is_empty());
    assert!(keys.is_dir());
}

#[test]
fn init_overwrites_nothing_and_leaves_no_trace_of_a_failure() {
    let world = World::new();
    let before = std::fs::read_to_string(world.path("keys/session.key")).unwrap();
    assert!(init::init(&world.path(""), &Clock::new()).is_err());
    assert_eq!(std::fs::read_to_string(world.path("keys/session.key")).unwrap(), before);
    let other = world.dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("relay.toml"), "mine").unwrap();
    assert!(init::init(&other, &Clock::new()).is_err());
    let left: Vec<_> = std::fs::read_dir(&other).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["relay.toml"]);
    assert!(init::init(Path::new("/proc/none"), &Clock::new()).is_err());
    // A directory that exists and is free of ours is taken.
    let empty = world.dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    init::init(&empty, &Clock::new()).unwrap();
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), init::ENTRIES.len());
}

#[test]
fn the_state_directory_can_be_elsewhere() {
    let world = World::new();
    let elsewhere = world.dir.path().join("elsewhere");
    let (config, _) = load(&world.path("relay.toml"), Some(&elsewhere)).unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!((config.state_dir, config.audit_file), (elsewhere.clone(), elsewhere.join("audit.jsonl")));
}

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
