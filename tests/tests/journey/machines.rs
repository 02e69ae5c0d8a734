//! Several agents and relays on one machine, and the agent that starts by itself.

use crate::Office;
use postern_tests::process::run;
use postern_tests::{Agent, App, Browser, Relay, Settings, Upstream, eventually};

/// Two relays, two agents, one keyring: nothing is mixed up.
#[tokio::test]
async fn two_agents_and_two_relays_live_side_by_side() {
    let office = Office::open().await;
    let second_wiki = Upstream::http(|_| postern_tests::upstream::ok("the second")).await;
    let settings = Settings::new(&office.provider.issuer).app(App::http("wiki", second_wiki.address));
    let settings = settings.set("", "organisation", "\"Second Corp\"");
    let second_relay = Relay::start_named(&office.world, "second-relay", settings).await;
    let second = Agent::start(&office.world, "second", Some(&office.keyring)).await;
    office.sign_in().await;
    second.login(&second_relay, &mut Browser::of("eve")).await;
    assert_eq!(office.agent.status().await["principal"]["subject"], "ada");
    assert_eq!(second.status().await["principal"]["subject"], "eve");
    assert_eq!(second.status().await["organisation"], "Second Corp");
    assert_eq!(office.agent.get("wiki", "/one").await.text(), "GET /one");
    assert_eq!(second.get("wiki", "/").await.refusal(), (403, "policy_denied"), "eve is no staff");
    second.run(&["logout"]).await.ok();
    assert_eq!(office.agent.get("wiki", "/two").await.status, 200, "the one's sign-out is not the other's");

    // A second agent on the same state directory is told that there is one.
    let twin = office.agent.run(&["agent", "run"]).await;
    assert_eq!(twin.code, 1, "{twin:?}");
    assert!(twin.stderr.contains("agent_running"), "{twin:?}");
    assert_eq!(office.agent.get("wiki", "/three").await.status, 200);
}

/// `postern login` starts the agent; other commands say that there is none.
#[tokio::test]
async fn login_starts_the_agent_in_the_background() {
    let office = Office::open().await;
    let state = office.world.path("auto-state");
    let postern = |arguments: &[&str]| {
        let mut command = office.world.command("postern");
        command.args(arguments).arg("--state-dir").arg(&state).envs([office.keyring.variable()]);
        command
    };
    for arguments in [&["status"][..], &["apps"], &["logout"], &["connect", "echo"]] {
        let output = run(&mut postern(arguments)).await;
        assert_eq!(output.code, 1, "{arguments:?}: {output:?}");
        assert!(output.stderr.contains("agent_not_running") && output.stderr.contains("postern login"), "{output:?}");
    }
    let (address, authority) = (office.relay.address(), office.relay.authority_file());
    let arguments = ["login", &address, "--no-browser", "--ca", authority.to_str().unwrap()];
    let mut login =
        postern_tests::process::Process::spawn("auto-login", &mut postern(&arguments), &office.world.logs());
    let url = login.first_line().await;
    let agent = Background(agents_of(&state));
    assert_eq!(agent.0.len(), 1, "one agent serves the state directory: {:?}", agent.0);
    Browser::of("ada").sign_in(&url).await;
    login.output().await.ok();
    let status = run(&mut postern(&["status", "--json"])).await.ok().json();
    assert_eq!(status["state"], "online", "the agent outlives the command that started it: {status}");
    assert_eq!(postern_tests::world::mode(&state), 0o700);
    assert_eq!(postern_tests::world::mode(&state.join("agent.sock")), 0o600);
    assert!(state.join("agent.log").exists());
    assert_eq!(postern_tests::secrets::find(&state, &[]), [""; 0]);
    let pid = agent.0.clone();
    drop(agent);
    eventually("the agent is gone", async || agents_of(&state).is_empty().then_some(())).await;
    let output = run(&mut postern(&["status"])).await;
    assert!(output.code == 1 && output.stderr.contains("agent_not_running"), "{pid:?}: {output:?}");
}

/// Process ids of agents that a command of ours left in the background; they end with this value.
struct Background(Vec<u32>);

impl Drop for Background {
    fn drop(&mut self) {
        for id in &self.0 {
            postern_tests::process::end(*id);
        }
    }
}

/// Agents that run with this state directory, found by their command line: the directory is ours alone.
fn agents_of(state: &std::path::Path) -> Vec<u32> {
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let serves = |id: &u32| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(" agent run") && line.contains(state.to_str().unwrap())
    };
    processes.filter(serves).collect()
}
