//! Signing in afresh while a session lives.

use super::*;

/// What a policy asks for reaches the provider, the new token reaches the relay in the same session, and who waited goes
/// on; as somebody else nobody steps in.
#[tokio::test]
async fn a_step_up_by_hand_is_of_the_same_session_and_the_same_person() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    let (session, exchanges) = (agent.engine.status().session.unwrap().id, office.exchanges());
    let wanted = StepUp { max_age: Some(60), acr_values: Some("phr".into()) };
    // Told to the engine by the first poll. Whether or not a browser can be opened here, the user does it by hand.
    let mut waiting = Box::pin(agent.engine.step_up(wanted, true));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    office.idp.state.lock().claims = serde_json::json!({ "auth_time": seconds_now(), "acr": "phr", "sub": "user-2" });
    let steps = office.login(&agent, office.request()).await;
    let Some(LoginEvent::Failed { problem }) = steps.last() else { panic!("{steps:?}") };
    assert_eq!(problem.code, Code::SignInFailed, "another person");
    assert!(waiting.await.is_err());
    assert_eq!(office.exchanges(), exchanges, "nobody else's token is shown to the relay");

    office.idp.state.lock().claims = serde_json::json!({ "auth_time": seconds_now(), "acr": "phr" });
    let steps = office.login(&agent, office.request()).await;
    let Some(LoginEvent::Authorize { url }) = steps.first() else { panic!("{steps:?}") };
    assert!(url.as_str().contains("max_age=60") && url.as_str().contains("acr_values=phr"), "{url}");
    assert!(matches!(steps.last(), Some(LoginEvent::Online { .. })), "{steps:?}");
    assert_eq!(office.exchanges(), exchanges + 1);
    assert_eq!((agent.engine.status().session.unwrap().id, office.enrolments()), (session, 1));
    // What was asked for is done: another login is told that all is well.
    let steps = office.login(&agent, office.request()).await;
    assert!(matches!(steps.as_slice(), [LoginEvent::Online { .. }]), "{steps:?}");
}

/// Streams that are held for want of a fresh sign-in wait for no request to be refused: the event asks for it.
#[tokio::test]
async fn held_streams_ask_for_the_sign_in_that_lets_them_go_on() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    let step_up = Some(StepUp { max_age: Some(77), acr_values: None });
    let decision = "00112233445566778899aabbccddeeff".parse().unwrap();
    let (app, until) = ("db".parse().unwrap(), postern_protocol::Timestamp::from_seconds(1));
    let (reason, fix) = (Some("because".to_owned()), None);
    let held = RelayEvent::Held { app, decision, code: Code::StepUpRequired, until, reason, fix, step_up };
    office.tell(held).await;
    office.wait(|_| !agent.uplink.denials().newest_first().is_empty()).await;
    let told = agent.uplink.denials().newest_first().remove(0);
    assert_eq!((told.kind, told.problem.reason.as_deref()), (DenialKind::Held, Some("because")));
    office.idp.state.lock().claims = serde_json::json!({ "auth_time": seconds_now() });
    let steps = office.login(&agent, office.request()).await;
    let Some(LoginEvent::Authorize { url }) = steps.first() else { panic!("{steps:?}") };
    assert!(url.as_str().contains("max_age=77"), "{url}");
    assert!(matches!(steps.last(), Some(LoginEvent::Online { .. })), "{steps:?}");
}

/// What was cut for want of a fresh sign-in opens no page, but the sign-in by hand is the one that was asked for.
#[tokio::test]
async fn a_cut_tells_which_sign_in_would_have_kept_the_stream() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    let step_up = Some(StepUp { max_age: None, acr_values: Some("phr".into()) });
    let decision = "00112233445566778899aabbccddeeff".parse().unwrap();
    let (app, code) = ("db".parse().unwrap(), Code::StepUpRequired);
    office.tell(RelayEvent::Cut { app, decision, code, reason: None, fix: None, step_up: step_up.clone() }).await;
    office.wait(|_| !agent.uplink.denials().newest_first().is_empty()).await;
    let told = agent.uplink.denials().newest_first().remove(0);
    assert_eq!((told.kind, told.problem.step_up.as_deref()), (DenialKind::Cut, step_up.as_ref()));
    office.idp.state.lock().claims = serde_json::json!({ "acr": "phr" });
    let steps = office.login(&agent, office.request()).await;
    let Some(LoginEvent::Authorize { url }) = steps.first() else { panic!("{steps:?}") };
    assert!(url.as_str().contains("acr_values=phr"), "{url}");
    assert!(matches!(steps.last(), Some(LoginEvent::Online { .. })), "{steps:?}");
}

