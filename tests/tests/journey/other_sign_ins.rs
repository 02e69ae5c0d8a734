//! Sign-ins without a browser on the machine: device code and service account.

use crate::Office;
use postern_tests::provider::SERVICE_SECRET;
use postern_tests::stand_in::RESOURCE;
use postern_tests::world::set_mode;
use postern_tests::{Agent, App, Provider, Relay, Settings, Upstream, World, secrets};

/// RFC 8628: the code is typed on another device, the session is this device's.
#[tokio::test]
async fn a_device_code_is_typed_elsewhere() {
    let office = Office::open().await;
    office.agent.login_by_code(&office.relay, "ada", &[]).await.ok();
    let status = office.agent.reaches("online").await;
    assert_eq!(status["principal"]["subject"], "ada");
    assert_eq!(office.agent.get("wiki", "/").await.status, 200);
}

/// A service account has no keyring and no person: its key is registered at the relay by its thumbprint.
#[tokio::test]
async fn a_service_account_signs_in_with_a_registered_key_only() {
    let world = World::new();
    let provider = Provider::start(&world).await;
    let wiki = Upstream::plain().await;
    let settings = Settings::new(&provider.issuer).app(App::http("wiki", wiki.address)).set(
        "provider",
        "resource",
        &format!("\"{RESOURCE}\""),
    );
    let mut relay = Relay::start(&world, settings.clone()).await;
    let config = service_config(&world);
    let agent = Agent::start_with(&world, "ci", None, &config, &[]).await;
    let authority = relay.authority_file();
    let address = relay.address();
    let login = ["login", &address, "--ca", authority.to_str().unwrap()];

    let refused = agent.run(&login).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("service_account_unregistered"), "{refused:?}");
    let thumbprint = thumbprint_in(&refused.stderr).unwrap_or_else(|| panic!("no thumbprint in {}", refused.stderr));
    assert_eq!(postern_tests::world::mode(&world.path("ci-device.key")), 0o600);

    relay.stop().await.ok();
    relay.serve_again(Some(settings.service_account("ci-runner", &thumbprint))).await;
    agent.run(&login).await.ok();
    let status = agent.reaches("online").await;
    assert_eq!(status["principal"]["subject"], "ci-runner");
    assert_eq!(status["device"]["key_storage"], "file");
    assert_eq!(status["device"]["key_thumbprint"], thumbprint);
    assert_eq!(agent.get("wiki", "/").await.status, 200);
    assert_eq!(secrets::find(&agent.state, &[SERVICE_SECRET]), [""; 0]);
    assert_eq!(secrets::find(&world.logs(), &[SERVICE_SECRET]), [""; 0]);

    // The same account on any other key is refused.
    let config = config.replace("ci-device.key", "other-device.key");
    let other = Agent::start_with(&world, "other", None, &config, &[]).await;
    let refused = other.run(&login).await;
    assert!(refused.code == 1 && refused.stderr.contains("service_account_unregistered"), "{refused:?}");
}

/// The configuration of an agent that signs in as `ci-runner`.
pub(crate) fn service_config(world: &World) -> String {
    let secret = world.file("ci-secret", SERVICE_SECRET);
    set_mode(&secret, 0o600);
    format!(
        "[service_account]\nclient_id = \"ci-runner\"\nclient_secret_file = \"{}\"\ndevice_key_file = \"{}\"\n",
        secret.display(),
        world.path("ci-device.key").display()
    )
}

/// What the administrator registers, as a refused sign-in tells it.
pub(crate) fn thumbprint_in(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.split(|c: char| !plain(c)).find(|word| word.len() == 43).map(str::to_owned)
}
