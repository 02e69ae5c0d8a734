//! What the user is told of streams that end.

use super::*;
use crate::mock_relay::{MockRelay, access, on_stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn app(name: &str) -> AppName {
    name.parse().unwrap()
}

/// The next refusal told, which must come.
async fn next(notices: &mut broadcast::Receiver<Notice>) -> Denial {
    match tokio::time::timeout(2 * CUT_TOLD, notices.recv()).await {
        Ok(Ok(Notice::Denied(denial))) => denial,
        other => panic!("{other:?}"),
    }
}

/// One entry per cut: with the decision where the relay told it, before the stream's end or after it.
#[tokio::test]
async fn a_cut_is_told_once_and_by_the_relays_own_word_if_it_comes() {
    let uplink = Uplink::new();
    let id = DecisionId::new(Timestamp::from_seconds(1), 7);
    let told = Problem::new(Code::PolicyDenied).decision(id.clone());
    uplink.cut(app("before"), told.clone());
    for name in ["before", "after", "never", "never"] {
        assert_eq!(uplink.ended(&app(name), StreamEnd::Cut(Code::PolicyDenied)), StreamEnd::Cut(Code::PolicyDenied));
    }
    uplink.cut(app("after"), told);
    uplink.ended(&app("its-own-doing"), StreamEnd::Cut(Code::UpstreamUnreachable));
    uplink.ended(&app("the-users-doing"), StreamEnd::GivenUp);
    let mut notices = uplink.subscribe();
    uplink.ended(&app("last"), StreamEnd::Cut(Code::SessionRevoked));
    // Timers fire in the order of their making: once the last is told, all are.
    while next(&mut notices).await.app != app("last") {}
    let mut kept: Vec<_> = uplink.denials().newest_first();
    kept.sort_by(|a, b| a.app.cmp(&b.app));
    let decisions: Vec<_> = kept.iter().map(|kept| (kept.app.as_str(), kept.problem.decision.clone())).collect();
    assert_eq!(decisions, [("after", Some(id.clone())), ("before", Some(id)), ("last", None), ("never", None)]);
    let [.., last, _] = &*kept else { panic!("{kept:?}") };
    assert_eq!((last.kind, last.problem.code), (DenialKind::Cut, Code::SessionRevoked));
    assert_eq!(last.problem.fix.as_deref(), Some(Code::SessionRevoked.fix()));
}

/// The agent hears of a revocation before its streams are reset, and closes the connection by itself.
#[tokio::test]
async fn what_ends_with_the_session_is_told_with_its_cause() {
    let relay = MockRelay::start(|request| async {
        on_stream(request, |mut stream| async move {
            stream.write_all(b"!").await.unwrap();
            std::future::pending::<()>().await;
        })
    });
    for (code, expected) in [(Code::SessionRevoked, Some(Code::SessionRevoked)), (Code::NotSignedIn, None)] {
        let uplink = relay.uplink("t").await;
        uplink.set_apps(vec![crate::mock_relay::entry("db", AppKind::Tcp)]);
        let stream = access(uplink.clone()).connect(&app("db")).await.unwrap();
        let link = uplink.current().unwrap().link.clone();
        let (mut local, there) = tokio::io::duplex(64);
        let (from_local, to_local) = tokio::io::split(there);
        let spliced = tokio::spawn(stream.splice(from_local, to_local));
        local.read_exact(&mut [0]).await.unwrap();
        uplink.set(None, Problem::new(code));
        link.close();
        let end = spliced.await.unwrap().unwrap_err();
        assert_eq!(end, StreamEnd::Closed);
        let mut notices = uplink.subscribe();
        let end = uplink.ended(&app("db"), end);
        match expected {
            Some(code) => {
                assert_eq!(end, StreamEnd::Cut(code));
                assert_eq!(next(&mut notices).await.problem.code, code);
            }
            None => assert_eq!(end, StreamEnd::Closed, "who signs out knows why"),
        }
    }
}

/// A request that meets the end of the session is told of that, not of a connection that somebody closed.
#[tokio::test]
async fn a_request_that_meets_the_end_of_the_session_is_told_its_cause() {
    let (asked, mut asks) = tokio::sync::mpsc::unbounded_channel();
    let relay = MockRelay::start(move |_| {
        asked.send(()).unwrap();
        std::future::pending::<Response<Body>>()
    });
    let uplink = relay.uplink("t").await;
    let link = uplink.current().unwrap().link.clone();
    let request = Request::get("/").header("host", "wiki").body(crate::link::full("")).unwrap();
    let access = access(uplink.clone());
    let asking = tokio::spawn(async move { access.request(&app("wiki"), request).await.map(drop) });
    asks.recv().await.unwrap();
    uplink.set(None, Problem::new(Code::SessionRevoked));
    link.close();
    assert_eq!(asking.await.unwrap().unwrap_err().code, Code::SessionRevoked);
}
