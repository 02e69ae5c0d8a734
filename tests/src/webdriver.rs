//! A client of WebDriver, as far as tests of the desktop's window go: what a person sees, presses and types.

use crate::client::{Reply, http};
use crate::wait::WAIT;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Request;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// The name under which the protocol hands out elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A window that is driven.
pub struct Window {
    driver: SocketAddr,
    session: String,
}

impl Window {
    /// Has the driver start a program and take its window; what it answers where it cannot.
    pub async fn open(driver: SocketAddr, program: &Path) -> Result<Self, String> {
        let options = json!({"application": program, "args": []});
        let wanted = json!({"capabilities": {"alwaysMatch": {"browserName": "wry", "tauri:options": options}}});
        let reply = http(driver, request("POST", "/session", &wanted)).await;
        let session = match serde_json::from_slice::<Value>(&reply.body) {
            Ok(answer) => answer["value"]["sessionId"].as_str().map(str::to_owned),
            Err(_) => None,
        };
        session.map(|session| Self { driver, session }).ok_or_else(|| reply.text())
    }

    /// Ends the program.
    pub async fn close(self) {
        self.ask("DELETE", "", &Value::Null).await;
    }

    /// What a script returns that runs in the page.
    pub async fn run(&self, script: &str) -> Value {
        self.run_with(script, json!([])).await
    }

    /// The same with arguments.
    pub async fn run_with(&self, script: &str, arguments: Value) -> Value {
        self.value("POST", "/execute/sync", &json!({"script": script, "args": arguments})).await
    }

    /// What a script makes of itself that is the body of an async function; a throw is its text after `threw: `.
    pub async fn run_async(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1]; \
             (async () => {{ {script} }})().then(done, (error) => done('threw: ' + (error?.message ?? error?.detail ?? \
             (typeof error === 'object' ? JSON.stringify(error) : error))));"
        );
        self.value("POST", "/execute/async", &json!({"script": script, "args": []})).await
    }

    /// All the text that the page shows, as it is laid out, without the isolates around values.
    pub async fn text(&self) -> String {
        let text = self.run("return document.body.innerText").await;
        text.as_str().unwrap_or_default().replace(['\u{2068}', '\u{2069}'], "")
    }

    /// Waits until the page shows this text.
    pub async fn sees(&self, text: &str) {
        self.until(&format!("{text:?} is shown"), async || self.text().await.contains(text).then_some(())).await;
    }

    /// As [`eventually`](crate::eventually); who waits in vain sees what the page shows instead.
    pub async fn until<T>(&self, what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
        match eventually_or(probe).await {
            Some(answer) => answer,
            None => panic!("did not happen within {WAIT:?}: {what}; the page shows\n{}", self.text().await),
        }
    }

    /// Waits until the page's heading of the first level is this.
    pub async fn stands_at(&self, heading: &str) {
        self.element("heading", &format!("//h1[normalize-space()={}]", quoted(heading))).await;
    }

    /// Presses the button with this accessible name, once it is there and can be pressed.
    pub async fn press(&self, name: &str) {
        self.click(&format!("//button[not(@disabled)]{}", named(name))).await;
    }

    /// Clicks the first element on this path that can be clicked.
    pub async fn click(&self, path: &str) {
        let mut last = "there is none".to_owned();
        let clicked = eventually_or(async || {
            for element in self.find_all(path).await {
                let answer = self.ask("POST", &format!("/element/{element}/click"), &json!({})).await;
                if answer.status.is_success() {
                    return Some(());
                }
                last = answer.text();
            }
            None
        });
        if clicked.await.is_none() {
            panic!("no click on {path}: {last}; the page shows\n{}", self.text().await);
        }
    }

    /// Types into the field with this label.
    pub async fn types(&self, label: &str, text: &str) {
        let path = format!("//*[@id=//label[normalize-space()={}]/@for]", quoted(label));
        let element = self.element("field", &path).await;
        self.value("POST", &format!("/element/{element}/value"), &json!({"text": text})).await;
    }

    /// Chooses from the list with this label, as its own element tells the page.
    pub async fn chooses(&self, label: &str, value: &str) {
        let path = format!("//select[@id=//label[normalize-space()={}]/@for]/option[@value='{value}']", quoted(label));
        self.click(&path).await;
    }

    /// Presses keys; those beyond letters are WebDriver's own (`\u{e004}` is Tab).
    pub async fn keys(&self, keys: &[&str]) {
        let key = |kind: &'static str| move |key: &&str| json!({"type": kind, "value": key});
        let down = keys.iter().map(key("keyDown"));
        let up = keys.iter().rev().map(key("keyUp"));
        let actions: Vec<_> = down.chain(up).collect();
        let actions = json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]});
        self.value("POST", "/actions", &actions).await;
    }

    /// Waits for an element.
    pub async fn element(&self, what: &str, path: &str) -> String {
        self.until(&format!("{what} at {path}"), async || self.find(path).await).await
    }

    /// The first element on an XPath, if there is one.
    pub async fn find(&self, path: &str) -> Option<String> {
        self.find_all(path).await.into_iter().next()
    }

    /// All elements on an XPath.
    pub async fn find_all(&self, path: &str) -> Vec<String> {
        let reply = self.ask("POST", "/elements", &json!({"using": "xpath", "value": path})).await;
        let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let found = answer["value"].as_array().into_iter().flatten();
        found.filter_map(|element| element[ELEMENT].as_str().map(str::to_owned)).collect()
    }

    /// Where the window is.
    pub async fn url(&self) -> String {
        self.run("return location.href").await.as_str().unwrap_or_default().to_owned()
    }

    /// A picture of the page, in PNG, once what changed is painted.
    pub async fn screenshot(&self) -> Vec<u8> {
        self.run_async("await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))").await;
        let picture = self.value("GET", "/screenshot", &Value::Null).await;
        BASE64_STANDARD.decode(picture.as_str().unwrap()).unwrap()
    }

    async fn value(&self, method: &str, path: &str, body: &Value) -> Value {
        let reply = self.ask(method, path, body).await;
        assert!(reply.status.is_success(), "{method} {path}: {}", reply.text());
        reply.json()["value"].take()
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> Reply {
        http(self.driver, request(method, &format!("/session/{}{path}", self.session), body)).await
    }
}

/// What the probe answers, or `None` if it does not within the usual time.
async fn eventually_or<T>(mut probe: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let asking = async {
        loop {
            if let Some(answer) = probe().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    };
    tokio::time::timeout(WAIT, asking).await.ok()
}

fn request(method: &str, path: &str, body: &Value) -> Request<String> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1");
    request.header("content-type", "application/json").body(body).unwrap()
}

/// The condition of an element with this accessible name: said or shown, or, in navigation, spoken for a short one. A
/// value in a name stands between isolates (U+2068, U+2069), which nobody sees.
fn named(name: &str) -> String {
    let name = quoted(name);
    let plain = |of: &str| format!("normalize-space(translate({of}, '\u{2068}\u{2069}', ''))={name}");
    format!("[{} or {} or span[{}]]", plain("@aria-label"), plain("."), plain("."))
}

/// A text as XPath writes it.
fn quoted(text: &str) -> String {
    if text.contains('\'') { format!("\"{text}\"") } else { format!("'{text}'") }
}
