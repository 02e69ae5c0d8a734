//! Giving up a sign-in, and signing in again to prolong the session.

use super::*;
use tokio::sync::mpsc::Receiver;

/// The page that the person would see, and the port where the agent waits for its answer.
async fn shown(steps: &mut Receiver<LoginEvent>) -> (url::Url, u16) {
    loop {
        if let LoginEvent::Authorize { url } = steps.recv().await.expect("the sign-in goes on") {
            let redirect = url.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.into_owned();
            let port = redirect.parse::<url::Url>().unwrap().port().unwrap();
            return (url, port);
        }
    }
}

fn is_open(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

async fn last(steps: &mut Receiver<LoginEvent>) -> LoginEvent {
    let mut last = None;
    while let Some(step) = steps.recv().await {
        last = Some(step);
    }
    last.expect("there is an end")
}

fn is_cancelled(step: &LoginEvent) -> bool {
    matches!(step, LoginEvent::Failed { problem } if problem.code == Code::SignInCancelled)
}

/// Whoever waits is told, nobody listens for the browser any more, and all is as it was.
#[tokio::test]
async fn a_sign_in_that_waits_for_the_person_can_be_given_up() {
    let office = Office::open().await;
    let agent = office.agent().await;
    agent.engine.cancel_login().await.unwrap();
    let mut steps = agent.engine.login(office.request());
    let (_, port) = shown(&mut steps).await;
    assert!(is_open(port));
    assert_eq!(agent.engine.status().state, State::SigningIn);
    agent.engine.cancel_login().await.unwrap();
    assert!(is_cancelled(&last(&mut steps).await));
    let status = status_when(&agent.engine, |status| status.state == State::SignedOut).await;
    assert!(status.problem.is_none(), "{status:?}");
    office.wait(|_| !is_open(port)).await;
    sign_in_as_ada(&office, &agent, office.request()).await;
}

/// The session and what lives of it is none of it: neither is touched by giving up to prolong it.
#[tokio::test]
async fn giving_up_to_prolong_a_session_leaves_it_alone() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    let (before, exchanges) = (agent.engine.status(), office.exchanges());
    let mut steps = agent.engine.login(office.request_with(|request| request.renew = true));
    let (_, port) = shown(&mut steps).await;
    agent.engine.cancel_login().await.unwrap();
    assert!(is_cancelled(&last(&mut steps).await));
    office.wait(|_| !is_open(port)).await;
    let after = agent.engine.status();
    assert_eq!((after.session, after.state, office.exchanges()), (before.session, State::Online, exchanges));
}

/// Signing in again on purpose: the same session and connection, a newer sign-in, a later end.
#[tokio::test]
async fn a_session_is_prolonged_by_a_fresh_sign_in() {
    let office = Office::open().await;
    // A provider that gives no refresh token: only the person can go on.
    office.idp.state.lock().hook = Some(Box::new(|mock, asked| {
        let code = asked.form("code").unwrap_or_default();
        let (_, nonce) = mock.codes.get(&code)?.clone();
        let token = mock.id_token(Some(&nonce));
        Some((200, serde_json::json!({ "access_token": "x", "token_type": "Bearer", "id_token": token }).to_string()))
    }));
    office.idp.state.lock().claims = serde_json::json!({ "auth_time": seconds_now() - 100 });
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    let way = agent.uplink.current().unwrap();
    let before = agent.engine.status();
    assert_eq!((before.carrier, before.device.unwrap().name.is_empty()), (Some(Carrier::Quic), false));
    let session = before.session.unwrap();
    let (signed_in, ends) = (session.signed_in.unwrap(), session.ends.unwrap());
    assert!((98..=110).contains(&now().since(signed_in).as_secs()), "{signed_in}");
    assert!((290..=301).contains(&ends.since(now()).as_secs()), "the token is of 300 seconds, {ends}");

    let request = office.request_with(|request| request.renew = true);
    let stale = office.login(&agent, request.clone()).await;
    let Some(LoginEvent::Failed { problem }) = stale.last() else { panic!("{stale:?}") };
    assert_eq!(problem.code, Code::SignInFailed, "the provider asked nobody");
    assert_eq!(agent.engine.status().session.unwrap().ends, Some(ends));

    office.idp.state.lock().claims = serde_json::json!({ "auth_time": seconds_now() });
    let steps = office.login(&agent, request).await;
    let Some(LoginEvent::Authorize { url }) = steps.first() else { panic!("{steps:?}") };
    assert!(url.as_str().contains("max_age=0"), "{url}");
    assert!(matches!(steps.last(), Some(LoginEvent::Online { .. })), "{steps:?}");
    let after = agent.engine.status().session.unwrap();
    assert_eq!((&after.id, office.enrolments()), (&session.id, 1));
    assert!(after.signed_in.unwrap() > signed_in && after.ends.unwrap() > ends, "{after:?}");
    assert!(Arc::ptr_eq(&way.link, &agent.uplink.current().unwrap().link), "nothing was dropped");
}

/// A session that renews itself says no end; and where nobody could prolong it, that is said.
#[tokio::test]
async fn who_cannot_prolong_a_session_is_told() {
    let office = Office::open().await;
    let agent = office.agent().await;
    let steps = sign_in_as_ada(&office, &agent, office.request_with(|request| request.renew = true)).await;
    assert_eq!(steps.len(), 5, "without a session it is a sign-in like any other: {steps:?}");
    assert_eq!(agent.engine.status().session.unwrap().ends, None);
    let office = Office::open().await;
    let service = office.service_agent().await;
    status_when(&service.engine, |status| status.state == State::Online).await;
    let steps = office.login(&service, office.request_with(|request| request.renew = true)).await;
    assert!(
        matches!(&steps[..], [LoginEvent::Failed { problem }] if problem.code == Code::RequestInvalid),
        "{steps:?}"
    );
    assert_eq!(service.engine.status().state, State::Online);
}

fn now() -> postern_protocol::Timestamp {
    crate::engine::clock::wall()
}
