//! What may be opened in the person's browser: an app's own address, or the sign-in page, as their agent told it.
//!
//! The pages name an app, never an address.

use postern_protocol::control::AppKind;
use postern_protocol::local::LocalApp;
use postern_protocol::{Code, Problem};
use std::net::IpAddr;
use url::{Host, Url};

/// The address of an app, if it is one of the agent's own listeners.
pub(crate) fn app_address(app: &LocalApp) -> Result<Url, Problem> {
    if app.entry.kind != AppKind::Http {
        return Err(Problem::new(Code::AppKindMismatch).detail("only HTTP apps open in a browser"));
    }
    if let Some(problem) = &app.problem {
        return Err(problem.clone());
    }
    let expected = format!("{}.localhost", app.entry.name);
    let good = |url: &Url| {
        url.scheme() == "http" && url.host_str() == Some(&expected) && url.port().is_some() && is_plain(url)
    };
    Url::parse(&app.local).ok().filter(good).ok_or_else(|| refused("the app's address is not on this device"))
}

/// The provider's sign-in page: https, or http on this device alone (RFC 8252 §8.3 lets the provider be nothing else).
pub(crate) fn sign_in_page(url: &Url) -> Result<&Url, Problem> {
    let good = match url.scheme() {
        "https" => url.host().is_some(),
        "http" => url.host().is_some_and(|host| is_loopback(&host)),
        _ => false,
    };
    if good && is_plain(url) { Ok(url) } else { Err(refused("the sign-in page has an address that is never opened")) }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => IpAddr::V4(*address).is_loopback(),
        Host::Ipv6(address) => IpAddr::V6(*address).is_loopback(),
    }
}

/// Without a name and password, which browsers hide.
fn is_plain(url: &Url) -> bool {
    url.username().is_empty() && url.password().is_none()
}

fn refused(detail: &str) -> Problem {
    Problem::new(Code::RequestInvalid).detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_protocol::control::AppEntry;

    fn app(name: &str, kind: AppKind, local: &str) -> LocalApp {
        let entry = AppEntry {
            name: name.parse().unwrap(),
            kind,
            description: String::new(),
            port: None,
            allowed: true,
            reason: None,
            fix: None,
            step_up: None,
        };
        LocalApp { entry, local: local.into(), command: None, problem: None }
    }

    #[test]
    fn an_app_opens_at_its_own_address_alone() {
        let open = |local: &str| app_address(&app("wiki", AppKind::Http, local));
        assert_eq!(open("http://wiki.localhost:8080/").unwrap().as_str(), "http://wiki.localhost:8080/");
        for local in [
            "",
            "wiki",
            "https://wiki.localhost:8080/",
            "http://wiki.localhost/",
            "http://db.localhost:8080/",
            "http://wiki.localhost.evil.example:8080/",
            "http://evil.example:8080/",
            "http://wiki.localhost:8080@evil.example:80/",
            "http://user@wiki.localhost:8080/",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "--version",
        ] {
            assert_eq!(open(local).unwrap_err().code, Code::RequestInvalid, "{local}");
        }
        let tcp = app("db", AppKind::Tcp, "127.0.0.1:5432");
        assert_eq!(app_address(&tcp).unwrap_err().code, Code::AppKindMismatch);
    }

    #[test]
    fn a17_a_sign_in_page_is_a_web_page() {
        let open = |text: &str| sign_in_page(&Url::parse(text).unwrap()).map(|_| ());
        for good in
            ["https://idp.example/auth?x=1", "http://127.0.0.1:9000/auth", "http://[::1]:1/", "http://localhost:1/"]
        {
            assert!(open(good).is_ok(), "{good}");
        }
        for bad in [
            "http://idp.example/",
            "http://127.0.0.1.evil.example/",
            "http://localhost@evil.example/",
            "https://user:secret@idp.example/",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "smb://server/share",
            "vscode://open",
            "data:text/html,x",
        ] {
            assert_eq!(open(bad).unwrap_err().code, Code::RequestInvalid, "{bad}");
        }
    }
}
