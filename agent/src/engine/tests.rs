//! The engine between a mock provider and a mock relay: real HTTP, real QUIC, a keyring that fails when told to.

mod again;
mod office;
mod step_up;

use crate::forger::{APPLICATION_CLOSE, CLOSE, Forger, close_frame};
use crate::oidc::mock_provider::MockProvider;
use office::{Office, sign_in_as_ada, status_when};
use postern_protocol::control::RelayEvent;
use postern_protocol::local::{Carrier, DenialKind, LoginEvent, LoginMethod, Party, SignedOut, State};
use postern_protocol::{Code, Problem, StepUp};
use std::sync::Arc;

#[tokio::test]
async fn signs_in_enrols_and_goes_online_step_by_step() {
    let office = Office::open().await;
    let agent = office.agent().await;
    let steps = sign_in_as_ada(&office, &agent, office.request()).await;
    let names: Vec<String> =
        steps.iter().map(|step| serde_json::to_value(step).unwrap()["step"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["key_ready", "authorize", "signed_in", "enrolled", "online"]);
    let status = agent.engine.status();
    assert_eq!(status.organisation.as_deref(), Some("Example Corp"));
    assert_eq!(status.principal.unwrap().subject, "user-1");
    let device = status.device.unwrap();
    assert_eq!(device.key_storage, "keyring");
    assert!(device.spiffe_id.unwrap().starts_with("spiffe://corp.example/device/"));
    assert!(status.session.unwrap().token_expires.is_some());
    assert!(agent.uplink.current().is_ok());
    agent.apps_when(|apps| apps.len() == 1).await;
}

/// A20: secrets are in the keyring and in no file.
#[tokio::test]
async fn a20_no_secret_is_in_any_file() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    office.saved().await;
    let (mut files, secrets) = (0, office.secrets());
    for entry in std::fs::read_dir(office.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for secret in &secrets {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{} holds a secret", path.display());
        }
        files += 1;
    }
    assert!(files >= 2, "the lock and the record at least");
}

#[tokio::test]
async fn a_restart_resumes_from_the_keyring_without_a_sign_in() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    office.saved().await;
    agent.stop().await;
    assert!(agent.uplink.current().is_err());
    let again = office.agent().await;
    status_when(&again.engine, |status| status.state == State::Online).await;
    assert_eq!(office.enrolments(), 1);
    assert_eq!(office.idp.token_requests().last().unwrap().form("grant_type").as_deref(), Some("refresh_token"));
    // Signing in again is answered at once: there is nothing to do.
    let last = office.login(&again, office.request()).await.pop().unwrap();
    assert!(matches!(last, LoginEvent::Online { .. }));
    assert_eq!(office.enrolments(), 1);
}

#[tokio::test]
async fn stopping_right_after_a_sign_in_loses_nothing() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    agent.stop().await;
    let again = office.agent().await;
    status_when(&again.engine, |status| status.state == State::Online).await;
    assert_eq!(office.enrolments(), 1);
}

/// A20: without a usable keyring the question comes before the browser, and nothing is written anywhere.
#[tokio::test]
async fn a20_no_keyring_is_told_first_and_memory_is_used_only_if_agreed() {
    for (error, code) in [("absent", Code::KeyringUnavailable), ("locked", Code::KeyringLocked)] {
        let office = Office::open().await;
        office.break_keyring(Some(error));
        let agent = office.agent().await;
        let steps = office.login(&agent, office.request()).await;
        assert!(matches!(&steps[..], [LoginEvent::Failed { problem }] if problem.code == code), "{steps:?}");
        assert!(office.idp.state.lock().asked.is_empty(), "the provider was not even asked");
        let agreed = office.request_with(|request| request.allow_memory_only = true);
        sign_in_as_ada(&office, &agent, agreed).await;
        assert_eq!(agent.engine.status().device.unwrap().key_storage, "memory");
        agent.stop().await;
        office.break_keyring(None);
        assert!(office.secrets().is_empty());
        let again = office.agent().await;
        assert_eq!(again.engine.status().state, State::SignedOut, "memory is gone with the process");
        assert!(again.engine.status().principal.is_none());
    }
}

#[tokio::test]
async fn a_session_waits_for_a_keyring_that_is_locked_at_start() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    office.saved().await;
    agent.stop().await;
    office.break_keyring(Some("locked"));
    let again = office.agent().await;
    let status = status_when(&again.engine, |status| status.problem.is_some()).await;
    assert_eq!((status.state, status.problem.unwrap().code), (State::Offline, Code::KeyringLocked));
    let steps = office.login(&again, office.request()).await;
    assert!(matches!(&steps[..], [LoginEvent::Failed { problem }] if problem.code == Code::KeyringLocked));
    office.break_keyring(None);
    let steps = office.login(&again, office.request()).await;
    assert!(matches!(&steps[..], [LoginEvent::Online { .. }]), "{steps:?}");
    assert_eq!(office.enrolments(), 1);
}

