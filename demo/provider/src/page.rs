//! The pages people see: plain HTML forms that work without scripts, in light and dark.

use crate::config::User;
use crate::oauth::OauthError;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

/// The sign-in page of one ticket.
pub(crate) fn sign_in(users: &[User], ticket: &str, wrong: Option<&str>) -> Response {
    let body = format!(
        r#"<p>Sign in to continue to <strong>Postern</strong>.</p>
{wrong}<form method="post" action="/login">
<input type="hidden" name="ticket" value="{ticket}">
{fields}<div class="buttons"><button name="action" value="sign-in">Sign in</button>
<button name="action" value="cancel" class="quiet" formnovalidate>Cancel</button></div>
</form>
{users}"#,
        wrong = alert(wrong),
        ticket = escape(ticket),
        fields = name_and_password(),
        users = known_users(users),
    );
    page(StatusCode::OK, "Sign in", &body)
}

/// The page where a device's code is typed.
pub(crate) fn device(users: &[User], code: &str, wrong: Option<&str>) -> Response {
    let body = format!(
        r#"<p>A device asks to be signed in. Go on only if you started this and the code is the one it shows.</p>
{wrong}<form method="post" action="/device">
<label for="user_code">Code</label>
<input id="user_code" name="user_code" value="{code}" required maxlength="16" autocomplete="off" autocapitalize="characters" spellcheck="false" class="code">
{fields}<div class="buttons"><button name="action" value="approve">Sign the device in</button>
<button name="action" value="deny" class="quiet">Refuse</button></div>
</form>
{users}"#,
        wrong = alert(wrong),
        code = escape(code),
        fields = name_and_password(),
        users = known_users(users),
    );
    page(StatusCode::OK, "Sign a device in", &body)
}

/// Asks whether to sign out.
pub(crate) fn sign_out() -> Response {
    let body = r#"<p>Do you want to sign out of the demo provider?</p>
<form method="post" action="/end_session"><div class="buttons"><button name="confirm" value="yes">Sign out</button></div></form>"#;
    page(StatusCode::OK, "Sign out", body)
}

/// Something to read and nothing to do.
pub(crate) fn message(title: &str, text: &str) -> Response {
    page(StatusCode::OK, title, &format!("<p>{}</p>", escape(text)))
}

/// An error that must not travel to the redirect.
pub(crate) fn refusal(error: &OauthError) -> Response {
    let body = format!(
        "<p>{}.</p><p>Go back to the program that sent you here and start again.</p><p class=\"small\">Code: {}</p>",
        escape(&error.description()),
        escape(error.code)
    );
    page(StatusCode::BAD_REQUEST, "This request cannot be served", &body)
}

/// The form is too old, or was shown to another browser.
pub(crate) fn over() -> Response {
    let text = "<p>This page is no longer valid. Go back to the program that sent you here and start again.</p>";
    page(StatusCode::BAD_REQUEST, "Start again", text)
}

/// `GET /`.
pub(crate) async fn home() -> Response {
    message(
        "Postern demo provider",
        "This is the sign-in service of a Postern demonstration. Start at the program you want to use.",
    )
}

/// `GET /style.css`.
pub(crate) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("style.css")).into_response()
}

fn name_and_password() -> &'static str {
    r#"<label for="username">Name</label>
<input id="username" name="username" required maxlength="64" autocomplete="username" autocapitalize="none" spellcheck="false" autofocus>
<label for="password">Password</label>
<input id="password" name="password" type="password" required maxlength="128" autocomplete="current-password">
"#
}

fn known_users(users: &[User]) -> String {
    let rows: String = users
        .iter()
        .map(|user| {
            format!(
                "<tr><th scope=\"row\">{}</th><td><code>{}</code></td><td><code>{}</code></td><td>{}</td></tr>\n",
                escape(&user.name),
                escape(&user.username),
                escape(&user.password),
                escape(&user.groups.join(", "))
            )
        })
        .collect();
    format!(
        "<table><caption>This is a demonstration. You may sign in as</caption>\n<thead><tr><th scope=\"col\">who</th>\
         <th scope=\"col\">name</th><th scope=\"col\">password</th><th scope=\"col\">groups</th></tr></thead>\n\
         <tbody>{rows}</tbody></table>"
    )
}

fn alert(text: Option<&str>) -> String {
    text.map(|text| format!("<p role=\"alert\" class=\"alert\">{}</p>\n", escape(text))).unwrap_or_default()
}

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let title = escape(title);
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title} · Postern demo</title>\n<link rel=\"stylesheet\" href=\"/style.css\">\n</head>\n\
         <body>\n<main>\n<p class=\"brand\">Postern demo provider</p>\n<h1>{title}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    );
    (status, Html(html)).into_response()
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}
