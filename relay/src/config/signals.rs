//! `[[signals]]`: who may tell the relay of security events.

use super::SignalsConfig;
use super::load::{SHORTER, has_user, is_loopback, shown_text};
use super::reader::{Found, Section, Source};
use crate::keys;
use secrecy::SecretString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use url::Url;

/// Least characters of a bearer secret, and most.
const SECRET: std::ops::RangeInclusive<usize> = 16..=4096;

/// Reads them all. Each mistake is reported, and its transmitter left out.
pub(super) fn read(source: &Source, sections: Vec<Section<'_>>, base: &Path) -> Vec<SignalsConfig> {
    let mut all: Vec<SignalsConfig> = Vec::new();
    for mut section in sections {
        let found = one(source, &mut section, base);
        section.finish();
        let Some((one, at)) = found else { continue };
        let twice =
            |what: &str| source.fault(at, format!("a second transmitter has this {what}"), "keep one of the two");
        if all.iter().any(|other| other.name == one.name) {
            twice("name");
        } else if all.iter().any(|other| other.issuer == one.issuer) {
            twice("issuer");
        } else {
            all.push(one);
        }
    }
    all
}

fn one(source: &Source, section: &mut Section<'_>, base: &Path) -> Option<(SignalsConfig, usize)> {
    let name = section.needed_text("name", "mdm");
    let name = section.parsed("name", name, shown_text, SHORTER);
    let issuer = section.needed_text("issuer", "https://signals.corp.example");
    let issuer = section.parsed("issuer", issuer, shown_text, SHORTER);
    let jwks_uri = section.needed_text("jwks_uri", "https://signals.corp.example/jwks.json");
    let fix = "write the address of the transmitter's key set: https, or http on loopback for a trial";
    let jwks_uri = section.parsed("jwks_uri", jwks_uri, key_set, fix);
    let audience = section.needed_text("audience", "https://relay.corp.example");
    let audience = section.parsed("audience", audience, shown_text, SHORTER);
    let authorization = section.text("authorization");
    let named = authorization.is_some();
    let authorization = authorization.and_then(|file| secret(source, &file, base));
    let at = section.start();
    let (name, issuer) = (name?.value, issuer?.value);
    let (jwks_uri, audience) = (jwks_uri?.value, audience?.value);
    // A secret that cannot be read must not turn into none.
    (!named || authorization.is_some()).then_some(())?;
    Some((SignalsConfig { name, issuer, jwks_uri, audience, authorization }, at))
}

/// https, or http where the host is this machine.
fn key_set(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    if url.fragment().is_some() || has_user(&url) {
        return Err("a key set's address has no user and no fragment".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err("http is for a transmitter on loopback only".to_owned()),
        _ => Err("it begins with https://".to_owned()),
    }
}

/// The file's one line.
fn secret(source: &Source, file: &Found<String>, base: &Path) -> Option<SecretString> {
    let (path, at) = (base.join(&file.value), file.span.start);
    let fix = "name a file with one line of 16 to 4096 printable characters without spaces";
    if std::fs::metadata(&path).is_ok_and(|meta| meta.permissions().mode() & 0o007 != 0) {
        let message = format!("everybody may read or write the secret {}", path.display());
        source.fault(at, message, format!("chmod o-rwx {}", path.display()));
    }
    let text = match keys::read_text(&path) {
        Ok(text) => text,
        Err(why) => {
            source.fault(at, format!("{} {why}", path.display()), fix);
            return None;
        }
    };
    let line = text.trim_end_matches(['\r', '\n']);
    if !SECRET.contains(&line.len()) || !line.bytes().all(|b| b.is_ascii_graphic()) {
        source.fault(at, format!("{} does not hold a bearer secret", path.display()), fix);
        return None;
    }
    Some(SecretString::from(line.to_owned()))
}