#[tokio::test]
async fn a_revocation_ends_the_session_at_once_and_for_good() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    office.saved().await;
    office.tell(RelayEvent::Revoked { code: Code::PrincipalRevoked }).await;
    let status = status_when(&agent.engine, |status| status.state == State::Revoked).await;
    assert_eq!(status.problem.unwrap().code, Code::PrincipalRevoked);
    assert_eq!(agent.uplink.current().err().map(|p| p.code), Some(Code::PrincipalRevoked));
    office.kept_when(1).await;
    let asked = office.asked().len();
    assert!(!office.asked().iter().any(|asked| asked.starts_with("DELETE /session")), "a revoked device is quiet");
    agent.stop().await;
    // A restart remembers, and asks nobody.
    let again = office.agent().await;
    assert_eq!(again.engine.status().state, State::Revoked);
    assert_eq!(office.asked().len(), asked);
    // Only a new sign-in leads on.
    sign_in_as_ada(&office, &again, office.request()).await;
    assert_eq!(office.enrolments(), 2);
}

#[tokio::test]
async fn signing_out_tells_relay_and_provider_and_wipes() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    office.saved().await;
    let SignedOut { status, untold } = agent.engine.logout().await.unwrap();
    assert_eq!((status.state, untold), (State::SignedOut, vec![]));
    assert!(status.principal.is_none() && status.device.is_none());
    assert!(office.asked().contains(&"DELETE /session?reason=signed_out".to_owned()));
    assert_eq!(office.idp.state.lock().asked.last().unwrap().path, "/revoke");
    assert!(office.secrets().is_empty());
    assert_eq!(agent.uplink.current().err().map(|p| p.code), Some(Code::NotSignedIn));
    agent.apps_when(<[_]>::is_empty).await;
    agent.stop().await;
    let again = office.agent().await;
    assert_eq!(again.engine.status().state, State::SignedOut);
    // The relay is remembered: the next sign-in need not name it.
    let unnamed = office.request_with(|request| (request.address, request.ca_pem) = (None, None));
    sign_in_as_ada(&office, &again, unnamed).await;
}

#[tokio::test]
async fn signing_out_wipes_when_nobody_can_be_told_and_says_so_when_it_cannot_wipe() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    office.saved().await;
    let session = agent.engine.status().session.unwrap();
    office.go_dark();
    let untold = agent.engine.logout().await.unwrap().untold;
    assert!(office.secrets().is_empty());
    let [relay, provider] = &untold[..] else { panic!("{untold:?}") };
    assert_eq!((relay.who, &relay.session, relay.token_ends), (Party::Relay, &session.id, session.token_expires));
    let fix = relay.problem.fix.as_deref().unwrap();
    assert!(fix.contains(&format!("postern-relay revoke session {}", session.id)), "{fix}");
    assert!(fix.contains(&session.token_expires.unwrap().to_string()), "{fix}");
    assert_eq!((provider.who, provider.problem.code), (Party::Provider, Code::ProviderUnreachable));
    // It was told once: nothing of it is left to tell.
    assert!(agent.engine.logout().await.unwrap().untold.is_empty());
    // Where even the wipe fails, the next start still finds no session to take up.
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    office.saved().await;
    office.break_keyring(Some("locked"));
    office.go_dark();
    let problem = agent.engine.logout().await.unwrap_err();
    assert_eq!(problem.code, Code::KeyringLocked);
    assert!(problem.detail.unwrap().contains("postern-relay revoke session"), "told even so");
    agent.stop().await;
    office.break_keyring(None);
    assert_eq!(office.agent().await.engine.status().state, State::SignedOut);
}

/// A session that was waiting for the keyring is known to relay and provider, and no token of it is at hand.
#[tokio::test]
async fn signing_out_of_a_session_never_taken_up_names_who_still_knows_of_it() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    office.saved().await;
    let session = agent.engine.status().session.unwrap().id;
    agent.stop().await;
    office.break_keyring(Some("locked"));
    let again = office.agent().await;
    status_when(&again.engine, |status| status.problem.is_some()).await;
    office.break_keyring(None);
    let untold = again.engine.logout().await.unwrap().untold;
    let told: Vec<_> = untold.iter().map(|untold| (untold.who, &untold.session)).collect();
    assert_eq!(told, [(Party::Relay, &session), (Party::Provider, &session)]);
    assert!(office.secrets().is_empty());
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_for_all_who_ask() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    let (before, way) = (office.exchanges(), agent.uplink.current().unwrap());
    let all = (0..20).map(|_| agent.engine.renew(Code::TokenExpired));
    let answers: Vec<Result<(), Problem>> = futures_util::future::join_all(all).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_ne!(agent.uplink.current().unwrap().bearer, way.bearer);
    assert!(office.exchanges() - before <= 2, "{} exchanges", office.exchanges() - before);
}

