//! The page a person sees in the browser when the sign-in comes back: no script, nothing from elsewhere.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use postern_protocol::Problem;
use postern_protocol::problem::printable;

/// The one page there is, in its three moods.
pub(super) enum Page {
    /// All is well; the agent goes on by itself.
    SignedIn,
    /// The sign-in failed.
    Failed(Box<Problem>),
    /// This request has nothing to do with the sign-in.
    Rejected(&'static str, StatusCode),
}

impl Page {
    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        let (status, title, text, fix) = match self {
            Self::SignedIn => (StatusCode::OK, "You are signed in", "You can close this page.".to_owned(), None),
            Self::Failed(problem) => {
                let text = problem.detail.clone().unwrap_or_default();
                let title = format!("The sign-in did not work: {}", problem.title);
                return render(StatusCode::BAD_REQUEST, &title, &text, problem.fix.as_deref());
            }
            Self::Rejected(why, status) => (
                *status,
                "This is not the answer of the sign-in under way",
                (*why).to_owned(),
                Some("Close this page."),
            ),
        };
        render(status, title, &text, fix)
    }
}

fn render(status: StatusCode, title: &str, text: &str, fix: Option<&str>) -> Response<Full<Bytes>> {
    let (title, text) = (escape(title), escape(text));
    let fix = fix.map(|fix| format!("<p>{}</p>", escape(fix))).unwrap_or_default();
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title} - Postern</title><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1><p>{text}</p>{fix}</main></body></html>"
    );
    let mut response = Response::new(Full::new(Bytes::from(html)));
    *response.status_mut() = status;
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
        ),
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

const STYLE: &str = ":root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff}\
    @media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--paper:#16181c}}\
    body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--paper);color:var(--ink);\
    font:1.125rem/1.5 system-ui,sans-serif}main{max-width:34rem;padding:2rem}h1{font-size:1.5rem;line-height:1.25}";

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use postern_protocol::Code;

    /// A17: a provider's error text is text, whatever it holds.
    #[tokio::test]
    async fn a17_a_providers_words_cannot_become_markup() {
        let hostile = "<script>alert(1)</script>\"'&\u{1b}[2J";
        let problem = Problem::new(Code::SignInFailed).detail(hostile);
        let response = Page::Failed(Box::new(problem)).response();
        assert!(
            response
                .headers()
                .get("content-security-policy")
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("default-src 'none'")
        );
        let html = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert!(!html.contains("<script") && !html.contains('\u{1b}'));
        assert!(html.contains("&lt;script&gt;"));
    }
}
