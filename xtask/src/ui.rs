//! The desktop's pages, and the libraries that the desktop is built with.

use crate::node::Node;
use crate::packages::{APPINDICATOR, CHROMIUM, Consent, FONTS, NODEJS, NPM, PKG_CONFIG, WEBKIT, install};
use crate::run::{Failure, Outcome, root, run};
use std::fs;
use std::path::Path;
use std::time::SystemTime;

const DIRECTORY: &str = "ui";

/// Builds the pages if what they are made of is newer, and makes sure of the desktop's libraries.
pub(crate) fn build(consent: Consent) -> Outcome {
    install(&[PKG_CONFIG, WEBKIT, APPINDICATOR], consent)?;
    let top = root().join(DIRECTORY);
    let built = fs::metadata(top.join("dist/index.html")).and_then(|data| data.modified()).ok();
    let sources = ["src", "public", "index.html", "package-lock.json", "vite.config.ts", "svelte.config.js"];
    let newest = sources.iter().filter_map(|source| newest(&top.join(source))).max();
    if built.is_some() && built >= newest {
        return Ok(());
    }
    let node = prepare(consent)?;
    run(&mut node.npm(DIRECTORY, &["run", "build"]))
}

/// Types, and the tests that need no browser.
pub(crate) fn check() -> Outcome {
    let node = prepare(Consent::Given)?;
    run(&mut node.npm(DIRECTORY, &["run", "check"]))?;
    run(&mut node.npm(DIRECTORY, &["test"]))?;
    build(Consent::Given)
}

/// Every state in a real browser, in light and dark, narrow and wide; the screenshots stay in `ui/shots`.
pub(crate) fn pages() -> Outcome {
    install(&[CHROMIUM, FONTS], Consent::Given)?;
    let node = prepare(Consent::Given)?;
    run(&mut node.npm(DIRECTORY, &["run", "shots"]))
}

fn prepare(consent: Consent) -> Outcome<Node> {
    install(&[NODEJS, NPM], consent)?;
    let node = Node::find()?;
    node.packages(DIRECTORY).map_err(|Failure(why)| Failure::new(format!("the packages of the pages: {why}")))?;
    Ok(node)
}

fn newest(path: &Path) -> Option<SystemTime> {
    let own = fs::metadata(path).and_then(|data| data.modified()).ok()?;
    let within = fs::read_dir(path).into_iter().flatten().flatten().filter_map(|entry| newest(&entry.path()));
    Some(within.fold(own, SystemTime::max))
}