#[tokio::test]
async fn a_stale_proof_is_refreshed_and_a_refused_refresh_asks_for_a_sign_in() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    office.refuse_next_exchange(Code::IdentityTokenStale);
    let refreshes = |office: &Office| {
        let asked = office.idp.token_requests();
        asked.iter().filter(|asked| asked.form("grant_type").as_deref() == Some("refresh_token")).count()
    };
    assert!(agent.engine.renew(Code::TokenExpired).await.is_err());
    office.wait(|office| refreshes(office) == 1).await;
    status_when(&agent.engine, |status| status.state == State::Online).await;
    office.idp.state.lock().hook = Some(Box::new(|_, _| Some(crate::oidc::mock_provider::error("invalid_grant"))));
    office.refuse_next_exchange(Code::IdentityTokenStale);
    agent.engine.refused(Code::TokenInvalid);
    let status = status_when(&agent.engine, |status| status.state == State::Expired).await;
    assert_eq!(status.problem.unwrap().code, Code::RefreshRefused);
    office.wait(|office| office.asked().contains(&"DELETE /session?reason=refresh_refused".to_owned())).await;
    office.kept_when(1).await;
}

#[tokio::test]
async fn a_sign_in_that_fails_says_why_and_leaves_nothing() {
    let office = Office::open().await;
    let agent = office.agent().await;
    office.refuse_enrolment(Some(Code::DeviceOwned));
    let steps = office.login(&agent, office.request()).await;
    assert!(matches!(steps.last(), Some(LoginEvent::Failed { problem }) if problem.code == Code::DeviceOwned));
    assert_eq!(agent.engine.status().state, State::SignedOut);
    // The tokens that came to nothing are given back.
    office.wait(|office| office.idp.state.lock().asked.iter().any(|asked| asked.path == "/revoke")).await;
    office.refuse_enrolment(None);
    let wrong = office.request_with(|request| request.address = Some("http://relay".into()));
    let steps = office.login(&agent, wrong).await;
    assert!(matches!(&steps[..], [LoginEvent::Failed { problem }] if problem.code == Code::RequestInvalid));
    let untrusted = office.request_with(|request| request.ca_pem = None);
    let steps = office.login(&agent, untrusted).await;
    assert!(matches!(steps.last(), Some(LoginEvent::Failed { problem }) if problem.code == Code::RelayUntrusted));
}

#[tokio::test]
async fn a_second_sign_in_elsewhere_does_not_end_the_first() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    let elsewhere = office.request_with(|request| request.address = Some("other.example".into()));
    let steps = office.login(&agent, elsewhere).await;
    assert!(matches!(&steps[..], [LoginEvent::Failed { problem }] if problem.code == Code::RequestInvalid));
    assert_eq!(agent.engine.status().state, State::Online);
}

#[tokio::test]
async fn signing_out_ends_a_sign_in_under_way() {
    let office = Office::open().await;
    let agent = office.agent().await;
    let mut steps = agent.engine.login(office.request());
    while !matches!(steps.recv().await.unwrap(), LoginEvent::Authorize { .. }) {}
    assert_eq!(agent.engine.status().state, State::SigningIn);
    agent.engine.logout().await.unwrap();
    assert!(
        matches!(steps.recv().await, Some(LoginEvent::Failed { problem }) if problem.code == Code::SignInCancelled)
    );
    assert!(steps.recv().await.is_none());
    assert!(office.secrets().is_empty(), "the key made for it is gone too");
}

#[tokio::test]
async fn a_service_account_signs_in_by_itself_and_again_when_it_expired() {
    let office = Office::open().await;
    let agent = office.service_agent().await;
    let status = status_when(&agent.engine, |status| status.state == State::Online).await;
    assert_eq!(status.device.unwrap().key_storage, "file");
    assert_eq!(office.idp.token_requests()[0].form("grant_type").as_deref(), Some("client_credentials"));
    agent.engine.refused(Code::SessionUnknown);
    office.wait(|office| office.enrolments() == 2).await;
    status_when(&agent.engine, |status| status.state == State::Online).await;
    assert!(office.secrets().is_empty(), "it has no keyring");
    agent.stop().await;
    // One that is not registered tells what to register, before it could ever sign in.
    office.refuse_enrolment(Some(Code::ServiceAccountUnregistered));
    let agent = office.service_agent().await;
    let status = status_when(&agent.engine, |status| status.problem.is_some()).await;
    let (problem, thumbprint) = (status.problem.unwrap(), status.device.unwrap().key_thumbprint);
    assert_eq!(problem.code, Code::ServiceAccountUnregistered);
    assert!(problem.detail.unwrap().contains(&thumbprint));
    // Only a configured one can.
    let person = Office::open().await;
    let agent = person.agent().await;
    let as_service = person.request_with(|request| request.method = LoginMethod::ServiceAccount);
    let steps = person.login(&agent, as_service).await;
    assert!(matches!(&steps[..], [LoginEvent::Failed { problem }] if problem.code == Code::ConfigInvalid));
}