/// Whoever signed in with a code on another device is shown no page here, and signs in afresh with another code.
#[tokio::test]
async fn a_session_of_a_device_code_is_stepped_up_by_another() {
    let office = Office::open().await;
    let agent = office.agent().await;
    let with_code = || office.request_with(|request| request.method = LoginMethod::DeviceCode);
    sign_in_as_ada(&office, &agent, with_code()).await;
    let session = agent.engine.status().session.unwrap().id;
    let wanted = StepUp { max_age: Some(60), acr_values: None };
    let problem = agent.engine.step_up(wanted, true).await.unwrap_err();
    assert_eq!(problem.code, Code::BrowserUnavailable, "{problem:?}");

    office.idp.state.lock().claims = serde_json::json!({ "auth_time": seconds_now() });
    let steps = office.login(&agent, with_code()).await;
    assert!(matches!(steps.as_slice(), [LoginEvent::DeviceCode { .. }, LoginEvent::Online { .. }]), "{steps:?}");
    let asked = office.idp.state.lock().asked.iter().rfind(|asked| asked.path == "/device").cloned().unwrap();
    assert_eq!(asked.form("max_age").as_deref(), Some("60"));
    assert_eq!((agent.engine.status().session.unwrap().id, office.enrolments()), (session, 1));
}

/// Who cannot wait hears at once whether a sign-in begins; that of a service account never does.
#[tokio::test]
async fn whether_a_sign_in_begins_is_told_at_once() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request_with(|request| request.method = LoginMethod::DeviceCode)).await;
    let wanted = StepUp { max_age: Some(60), acr_values: None };
    assert!(agent.engine.step_up(wanted.clone(), false).await.is_ok());
    agent.stop().await;

    let office = Office::open().await;
    let service = office.service_agent().await;
    status_when(&service.engine, |status| status.state == State::Online).await;
    let problem = service.engine.step_up(wanted, false).await.unwrap_err();
    assert_eq!(problem.code, Code::StepUpRequired);
    assert!(problem.fix.as_ref().unwrap().contains("administrator"), "{problem:?}");
}

/// Streams that wait for a newer token wait for no request to be refused either.
#[tokio::test]
async fn held_streams_fetch_the_token_that_lets_them_go_on() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    let exchanges = office.exchanges();
    let decision = "00112233445566778899aabbccddeeff".parse().unwrap();
    let (app, until) = ("db".parse().unwrap(), postern_protocol::Timestamp::from_seconds(1));
    let (reason, fix, step_up) = (None, None, None);
    office.tell(RelayEvent::Held { app, decision, code: Code::TokenExpired, until, reason, fix, step_up }).await;
    office.wait(|office| office.exchanges() > exchanges).await;
}

/// What helps a person whose streams are held would be said to nobody.
#[tokio::test]
async fn a_service_account_whose_streams_are_held_is_told_whom_to_ask() {
    let office = Office::open().await;
    let service = office.service_agent().await;
    status_when(&service.engine, |status| status.state == State::Online).await;
    let decision = "00112233445566778899aabbccddeeff".parse().unwrap();
    let (app, code, until) =
        ("db".parse().unwrap(), Code::StepUpRequired, postern_protocol::Timestamp::from_seconds(1));
    let step_up = Some(StepUp { max_age: Some(60), acr_values: None });
    let (reason, fix) = (None, Some("Touch your key.".into()));
    office.tell(RelayEvent::Held { app, decision, code, until, reason, fix, step_up }).await;
    office.wait(|_| !service.uplink.denials().newest_first().is_empty()).await;
    let told = service.uplink.denials().newest_first().remove(0);
    assert!(told.problem.fix.as_ref().unwrap().contains("administrator"), "{told:?}");
}
