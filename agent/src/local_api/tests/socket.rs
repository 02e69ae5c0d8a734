//! The socket itself, or the pipe: what stands in its place, and an end by a call.

use super::*;
use std::path::Path;

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(local::SOCKET_NAME);
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(LocalSocket::bind_for(&path, User::own()).err().unwrap().code, Code::StateDir);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    if cfg!(unix) {
        let long = dir.path().join("x".repeat(120));
        assert_eq!(LocalSocket::bind_for(&long, User::own()).err().unwrap().code, Code::StateDir);
    }
}

#[cfg(unix)]
fn leave_behind(socket: &Path) {
    drop(std::os::unix::net::UnixListener::bind(socket).unwrap());
}

#[cfg(windows)]
fn leave_behind(socket: &Path) {
    std::fs::write(socket, postern_client::pipe_name::PipeName::fresh(4, [7; 16]).to_string()).unwrap();
}

#[tokio::test]
async fn nobody_at_the_socket_means_no_agent() {
    let dir = TempDir::new().unwrap();
    assert_eq!(Client::new(dir.path()).status().await.err().unwrap().code, Code::AgentNotRunning);
    leave_behind(&dir.path().join(local::SOCKET_NAME));
    assert_eq!(Client::new(dir.path()).status().await.err().unwrap().code, Code::AgentNotRunning);
}

/// Where the system has no signals, the agent is asked to end by a call.
#[tokio::test]
async fn a_call_stops_the_agent() {
    let agent = Running::start(Uplink::new()).await;
    let mut events = agent.client.events().await.unwrap();
    agent.client.stop().await.unwrap();
    while events.next().await.unwrap().is_some() {}
    assert!(agent.stop.is_cancelled());
}