/// A17, A19: a relay that moved may name another endpoint. Another provider it may not: the refresh token goes to nobody
/// but whom it is from.
#[tokio::test]
async fn a17_a_relay_that_moves_cannot_redirect_the_refresh_token() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    let (elsewhere, thief) = (office.another_relay(), MockProvider::start().await);
    office.move_relay(elsewhere.endpoint.clone(), thief.sign_in());
    office.wait(|office| office.looked() > 0).await;
    // The honest move is followed; before it the agent stays away from what the dishonest one named.
    assert_eq!(agent.engine.status().state, State::Offline);
    office.move_relay(elsewhere.endpoint.clone(), office.idp.sign_in());
    status_when(&agent.engine, |status| status.state == State::Online).await;
    office.refuse_next_exchange(Code::IdentityTokenStale);
    let before = office.idp.token_requests().len();
    assert!(agent.engine.renew(Code::TokenExpired).await.is_err());
    office.wait(|office| office.idp.token_requests().len() > before).await;
    assert!(thief.state.lock().asked.is_empty(), "nobody asks the thief anything");
}

/// A20: a session in memory after one in the keyring: signing out wipes both, and tries again if it could not.
#[tokio::test]
async fn signing_out_wipes_what_an_earlier_session_left_in_the_keyring() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    office.saved().await;
    agent.stop().await;
    office.break_keyring(Some("locked"));
    let again = office.agent().await;
    status_when(&again.engine, |status| status.problem.is_some()).await;
    let agreed = office.request_with(|request| request.allow_memory_only = true);
    sign_in_as_ada(&office, &again, agreed).await;
    assert_eq!(again.engine.logout().await.unwrap_err().code, Code::KeyringLocked);
    assert_eq!(office.secrets().len(), 3);
    again.stop().await;
    office.break_keyring(None);
    let last = office.agent().await;
    assert_eq!(last.engine.status().state, State::SignedOut);
    last.engine.logout().await.unwrap();
    assert!(office.secrets().is_empty());
}

#[tokio::test]
async fn losing_the_relay_shows_and_heals() {
    let office = Office::open().await;
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    let before = office.exchanges();
    office.drop_connections();
    status_when(&agent.engine, |status| status.state == State::Offline).await;
    assert!(agent.uplink.current().is_err());
    status_when(&agent.engine, |status| status.state == State::Online).await;
    assert!(office.exchanges() > before);
    assert_eq!(office.enrolments(), 1);
}

/// Whoever sees the agent's first packet can write an answer that opens. It may say that the device is revoked, in
/// whatever way: no session ends by it, and the relay is reached as soon as it can be.
#[tokio::test]
async fn a_forged_close_of_the_handshake_ends_no_session() {
    let office = Office::open().await;
    // TLS alerts travel as 0x100 and their number: 44 is certificate_revoked, 45 certificate_expired.
    let causes = [(APPLICATION_CLOSE, Code::DeviceRevoked.number()), (CLOSE, 0x100 + 44), (CLOSE, 0x100 + 45)];
    let answers: Vec<_> = causes.into_iter().map(|(kind, code)| close_frame(kind, code)).collect();
    let kinds = answers.len();
    let path = Forger::before(office.relay_address(), answers).await;
    office.reached_by(&path.address);
    let agent = office.agent().await;
    sign_in_as_ada(&office, &agent, office.request()).await;
    let session = agent.engine.status().session.unwrap().id;
    let way = agent.uplink.current().unwrap();
    office.drop_connections();
    way.link.closed().await;
    path.forge(true);
    office.wait(|_| path.forged() > kinds).await;
    let status = status_when(&agent.engine, |status| status.state == State::Offline).await;
    assert_eq!(status.problem.unwrap().code, Code::RelayUnreachable);
    assert_eq!(status.session.unwrap().id, session);
    assert_eq!(office.secrets().len(), 3, "nothing is forgotten");
    path.forge(false);
    let status = status_when(&agent.engine, |status| status.state == State::Online).await;
    assert_eq!((status.session.unwrap().id, office.enrolments()), (session, 1));
    // A connection that is made no longer listens to such packets at all.
    let way = agent.uplink.current().unwrap();
    path.forge_into_connections().await;
    agent.engine.renew(Code::TokenExpired).await.unwrap();
    assert!(Arc::ptr_eq(&way.link, &agent.uplink.current().unwrap().link));
}

fn seconds_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
