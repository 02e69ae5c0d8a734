//! What may be typed, and how answers look.

use super::output::{json_line, screen_at};
use super::*;
use postern_protocol::control::{AppEntry, AppKind, Posture, Principal};
use postern_protocol::local::{
    Denial, DenialKind, DeviceStatus, LocalApp, Party, SessionStatus, SignedOut, State, Status, Untold,
};
use postern_protocol::{Code, Timestamp};

const HOSTILE: &str = "\x1b[2Jevil\u{202e}\r\nname\u{9b}31m";

#[test]
fn the_commands_of_the_contract_are_understood() {
    for line in [
        "login",
        "login relay.example",
        "why",
        "why 0123 --json",
        "login relay.example --no-browser --json --memory-only",
        "login https://relay.example:8443 --device-code --ca ca.pem",
        "--state-dir /x status --json",
        "status --state-dir /x --config /y",
        "apps --json",
        "connect db",
        "logout --json",
        "agent run --config /y",
        "agent stop",
    ] {
        let words = std::iter::once("postern").chain(line.split(' '));
        assert!(Cli::try_parse_from(words).is_ok(), "{line}");
    }
}

#[test]
fn wrong_usage_is_refused() {
    for line in [
        "",
        "sign-in",
        "login a b",
        "login --no-browser --device-code",
        "connect",
        "connect Not_An_App",
        "connect db --json",
        "agent",
        "status --state-dir",
        "status --state-dir=",
    ] {
        let words = std::iter::once("postern").chain(line.split(' ').filter(|word| !word.is_empty()));
        assert!(Cli::try_parse_from(words).is_err(), "{line}");
    }
}

fn status() -> Status {
    Status {
        carrier: None,
        version: "0.1.0".into(),
        state: State::Online,
        relay: Some("https://relay.example/".parse().unwrap()),
        organisation: Some("Example Corp".into()),
        principal: Some(Principal {
            issuer: "https://login.example".into(),
            subject: "u1".into(),
            email: Some("ada@example.com".into()),
            name: Some("Ada".into()),
            groups: vec!["eng".into(), "ops".into()],
        }),
        device: Some(DeviceStatus {
            name: "laptop".into(),
            id: Some("00112233445566778899aabbccddeeff".parse().unwrap()),
            key_thumbprint: "thumb".into(),
            key_storage: "keyring".into(),
            certificate_expires: Some(Timestamp::from_seconds(86_400)),
            spiffe_id: None,
        }),
        session: Some(SessionStatus {
            signed_in: None,
            ends: None,
            id: "ffeeddccbbaa99887766554433221100".parse().unwrap(),
            token_expires: Some(Timestamp::from_seconds(100)),
        }),
        posture: Some(Posture {
            os: "linux".into(),
            os_version: "Debian GNU/Linux 12 (bookworm)".into(),
            kernel_version: Some("6.1.0-21-amd64".into()),
            agent_version: "0.1.0".into(),
            key_storage: "keyring".into(),
            disk_encrypted: Some(true),
            firewall: Some(false),
            screen_lock: None,
        }),
        problem: None,
    }
}

#[test]
fn why_tells_what_to_do_and_drives_no_terminal() {
    let problem = Problem::new(Code::PolicyDenied)
        .decision("00112233445566778899aabbccddeeff".parse().unwrap())
        .advice(Some(HOSTILE.into()), Some("Ask security.".into()));
    let denial = Denial {
        at: Timestamp::from_seconds(0),
        app: "vault".parse().unwrap(),
        kind: DenialKind::Request,
        problem: Box::new(problem),
    };
    let shown = screen_at(Timestamp::default(), false).denial(Some(&denial));
    assert!(!shown.contains(['\x1b', '\r', '\u{202e}', '\u{9b}']), "{shown:?}");
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines[0], "App             vault");
    assert_eq!(lines[1], "What            a request was refused");
    assert_eq!(lines[2], "When            1970-01-01T00:00:00.000Z");
    assert_eq!(lines[5], "What to do      Ask security.");
    assert_eq!(lines[6..], ["Code            policy_denied", "Decision        00112233445566778899aabbccddeeff"]);
}

fn app(name: &str, kind: AppKind, local: &str, description: &str) -> LocalApp {
    let entry = AppEntry {
        name: name.parse().unwrap(),
        kind,
        description: description.into(),
        port: None,
        allowed: true,
        reason: None,
        fix: None,
        step_up: None,
    };
    LocalApp { entry, local: local.into(), command: None, problem: None }
}

