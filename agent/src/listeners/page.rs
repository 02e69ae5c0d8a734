//! The few pages that Postern itself shows in a browser: no script, no outside content, readable in the dark,
//! by a screen reader and without styles.

use crate::link::{Body, full};
use ::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use ::http::{HeaderName, HeaderValue, Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_agent_core::guard::Place;
use postern_protocol::control::AppKind;
use postern_protocol::local::LocalApp;
use postern_protocol::problem::printable;
use postern_protocol::{Problem, binding, headers};
use std::fmt::Write as _;
use std::sync::LazyLock;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:1rem/1.5 system-ui,sans-serif;max-width:42rem;margin:10vh auto;padding:0 1.5rem;\
color:#1c1e21;background:#fff;overflow-wrap:anywhere}\
h1{font-size:1.5rem;line-height:1.25}\
a{color:#0b57d0}\
.go{display:inline-block;padding:.5rem 1rem;border-radius:.375rem;background:#0b57d0;color:#fff;text-decoration:none}\
a:focus-visible{outline:3px solid;outline-offset:2px}\
ul{padding:0;list-style:none}li{padding:.75rem 0;border-top:1px solid #8886}\
small,footer{color:#5b6066}footer{margin-top:2rem;font-size:.875rem}\
@media(prefers-color-scheme:dark){body{color:#e4e6e8;background:#17191c}a{color:#9cc3ff}\
.go{background:#9cc3ff;color:#10233f}small,footer{color:#a4abb2}}";

/// Nothing but this very style sheet may be used by a page, and nobody may frame it.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = STANDARD.encode(binding::sha256(STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// The list of apps, and why they cannot be reached if so.
pub(super) fn index(apps: &[LocalApp], trouble: Option<&Problem>) -> Response<Body> {
    let mut main = String::from("<h1>Your apps</h1>");
    if let Some(problem) = trouble {
        let _ = write!(main, "<p role=\"status\"><strong>{}</strong>", text(&problem.title));
        if let Some(fix) = &problem.fix {
            let _ = write!(main, "<br>{}", text(fix));
        }
        main.push_str("</p>");
    } else if apps.is_empty() {
        main.push_str("<p>There are no apps for you yet. Ask your administrator.</p>");
    }
    main.push_str("<ul>");
    apps.iter().for_each(|app| list_item(&mut main, app));
    main.push_str("</ul>");
    let mut response = page("Your apps", &main);
    // The listener knows its own list by this when the user follows a link on it.
    response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("origin"));
    response
}

fn list_item(list: &mut String, LocalApp { entry, local, problem, .. }: &LocalApp) {
    let (name, local) = (text(entry.name.as_str()), text(local));
    let _ = match entry.kind {
        AppKind::Http => write!(list, "<li><a href=\"{local}\"><strong>{name}</strong></a>"),
        AppKind::Tcp => write!(list, "<li><strong>{name}</strong> <code>{local}</code>"),
    };
    for line in [Some(&entry.description), problem.as_ref().and_then(|p| p.detail.as_ref())].into_iter().flatten() {
        let _ = write!(list, "<br>{}", text(line));
    }
    if !entry.allowed {
        list.push_str("<br><small>Not allowed now");
        for line in [&entry.reason, &entry.fix].into_iter().flatten() {
            let _ = write!(list, "<br>{}", text(line));
        }
        list.push_str("</small>");
    }
    list.push_str("</li>");
}

/// Asks the user whether another site's link to `address` is to be followed.
pub(super) fn ask(address: &str, place: &Place) -> Response<Body> {
    let name = match place {
        Place::Index => "your list of apps".to_owned(),
        Place::App(app) => text(app.as_str()),
    };
    let main = format!(
        "<h1>Continue to {name}?</h1>\
         <p>Another web site leads here. Postern keeps other sites from using your apps in your name, so it asks first.</p>\
         <p><a class=\"go\" href=\"{address}\">Continue</a></p>\
         <p><small>{address}</small></p>\
         <footer>Not expected? Close this page. code: cross_site</footer>",
        address = text(address)
    );
    let mut response = page("Continue?", &main);
    *response.status_mut() = StatusCode::FORBIDDEN;
    response.headers_mut().insert(headers::CODE, HeaderValue::from_static("cross_site"));
    response
}

/// A refusal.
pub(super) fn problem(problem: &Problem) -> Response<Body> {
    let mut main = format!("<h1>{}</h1>", text(&problem.title));
    for line in [&problem.reason, &problem.detail].into_iter().flatten() {
        let _ = write!(main, "<p dir=\"auto\">{}</p>", text(line));
    }
    if let Some(fix) = &problem.fix {
        let _ = write!(main, "<p><strong>What to do:</strong> <bdi>{}</bdi></p>", text(fix));
    }
    let _ = write!(main, "<footer>code: {}", problem.code);
    if let Some(decision) = &problem.decision {
        let _ = write!(main, "<br>decision: {decision}<br>in a terminal: <code>postern why {decision}</code>");
    }
    main.push_str("</footer>");
    page(&problem.title, &main)
}

fn page(title: &str, main: &str) -> Response<Body> {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{} - Postern</title>\
         <style>{STYLE}</style></head>\n<body><main>{main}</main></body></html>\n",
        text(title)
    );
    let mut response = Response::new(full(html));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // The site that opened this page keeps no handle on it.
    let same_origin = HeaderValue::from_static("same-origin");
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), same_origin.clone());
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), same_origin);
    response
}

/// `raw` as text or a quoted attribute of HTML.
fn text(raw: &str) -> String {
    let mut escaped = String::with_capacity(raw.len());
    for c in printable(raw).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use postern_protocol::Code;
    use postern_protocol::control::AppEntry;

    const HOSTILE: &str = "<script>alert('x')</script>\"\u{202e}\x1b[2J";

    async fn html(response: Response<Body>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    fn no_markup_of_others(html: &str) {
        assert!(!html.contains("<script") && !html.contains("\"\u{202e}") && !html.contains('\x1b'), "{html}");
    }

    /// A17: whatever relay and policy say is shown as text.
    #[tokio::test]
    async fn a17_hostile_words_stay_words() {
        let told = Problem::new(Code::PolicyDenied).detail(HOSTILE).advice(Some(HOSTILE.into()), Some(HOSTILE.into()));
        no_markup_of_others(&html(problem(&told)).await);
        let entry = AppEntry {
            name: "wiki".parse().unwrap(),
            kind: AppKind::Http,
            description: HOSTILE.into(),
            port: None,
            allowed: false,
            reason: Some(HOSTILE.into()),
            fix: Some(HOSTILE.into()),
            step_up: None,
        };
        let app =
            LocalApp { entry, local: "http://wiki.localhost:1/".into(), command: None, problem: Some(told.clone()) };
        no_markup_of_others(&html(index(&[app], Some(&told))).await);
        no_markup_of_others(&html(ask("http://wiki.localhost:1/\"><script>", &Place::Index)).await);
    }

    #[tokio::test]
    async fn pages_allow_their_own_style_and_nothing_else() {
        let response = problem(&Problem::new(Code::PolicyDenied));
        let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        let html = html(response).await;
        let style = html.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
        let hash = STANDARD.encode(binding::sha256(style.as_bytes()));
        assert!(policy.contains(&format!("style-src 'sha256-{hash}'")), "{policy}");
        assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    }
}
