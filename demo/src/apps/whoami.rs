//! An HTTP app that shows what it received: the request, and who the relay says it is from.

use super::page::{escape, page};
use crate::identity::{Identity, Verifier};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use postern_protocol::headers::IDENTITY;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, OnceLock};
use tokio::net::TcpListener;

const MOST_BODY: usize = 1024 * 1024;

/// What arrived, as API clients read it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Who the relay vouched for.
    pub(crate) identity: Option<Identity>,
    /// Why nobody is vouched for.
    pub(crate) identity_refused: Option<String>,
    /// Names and values, as they came.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body_bytes: usize,
}

pub(crate) async fn serve(listener: TcpListener, relay: Arc<OnceLock<Verifier>>) {
    let app = Router::new().fallback(answer).layer(DefaultBodyLimit::max(MOST_BODY)).with_state(relay);
    // An accept that fails is tried again by axum itself; it never returns.
    let _ = axum::serve(listener, app).await;
}

async fn answer(
    State(relay): State<Arc<OnceLock<Verifier>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (identity, identity_refused) = match identity(&relay, &headers).await {
        Ok(identity) => (Some(identity), None),
        Err(why) => (None, Some(why)),
    };
    let seen = Seen {
        method: method.to_string(),
        path: uri.to_string(),
        identity,
        identity_refused,
        headers: headers.iter().map(|(name, value)| (name.to_string(), show(name.as_str(), value))).collect(),
        body_bytes: body.len(),
    };
    let wants_page = headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|accept| accept.to_str().is_ok_and(|accept| accept.contains("text/html")));
    if wants_page {
        return Html(html(&seen)).into_response();
    }
    let text = serde_json::to_string_pretty(&seen).unwrap_or_default() + "\n";
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// The verified claims; exactly one header is acceptable.
async fn identity(relay: &OnceLock<Verifier>, headers: &HeaderMap) -> Result<Identity, String> {
    let mut values = headers.get_all(IDENTITY).iter();
    let token = values.next().ok_or("there is no identity header: this request did not come through the relay")?;
    if values.next().is_some() {
        return Err("there is more than one identity header".into());
    }
    let token = token.to_str().map_err(|_| "the identity header is not text")?;
    relay.get().ok_or("the app knows no relay yet")?.verify("whoami", token).await
}

/// Header values as a page may show them: tokens and cookies by their length alone.
fn show(name: &str, value: &header::HeaderValue) -> String {
    if [IDENTITY, "authorization", "proxy-authorization", "cookie"].contains(&name) {
        return format!("({} bytes)", value.len());
    }
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn html(seen: &Seen) -> String {
    let (greeting, claims) = match &seen.identity {
        Some(who) => {
            let name = escape(who.name.as_deref().unwrap_or(&who.sub));
            let greeting = format!(
                "<p class=\"lead\">Hello, <strong>{name}</strong>.</p>\n\
                 <p>The relay vouched for you with a signature that this app verified. No password, no cookie.</p>"
            );
            (greeting, rows(claims(who).iter().map(|(name, value)| (*name, value.as_str()))))
        }
        None => {
            let why = escape(seen.identity_refused.as_deref().unwrap_or_default());
            (format!("<p class=\"lead bad\">Nobody vouched for this request.</p>\n<p>{why}</p>"), String::new())
        }
    };
    let headers = rows(seen.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let body = format!(
        "{greeting}\n<h2>Who the relay says you are</h2>\n<table>{claims}</table>\n\
         <h2>What arrived here</h2>\n<p><code>{} {}</code></p>\n<table>{headers}</table>",
        escape(&seen.method),
        escape(&seen.path)
    );
    page("whoami", &body)
}

fn claims(who: &Identity) -> [(&'static str, String); 8] {
    [
        ("subject", who.sub.clone()),
        ("provider", who.idp.clone()),
        ("e-mail", who.email.clone().unwrap_or_else(|| "–".into())),
        ("groups", who.groups.join(", ")),
        ("device", who.dev.clone()),
        ("session", who.sid.clone()),
        ("for app", who.aud.clone()),
        ("signed by", who.iss.clone()),
    ]
}

fn rows<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let row = |(name, value)| format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escape(name), escape(value));
    pairs.map(row).collect()
}