#[test]
fn status_is_aligned() {
    let screen = screen_at(Timestamp::from_seconds(10), false);
    assert_eq!(
        screen.status(&status()),
        "\
State           online
Organisation    Example Corp
Relay           https://relay.example/
User            Ada <ada@example.com>
Groups          eng, ops
Device          00112233445566778899aabbccddeeff
Device key      in keyring
Key thumbprint  thumb
Certificate     ends in 23 h (1970-01-02T00:00:00.000Z)
Session         ffeeddccbbaa99887766554433221100
Token           ends in 90 s (1970-01-01T00:01:40.000Z)
Posture         Debian GNU/Linux 12 (bookworm), kernel 6.1.0-21-amd64, agent 0.1.0
Disk encrypted  yes
Firewall        no
Screen lock     not known
"
    );
    assert_eq!(
        screen.welcome(&status()),
        "Ada <ada@example.com> is online at Example Corp. See your apps: postern apps\n"
    );
}

#[test]
fn a_status_with_trouble_says_what_to_do() {
    let problem = Some(Problem::new(Code::RelayUnreachable));
    let bare = Status {
        state: State::Offline,
        organisation: None,
        relay: None,
        principal: None,
        device: None,
        session: None,
        posture: None,
        problem,
        ..status()
    };
    assert_eq!(
        screen_at(Timestamp::default(), false).status(&bare),
        "\
State           offline

The relay cannot be reached
  what to do: Check the address and the network.
  code: relay_unreachable
"
    );
}

#[test]
fn signing_out_says_who_does_not_know_and_what_to_do() {
    let screen = screen_at(Timestamp::default(), false);
    let everybody = SignedOut { status: status(), untold: vec![] };
    assert_eq!((screen.signed_out(&everybody), screen.untold(&[])), ("Signed out.\n".to_owned(), String::new()));
    let problem = Problem::new(Code::RelayUnreachable).advice(None, Some(HOSTILE.to_owned()));
    let session = "ffeeddccbbaa99887766554433221100".parse().unwrap();
    let untold = vec![Untold { who: Party::Relay, session, token_ends: None, problem }];
    let text = screen.untold(&untold);
    assert!(text.starts_with("\nThe relay could not be told. The relay cannot be reached\n  what to do: "), "{text}");
    assert!(!text.contains(['\x1b', '\r']), "{text:?}");
    let here = SignedOut { status: status(), untold };
    assert_eq!(screen.signed_out(&here), "Signed out on this device.\n");
    let json = serde_json::to_value(&here).unwrap();
    assert_eq!((&json["state"], &json["untold"][0]["who"]), (&"online".into(), &"relay".into()));
    assert_eq!(serde_json::from_value::<SignedOut>(json).unwrap(), here);
}

#[test]
fn apps_are_aligned_and_denials_explained() {
    let mut hr = app("hr", AppKind::Http, "http://hr.localhost:8700/", "");
    hr.entry.allowed = false;
    hr.entry.reason = Some("Contractors have no access".into());
    hr.entry.fix = Some("Ask people@example.com".into());
    let mut db = app("warehouse", AppKind::Tcp, "", "The warehouse");
    db.problem = Some(Problem::new(Code::PortInUse).detail("port 5432 cannot be opened"));
    let wiki = app("wiki", AppKind::Http, "http://wiki.localhost:8700/", "The wiki");
    assert_eq!(
        screen_at(Timestamp::default(), false).apps(&[hr, db, wiki]),
        "\
hr         http  http://hr.localhost:8700/    denied
           Contractors have no access
           Ask people@example.com
warehouse  tcp   -                            allowed  The warehouse
           port 5432 cannot be opened
wiki       http  http://wiki.localhost:8700/  allowed  The wiki
"
    );
}

#[test]
fn colours_are_for_terminals_only() {
    assert!(screen_at(Timestamp::default(), true).status(&status()).contains("\x1b[32monline\x1b[0m"));
    assert!(!screen_at(Timestamp::default(), false).status(&status()).contains('\x1b'));
}

/// A17, A55: names from elsewhere cannot drive the terminal or forge lines, in either form.
#[test]
fn a17_a55_hostile_names_are_shown_as_text() {
    let hostile = || Some(HOSTILE.to_owned());
    let mut status = status();
    status.organisation = hostile();
    status.problem = Some(Problem::new(Code::PolicyDenied).detail(HOSTILE).advice(hostile(), hostile()));
    if let Some(principal) = &mut status.principal {
        (principal.name, principal.email, principal.groups) = (hostile(), hostile(), vec![HOSTILE.into()]);
    }
    let mut app = app("wiki", AppKind::Http, HOSTILE, HOSTILE);
    (app.entry.allowed, app.entry.reason, app.entry.fix) = (false, hostile(), hostile());
    let screen = screen_at(Timestamp::default(), false);
    for text in [screen.status(&status), screen.welcome(&status), screen.apps(std::slice::from_ref(&app))] {
        assert!(!text.contains(['\x1b', '\r', '\u{202e}', '\u{9b}']), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("name")), "{text:?}");
    }
    let json = json_line(&app);
    assert!(json.trim_end().bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{json:?}");
    let parsed: LocalApp = serde_json::from_str(&json).unwrap();
    assert_eq!(parsed, app);
}
