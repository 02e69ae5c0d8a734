//! A browser without a window: cookies, redirects and the first form of each page, which is all a sign-in needs.

use crate::client::{Reply, http};
use http::{Request, header};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use url::Url;

/// What a person types into the provider's pages.
pub struct Browser {
    cookies: BTreeMap<(String, String), String>,
    typed: BTreeMap<String, String>,
}

/// Where a walk through pages ended.
#[derive(Debug)]
pub struct Page {
    /// The address of the last page.
    pub url: Url,
    /// The page.
    pub reply: Reply,
}

impl Browser {
    /// A fresh profile of someone who signs in as `user`.
    pub fn of(user: &str) -> Self {
        let typed = BTreeMap::from([("login".to_owned(), user.to_owned()), ("password".to_owned(), "any".to_owned())]);
        Self { cookies: BTreeMap::new(), typed }
    }

    /// Types `value` where a page asks for `field`.
    #[must_use]
    pub fn types(mut self, field: &str, value: &str) -> Self {
        self.typed.insert(field.into(), value.into());
        self
    }

    /// Opens `url`, signs in, and follows everything to the end, the agent's loopback redirect included.
    pub async fn sign_in(&mut self, url: &str) -> Page {
        self.walk(url, |_| false).await
    }

    /// The same, but stops before opening an address for which `stop` holds, and returns that address.
    pub async fn sign_in_until(&mut self, url: &str, stop: impl Fn(&Url) -> bool) -> Url {
        self.walk(url, stop).await.url
    }

    /// Opens the provider's page for signing out and says yes.
    pub async fn sign_out(&mut self, url: &str) -> Page {
        let mut url: Url = url.parse().unwrap();
        let page = self.ask(&url, None).await;
        let (action, fields) = first_form(&page.text()).unwrap_or_else(|| panic!("no form: {page:?}"));
        url = url.join(&action).unwrap();
        let yes = [fields, vec![("logout".to_owned(), "yes".to_owned())]].concat();
        let reply = self.ask(&url, Some(self.fill(yes))).await;
        Page { url, reply }
    }

    async fn walk(&mut self, url: &str, stop: impl Fn(&Url) -> bool) -> Page {
        let mut url: Url = url.parse().unwrap();
        let mut form = None;
        for _ in 0..20 {
            if stop(&url) {
                return Page { url, reply: crate::server::reply(204, "text/plain", "") };
            }
            let reply = self.ask(&url, form.take()).await;
            if let Some(location) = reply.headers.get(header::LOCATION).filter(|_| reply.status.is_redirection()) {
                url = url.join(location.to_str().unwrap()).unwrap();
            } else if let Some((action, fields)) = first_form(&reply.text()) {
                url = url.join(&action).unwrap();
                form = Some(self.fill(fields));
            } else {
                return Page { url, reply };
            }
        }
        panic!("no end of pages at {url}");
    }

    fn fill(&self, fields: Vec<(String, String)>) -> String {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in fields {
            let value = self.typed.get(&name).cloned().unwrap_or(value);
            body.append_pair(&name, &value);
        }
        body.finish()
    }

    /// Sends JSON, as a page's own program would.
    pub async fn send_json(&mut self, method: &str, url: &Url, body: &serde_json::Value) -> Reply {
        self.send(method, url, "application/json", body.to_string()).await
    }

    /// The value of a cookie.
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.cookies.iter().find(|((_, of), _)| of == name).map(|(_, value)| value.clone())
    }

    async fn ask(&mut self, url: &Url, form: Option<String>) -> Reply {
        let method = if form.is_some() { "POST" } else { "GET" };
        self.send(method, url, "application/x-www-form-urlencoded", form.unwrap_or_default()).await
    }

    async fn send(&mut self, method: &str, url: &Url, kind: &str, body: String) -> Reply {
        let address: SocketAddr = url.socket_addrs(|| None).unwrap()[0];
        let origin = url.origin().ascii_serialization();
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let kept = self.cookies.iter().filter(|((of, _), _)| *of == origin);
        let cookies: Vec<_> = kept.map(|((_, name), value)| format!("{name}={value}")).collect();
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", url.authority())
            .header("accept", "text/html")
            .header("cookie", cookies.join("; "))
            .header("content-type", kind);
        let reply = http(address, request.body(body).unwrap()).await;
        for cookie in reply.headers.get_all(header::SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            if let Some((name, value)) = pair.split_once('=') {
                self.cookies.insert((origin.clone(), name.into()), value.into());
            }
        }
        reply
    }
}

/// Action and fields of the first form of a page, as far as providers' own pages go.
fn first_form(html: &str) -> Option<(String, Vec<(String, String)>)> {
    let start = html.find("<form")?;
    let form = &html[start..start + html[start..].find("</form>")?];
    let (tag, inside) = form.split_once('>')?;
    let tags = |name: &'static str| inside.split('<').filter(move |tag| tag.starts_with(name));
    let fields = tags("input").chain(tags("button")).filter_map(|tag| {
        // A person presses the first button that has no name; "cancel" and "abort" are named.
        let name = attribute(tag, "name").filter(|name| tag.starts_with("input") && name != "abort")?;
        Some((name, attribute(tag, "value").unwrap_or_default()))
    });
    Some((attribute(tag, "action").unwrap_or_default(), fields.collect()))
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let start = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    let value = &tag[start..start + tag[start..].find('"')?];
    Some(value.replace("&amp;", "&").replace("&#39;", "'").replace("&quot;", "\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Provider;
    use crate::world::World;

    #[tokio::test]
    async fn signs_in_at_the_real_provider_and_stops_before_the_redirect() {
        let world = World::new();
        let provider = Provider::start(&world).await;
        let query =
            "client_id=postern&response_type=code&scope=openid&state=s&redirect_uri=http://127.0.0.1:9/callback";
        let url = format!("{}auth?{query}", provider.issuer);
        let back = Browser::of("ada").sign_in_until(&url, |url| url.path() == "/callback").await;
        assert!(back.query().unwrap().contains("code="), "{back}");
        assert_eq!(provider.counts().await["authorization"], 1);
    }
}
