//! A policy that asks for a fresher or stronger sign-in, over the real wire.

use super::upstreams::Upstream;
use super::world::{Device, World, app, none, problem, soon};
use crate::clock;
use crate::reverify::reverify;
use http::Response;
use http_body_util::BodyExt as _;
use postern_protocol::control::RelayEvent;
use postern_protocol::{Code, StepUp};
use postern_relay_core::access::Snapshot;
use postern_relay_core::policy::Policy;
use postern_relay_core::principal::PrincipalKey;
use postern_relay_core::registry::Scope;
use postern_relay_core::token::SessionGrant;
use secrecy::ExposeSecret as _;
use std::sync::Arc;
use std::time::Duration;

const POLICY: &str = r#"
@id("everyone") permit (principal, action, resource);
@id("fresh") @reason("Settings need a fresh sign-in.") @max_age("300") @acr_values("gold silver")
forbid (principal, action == Action::"request", resource) when { context.path == "/settings" }
unless { context has auth_age && context.auth_age < 300 && context has acr && ["gold", "silver"].contains(context.acr) };
@id("stream") @max_age("60") forbid (principal, action == Action::"connect", resource)
unless { context has auth_age && context.auth_age < 60 };
"#;

/// A token of the device's session, whose sign-in is `age` seconds old and of class `acr`.
fn signed_in(world: &World, device: &Device, age: u64, acr: Option<&str>) -> String {
    let now = world.relay.clock.now();
    let grant = SessionGrant {
        session: device.session.clone(),
        principal: PrincipalKey::new("https://login.corp.example", &device.subject).unwrap(),
        device: device.id().clone(),
        certificate: device.identity.device.thumbprint().into(),
        client_id: "postern".into(),
        email: None,
        name: None,
        groups: vec!["staff".into()],
        acr: acr.map(String::from),
        amr: vec!["pwd".into()],
        auth_time: Some(now.minus(Duration::from_secs(age))),
    };
    let jti = u128::from_be_bytes(clock::random().unwrap());
    let token = world.relay.signer.sign(&grant, now, Duration::from_secs(300), jti).unwrap();
    token.expose_secret().to_owned()
}

fn replace_policy(world: &World, text: &str) {
    let old = world.relay.snapshot.load_full();
    let policy = Policy::load(text, old.policy.apps().clone()).unwrap_or_else(|faults| panic!("{faults:?}"));
    let generation = old.generation + 1;
    world.relay.snapshot.store(Arc::new(Snapshot { policy: Arc::new(policy), generation, ..(*old).clone() }));
}

#[tokio::test]
async fn a_sign_in_that_is_too_old_or_too_weak_is_told_as_rfc_9470_says_and_a_new_one_goes_through() {
    let upstream = Upstream::http(|_| async { Response::new(none().boxed()) }).await;
    let database = Upstream::tcp(|_| async {}).await;
    let world = World::new(&[app("wiki", upstream.http_url(), ""), app("db", database.tcp_url(), "")]).await;
    replace_policy(&world, POLICY);
    let mut ada = world.device("ada").await;

    ada.token = signed_in(&world, &ada, 3600, None);
    assert_eq!(ada.get("wiki", "/").await.status(), 200);
    let refused = ada.get("wiki", "/settings").await;
    assert_eq!(refused.status(), 407);
    let challenge = refused.headers()["proxy-authenticate"].to_str().unwrap().to_owned();
    let error = "Bearer error=\"insufficient_user_authentication\"";
    assert_eq!(challenge, format!("{error}, max_age=\"300\", acr_values=\"gold silver\""));
    let told = problem(refused).await;
    let asked = StepUp { max_age: Some(300), acr_values: Some("gold silver".into()) };
    assert_eq!((told.code, told.step_up.as_deref()), (Code::StepUpRequired, Some(&asked)));
    assert_eq!(told.reason.as_deref(), Some("Settings need a fresh sign-in."));
    let record = world.audited(&told);
    assert_eq!((record["code"].as_str(), record["policies"][0].as_str()), (Some("step_up_required"), Some("fresh")));

    let stream = ada.open(&format!("db:{}", database.addr.port())).await.unwrap_err();
    assert_eq!(stream.step_up.as_deref(), Some(&StepUp { max_age: Some(60), acr_values: None }));

    ada.token = signed_in(&world, &ada, 5, Some("bronze"));
    assert_eq!(problem(ada.get("wiki", "/settings").await).await.code, Code::StepUpRequired);
    ada.token = signed_in(&world, &ada, 5, Some("silver"));
    assert_eq!(ada.get("wiki", "/settings").await.status(), 200);
    assert!(ada.open(&format!("db:{}", database.addr.port())).await.is_ok());
}

#[tokio::test]
async fn whoever_loses_a_stream_for_want_of_a_sign_in_is_told_of_which() {
    let upstream = Upstream::tcp_echo().await;
    let world = World::new(&[app("db", upstream.tcp_url(), "")]).await;
    let ada = world.device("ada").await;
    let mut events = world.relay.events.subscribe(&ada.session).unwrap();
    assert_eq!(events.next().await, RelayEvent::Alive);
    let _stream = ada.open(&format!("db:{}", upstream.addr.port())).await.unwrap();
    replace_policy(&world, POLICY);
    assert_eq!(reverify(&world.relay, &Scope::Everything).await.cut, 1);
    let RelayEvent::Cut { code, step_up, .. } = soon(events.next()).await else { panic!("a cut is told") };
    assert_eq!((code, step_up), (Code::StepUpRequired, Some(StepUp { max_age: Some(60), acr_values: None })));
}
