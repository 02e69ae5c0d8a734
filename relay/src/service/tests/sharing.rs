//! What principals share at an upstream, its places and its connections, and what they must not.

use super::upstreams::Upstream;
use super::world::{Device, World, app, assert_refused, full, none, text};
use http::Response;
use postern_protocol::Code;
use postern_relay_core::principal::PrincipalKey;

/// One user cannot hold all the places at an app.
#[tokio::test]
async fn a_principal_has_a_share_of_an_apps_places() {
    let upstream = Upstream::echo().await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let (ada, bob) = (world.device("ada").await, world.device("bob").await);
    assert_eq!(ada.get("wiki", "/").await.status(), 200);
    let key = PrincipalKey::new("https://login.corp.example", "ada").unwrap();
    let places = world.relay.upstreams.occupy("wiki", &key, 1024).await;
    let refused = assert_refused(ada.get("wiki", "/").await, Code::RateLimited).await;
    assert!(refused.detail.as_ref().unwrap().contains("let some of them end"));
    assert_eq!(world.audited(&refused)["result"], "allow", "the policy allowed it; there was no room");
    assert_eq!(bob.get("wiki", "/").await.status(), 200, "there is room for others");
    drop(places);
    assert_eq!(ada.get("wiki", "/").await.status(), 200);
}

async fn sign_in(device: &Device, authorization: &str) -> String {
    let request = device.request("GET", "wiki", "/").header("authorization", authorization).body(none()).unwrap();
    text(device.call(request).await).await
}

/// NTLM and Negotiate sign in a connection: it is made for that request and serves nobody else. Others are kept.
#[tokio::test]
async fn a_connection_that_is_signed_in_serves_nobody_else() {
    let upstream = Upstream::echo().await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let (ada, bob) = (world.device("ada").await, world.device("bob").await);
    for device in [&ada, &bob, &ada] {
        assert_eq!(device.get("wiki", "/").await.status(), 200);
    }
    assert_eq!(upstream.connections(), 1, "a plain connection is kept");
    for (before, authorization) in [(1, "NTLM TlRMTVNTUAAB"), (2, "negotiate YIIJ")] {
        assert!(sign_in(&ada, authorization).await.contains(authorization), "it arrives");
        assert_eq!(upstream.connections(), before + 1, "on a connection of its own");
        assert_eq!(text(bob.get("wiki", "/").await).await.lines().next(), Some("GET /"));
        assert_eq!(upstream.connections(), before + 1, "which nobody else gets");
    }
    assert!(sign_in(&ada, "Basic YTpi").await.contains("Basic YTpi"));
    assert_eq!(upstream.connections(), 3, "Basic signs in a request, not a connection");
}

/// Nor is a connection kept on which the upstream asked for that.
#[tokio::test]
async fn a_connection_that_asks_to_be_signed_in_is_not_kept() {
    let upstream = Upstream::http(|_| async {
        let answer = Response::builder().status(401).header("www-authenticate", "Negotiate");
        answer.header("www-authenticate", "NTLM").body(full("who?")).unwrap()
    });
    let upstream = upstream.await;
    let world = World::new(&[app("wiki", upstream.http_url(), "")]).await;
    let (ada, bob) = (world.device("ada").await, world.device("bob").await);
    for (number, device) in [&ada, &bob, &ada].into_iter().enumerate() {
        assert_eq!(text(device.get("wiki", "/").await).await, "who?");
        assert_eq!(upstream.connections(), number + 1);
    }
}
