//! `[provider]`: the OpenID provider.

use super::ProviderConfig;
use super::load::{DAY, MINUTE, SECOND, SHORTER, has_user, is_loopback, shown_text};
use super::reader::{Section, Source};
use url::Url;

/// Reads it. Each mistake is reported.
pub(super) fn read(source: &Source, mut section: Section<'_>) -> Option<ProviderConfig> {
    let issuer_text = section.needed_text("issuer", "https://login.corp.example");
    let fix = "write the provider's issuer exactly as its metadata has it: https, or http on loopback for a trial";
    let issuer = section.parsed("issuer", issuer_text.clone(), provider_issuer, fix);
    let client_id = section.needed_text("client_id", "postern");
    let client_id = section.parsed("client_id", client_id, shown_text, SHORTER);
    let scopes = section.list("scopes");
    let groups_claim = section.text("groups_claim").map_or_else(|| "groups".to_owned(), |found| found.value);
    let token_max_age = section.duration("token_max_age", MINUTE * 15, SECOND * 10, DAY).value;
    let resource = section.text("resource");
    let resource = section.parsed("resource", resource, shown_text, SHORTER).map(|found| found.value);
    let redirect_port = section.number("redirect_port", 1, u16::MAX.into()).and_then(|port| u16::try_from(port).ok());
    let require_nonce = section.flag("require_nonce", false);
    let backchannel_logout = section.flag("backchannel_logout", true);
    let backchannel_logout_untyped = section.flag("backchannel_logout_untyped", false);
    if backchannel_logout_untyped && !backchannel_logout {
        let fix = "remove one of the two lines";
        let message = "`provider.backchannel_logout_untyped` means nothing while backchannel_logout is false";
        source.fault(section.start(), message, fix);
    }
    section.finish();
    let scopes = match scopes {
        Some(scopes) => {
            if !scopes.iter().any(|scope| scope.value == "openid") {
                let offset = scopes.first().map_or(0, |scope| scope.span.start);
                source.fault(offset, "`provider.scopes` lacks \"openid\"", "add \"openid\" to the list");
            }
            for scope in scopes.iter().filter(|scope| !scope_is_plain(&scope.value)) {
                source.fault(scope.span.start, "a scope is one word", "write each scope as a text of its own");
            }
            scopes.into_iter().map(|scope| scope.value).collect()
        }
        None => ["openid", "profile", "email", "offline_access"].map(str::to_owned).to_vec(),
    };
    Some(ProviderConfig {
        issuer: issuer?.value,
        issuer_text: issuer_text?.value,
        client_id: client_id?.value,
        scopes,
        groups_claim,
        token_max_age,
        resource,
        redirect_port,
        backchannel_logout,
        backchannel_logout_untyped,
        require_nonce,
    })
}

/// https, or http where the host is this machine.
fn provider_issuer(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    if url.query().is_some() || url.fragment().is_some() || has_user(&url) {
        return Err("an issuer has no user, query or fragment".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err("http is for a provider on loopback only".to_owned()),
        _ => Err("an issuer begins with https://".to_owned()),
    }
}

fn scope_is_plain(scope: &str) -> bool {
    // RFC 6749 §3.3
    !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}
