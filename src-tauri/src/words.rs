//! The shell's few texts, for tray and notifications, out of the pages' own catalogue.

use crate::model::Language;
use serde::Deserialize;
use std::sync::LazyLock;

/// `ui/src/lib/text/shell.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    en: Words,
    de: Words,
    ar: Words,
}

/// The texts of one language. `{app}` and `{organisation}` stand for names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Words {
    pub(crate) open: String,
    pub(crate) sign_in: String,
    pub(crate) sign_out: String,
    pub(crate) quit: String,
    pub(crate) no_agent: String,
    pub(crate) signed_out: String,
    pub(crate) signing_in: String,
    pub(crate) connecting: String,
    pub(crate) online: String,
    pub(crate) degraded: String,
    pub(crate) offline: String,
    pub(crate) expired: String,
    pub(crate) revoked: String,
    pub(crate) denied_title: String,
    pub(crate) denied_body: String,
    pub(crate) expiring_title: String,
    pub(crate) expiring_body: String,
    pub(crate) expired_title: String,
    pub(crate) expired_body: String,
    pub(crate) revoked_title: String,
    pub(crate) revoked_body: String,
    pub(crate) offline_title: String,
    pub(crate) offline_body: String,
}

static CATALOGUE: LazyLock<Option<Catalogue>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../ui/src/lib/text/shell.json")).ok());

/// The texts in this language; `None` only if the catalogue is broken, which a test forbids.
pub(crate) fn words(language: Language) -> Option<&'static Words> {
    let catalogue = CATALOGUE.as_ref()?;
    Some(match language {
        Language::System => by_locale(catalogue, &locale()),
        Language::En => &catalogue.en,
        Language::De => &catalogue.de,
        Language::Ar => &catalogue.ar,
    })
}

fn by_locale<'a>(catalogue: &'a Catalogue, locale: &str) -> &'a Words {
    match locale.get(..2) {
        Some("de") => &catalogue.de,
        Some("ar") => &catalogue.ar,
        _ => &catalogue.en,
    }
}

/// As POSIX finds it.
fn locale() -> String {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(set).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_every_text() {
        let catalogue: Catalogue = serde_json::from_str(include_str!("../../ui/src/lib/text/shell.json")).unwrap();
        assert!(words(Language::De).is_some());
        for (locale, quit) in
            [("de_AT.UTF-8", &catalogue.de.quit), ("C", &catalogue.en.quit), ("ä", &catalogue.en.quit)]
        {
            assert_eq!(&by_locale(&catalogue, locale).quit, quit);
        }
    }
}
