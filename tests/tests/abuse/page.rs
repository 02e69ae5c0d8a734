//! The page that tells a browser of a refusal: A16, as far as this page goes.

use http::Request;
use postern_tests::process::run;
use postern_tests::{Agent, App, Browser, Relay, Settings, StandIn, Upstream, World};
use std::path::Path;
use tokio::process::Command;

/// A16: what policy authors, apps and addresses say is shown by a real browser as words. No script of theirs runs,
/// nothing is loaded from elsewhere, no page may frame it.
#[tokio::test]
async fn a16_a_hostile_refusal_runs_nothing_in_a_real_browser() {
    let world = World::new();
    let provider = StandIn::start().await;
    let (canary, vault) = (Upstream::plain().await, Upstream::plain().await);
    let elsewhere = canary.address;
    let hostile = format!(
        "</p><script>new Image().src='http://{elsewhere}/script'</script><img src='http://{elsewhere}/image' \
         onerror='location=`http://{elsewhere}/error`'><svg onload='fetch(`http://{elsewhere}/svg`)'></svg>\
         <iframe src='http://{elsewhere}/frame'></iframe><style>@import 'http://{elsewhere}/style';</style>\
         <meta http-equiv='refresh' content='0;url=http://{elsewhere}/meta'>\u{202e}drawrof"
    );
    let policy =
        format!("@id(\"no\")\n@reason(\"{hostile}\")\n@fix(\"{hostile}\")\nforbid(principal, action, resource);\n");
    let settings = Settings::new(&provider.issuer).app(App::http("vault", vault.address)).policy(&policy);
    let relay = Relay::start(&world, settings).await;
    let agent = Agent::start(&world, "agent", None).await;
    agent.login_with(&relay, &mut Browser::of("ada"), &["--memory-only"]).await.ok();

    let request = Request::get("/%3Cscript%3E?q=%22%3Cscript%3E").header("accept", "text/html,*/*").body("").unwrap();
    let reply = agent.send("vault", request).await;
    assert_eq!((reply.status.as_u16(), &reply.headers["postern-code"]), (403, &"policy_denied".parse().unwrap()));
    let policy = reply.headers["content-security-policy"].to_str().unwrap();
    for rule in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("script-src") && !policy.contains("unsafe"), "{policy}");
    let page = reply.text();
    assert_harmless(&page);
    let named = reply.headers["postern-decision"].to_str().unwrap();
    assert!(page.contains(&format!("postern why {named}")), "{page}");

    let address = format!("http://{}/%3Cscript%3E", agent.authority("vault"));
    let dom = chromium(&world, &address).await;
    assert_harmless(&dom);
    assert!(dom.contains("&lt;script&gt;new Image()"), "the words are there: {dom}");
    assert!(dom.contains("postern why "), "{dom}");
    assert_eq!(canary.requests().len(), 0, "something was loaded from elsewhere");
    // The same browser runs scripts and loads images where a page has them: it is the page that has none.
    let open = Upstream::http(move |_| {
        let body = format!("<html><script>new Image().src='http://{elsewhere}/script'</script></html>");
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n", body.len());
        (head + &body).into_bytes()
    })
    .await;
    chromium(&world, &format!("http://{}/", open.address)).await;
    assert!(!canary.requests().is_empty(), "the control shows nothing");
}

fn assert_harmless(html: &str) {
    for markup in ["<script", "<img", "<svg", "<iframe", "@import", "http-equiv", "onload=\"", "\u{202e}"] {
        // What was escaped has no "<" of its own; the style sheet is the page's.
        let found = html.contains(markup) && !(markup == "@import" || markup == "http-equiv");
        assert!(!found, "{markup}: {html}");
    }
    assert_eq!(html.matches("<style").count(), 1, "{html}");
    assert_eq!(html.matches("<meta").count(), 2, "{html}");
    assert!(html.contains("<html lang=\"en\">") && html.matches("<h1").count() == 1, "{html}");
}

/// What a real browser makes of the page at `address`.
async fn chromium(world: &World, address: &str) -> String {
    let place = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let program =
        place.into_iter().find(|place| Path::new(place).exists()).expect("chromium is installed: cargo xtask test");
    let profile = format!("--user-data-dir={}", world.directory("chromium").display());
    let mut command = Command::new(program);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]);
    command.args(["--disable-component-update", "--timeout=20000", "--virtual-time-budget=2000", "--dump-dom"]);
    run(command.args([&profile, address]).env("HOME", world.path("home")).kill_on_drop(true)).await.ok().stdout
}
