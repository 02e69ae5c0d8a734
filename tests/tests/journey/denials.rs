//! Every denial explains itself: to the person at the terminal, to programs, and in the audit log by the same id.

use crate::Office;
use http::Request;

#[tokio::test]
async fn why_tells_what_was_refused_and_what_to_do() {
    let office = Office::open().await;
    office.sign_in().await;
    let nothing = office.agent.run(&["why"]).await.ok();
    assert!(nothing.stdout.contains("Nothing was refused"), "{nothing:?}");
    let first = office.agent.get("vault", "/one").await;
    let second = office.agent.get("vault", "/two").await;
    let named = |reply: &postern_tests::Reply| reply.headers["postern-decision"].to_str().unwrap().to_owned();
    let (first, second) = (named(&first), named(&second));

    let last = office.agent.run(&["why", "--json"]).await.ok().json();
    assert_eq!((&last["app"], &last["kind"]), (&"vault".into(), &"request".into()), "{last}");
    assert_eq!(last["problem"]["decision"], second.as_str());
    assert_eq!(last["problem"]["reason"], "The vault is for its keepers only.");
    let shown = office.agent.run(&["why", &first]).await.ok().stdout;
    for words in ["vault", "The vault is for its keepers only.", "Ask security@corp.example", "policy_denied", &first] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let beginning = (1..=first.len()).find(|end| !second.starts_with(&first[..*end])).unwrap();
    let prefix = office.agent.run(&["why", &first[..beginning], "--json"]).await.ok().json();
    assert_eq!(prefix["problem"]["decision"], first.as_str(), "the beginning of an id is enough");
    let unknown = office.agent.run(&["why", "ffff"]).await;
    assert_eq!(unknown.code, 1);
    assert!(unknown.stderr.contains("policy explain"), "{unknown:?}");
    let record = office.relay.audited("the refusal", |record| record["decision"] == first.as_str()).await;
    assert_eq!((&record["event"], &record["path"]), (&"decision".into(), &"/one".into()));

    // A program gets the document of RFC 9457, a browser a page: of the same refusal.
    let page = Request::get("/").header("accept", "text/html").body("").unwrap();
    let page = office.agent.send("vault", page).await;
    assert!(page.text().contains(&format!("postern why {}", named(&page))), "{}", page.text());
    let document = office.agent.get("vault", "/").await;
    assert_eq!(document.headers["content-type"], "application/problem+json");
    assert_eq!(document.json()["decision"], named(&document));
}
