//! The admin socket, used by the same client as the commands.

use super::*;
use crate::testing::TestRelay;

async fn listening(world: &TestRelay) -> tokio::task::JoinHandle<()> {
    let socket = AdminSocket::bind(&world.relay.config.state_dir).unwrap();
    let relay = world.relay.clone();
    tokio::spawn(async move { socket.serve(relay).await })
}

#[tokio::test]
async fn an_order_reaches_the_running_relay() {
    let world = TestRelay::new().await;
    let device = world.signed_in("ada").await;
    let _serving = listening(&world).await;
    let dir = &world.relay.config.state_dir;
    let user = Named::User { issuer: world.idp.issuer.clone(), subject: "ada".into() };
    let receipt = revoke(dir, &user).await.unwrap().unwrap();
    assert_eq!((receipt.revoked, receipt.sessions_ended, receipt.live), (user.clone(), 1, true));
    let refused = world.control(&device, Method::GET, "/apps", "").await;
    assert_eq!(refused.code(), Code::PrincipalRevoked);
    assert!(restore(dir, &user).await.unwrap().unwrap().was_revoked);
    assert!(!restore(dir, &user).await.unwrap().unwrap().was_revoked);
    let bad = Named::User { issuer: "a#b".into(), subject: "c".into() };
    assert_eq!(revoke(dir, &bad).await.unwrap().unwrap_err().code, Code::RequestInvalid);
}

#[tokio::test]
async fn where_no_relay_runs_nobody_answers() {
    let world = TestRelay::new().await;
    let dir = world.relay.config.state_dir.clone();
    let session = Named::Session { id: postern_protocol::SessionId::from_random(1) };
    assert!(revoke(&dir, &session).await.is_none());
    // A socket that a dead relay left behind is replaced; the mode keeps others out.
    drop(std::os::unix::net::UnixListener::bind(dir.join(SOCKET)).unwrap());
    assert!(revoke(&dir, &session).await.is_none());
    let socket = AdminSocket::bind(&dir).unwrap();
    assert_eq!(std::fs::metadata(dir.join(SOCKET)).unwrap().permissions().mode() & 0o777, 0o600);
    drop(socket);
    assert!(!dir.join(SOCKET).exists());
}

#[tokio::test]
async fn an_order_without_an_answer_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let _silent = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
    let session = Named::Session { id: postern_protocol::SessionId::from_random(1) };
    let patience = Duration::from_millis(1);
    let ordered: Option<Result<Receipt, Problem>> = order_within(patience, dir.path(), REVOKE, &session).await;
    let problem = ordered.unwrap().unwrap_err();
    assert!(problem.fix.as_deref().is_some_and(|fix| fix.contains("Give the order again")), "{problem:?}");
    let rotated: Option<Result<Rotated, Problem>> = order_within(patience, dir.path(), ROTATE, &()).await;
    assert!(!rotated.unwrap().unwrap_err().fix.is_some_and(|fix| fix.contains("twice")));
}
