//! A browser without a window: it follows the sign-in from the provider's page to the agent's loopback redirect.

use crate::failure::{Because as _, Failure, check};
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, RequestBuilder, redirect};
use std::collections::BTreeMap;
use std::time::Duration;
use url::{Host, Url};

/// Cookies by origin, and the way it went.
pub(crate) struct Browser {
    http: Client,
    cookies: BTreeMap<String, BTreeMap<String, String>>,
    /// One line for each page.
    pub(crate) way: Vec<String>,
}

const MOST_HOPS: usize = 10;

impl Browser {
    pub(crate) fn new() -> Result<Self, Failure> {
        let builder = Client::builder().redirect(redirect::Policy::none()).no_proxy().tls_certs_only([]);
        let http = builder.timeout(Duration::from_secs(10)).build().because("cannot make an HTTP client")?;
        Ok(Self { http, cookies: BTreeMap::new(), way: Vec::new() })
    }

    /// Opens `url`, types name and password where the page asks, and follows to the last page.
    pub(crate) async fn sign_in(&mut self, url: &str, name: &str, password: &str) -> Result<(), Failure> {
        let mut url: Url = url.parse().because("the agent printed no address")?;
        let mut form: Option<Vec<(String, String)>> = None;
        let mut typed = false;
        for _ in 0..MOST_HOPS {
            check(on_loopback(&url), || format!("the sign-in leads away from this machine: {url}"))?;
            let request = match form.take() {
                Some(fields) => self.http.post(url.clone()).form(&fields),
                None => self.http.get(url.clone()),
            };
            let (status, location, page) = self.open(&url, request).await?;
            if let Some(location) = location {
                url = url.join(&location).because("a redirect")?;
            } else if let Some(ticket) = field(&page, "ticket") {
                check(!typed, || "the provider asks for name and password once more".into())?;
                typed = true;
                url = url.join("/login").because("the form")?;
                let fields = [("ticket", ticket), ("username", name.into()), ("password", password.into())];
                form = Some(fields.map(|(name, value)| (name.to_owned(), value)).to_vec());
            } else {
                return check(typed && (200..300).contains(&status), || {
                    format!("the sign-in ended at {url}: {status}")
                });
            }
        }
        Err(Failure::new("the sign-in goes round in circles"))
    }

    async fn open(&mut self, url: &Url, request: RequestBuilder) -> Result<(u16, Option<String>, String), Failure> {
        let jar = self.cookies.entry(url.origin().ascii_serialization()).or_default();
        let cookies: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = request.header("accept", "text/html").header(COOKIE, cookies.join("; "));
        let request = request.build().because("a request")?;
        let method = request.method().clone();
        let answer = self.http.execute(request).await.because(format!("cannot open {url}"))?;
        for cookie in answer.headers().get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
            let pair = cookie.split(';').next().and_then(|pair| pair.split_once('='));
            jar.extend(pair.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        let status = answer.status();
        // Without the query: that is where the code is.
        self.way.push(format!("{method} {}{} → {}", url.origin().ascii_serialization(), url.path(), status.as_u16()));
        let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let page = answer.text().await.because("a page")?;
        Ok((status.as_u16(), location.filter(|_| status.is_redirection()), page))
    }
}

fn on_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The value of a hidden field of the provider's form.
fn field(page: &str, name: &str) -> Option<String> {
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\""))?;
    rest.split_once('"').map(|(value, _)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_demo_provider::{Config, Provider};
    use tokio::net::TcpListener;

    /// An authorization request at a provider of its own, to be answered at a loopback page that says well done.
    async fn request() -> String {
        let provider = Provider::bind(Config::demo_on_any_port()).await.unwrap();
        let issuer = provider.issuer().to_owned();
        tokio::spawn(provider.serve(std::future::pending()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let redirect = format!("http://{}/callback", listener.local_addr().unwrap());
        let page = axum::Router::new().route("/callback", axum::routing::get(|| async { "well done" }));
        tokio::spawn(async { axum::serve(listener, page).await });
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        format!(
            "{issuer}/authorize?client_id=postern&response_type=code&scope=openid&redirect_uri={redirect}\
             &code_challenge={challenge}&code_challenge_method=S256"
        )
    }

    #[tokio::test]
    async fn follows_a_sign_in_to_the_redirect() {
        let mut browser = Browser::new().unwrap();
        browser.sign_in(&request().await, "ada", "lovelace").await.unwrap();
        assert_eq!(browser.way.len(), 3, "{:?}", browser.way);
        assert!(browser.way[2].contains("/callback") && !browser.way.join("").contains("code="));
    }

    #[tokio::test]
    async fn a_wrong_password_or_a_way_off_this_machine_is_a_failure() {
        let request = request().await;
        for url in [request.as_str(), "http://192.0.2.1/", "https://login.example/", "nonsense"] {
            assert!(Browser::new().unwrap().sign_in(url, "ada", "wrong").await.is_err(), "{url}");
        }
    }
}
