//! On Windows, files have the access list of the directory they are made in. That of a user's profile leaves out other
//! users; what lies outside of it cannot be told to be private, and is refused.

use std::fs::{DirBuilder, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

pub(super) fn default_path() -> Result<PathBuf, &'static str> {
    absolute("LOCALAPPDATA")
        .or_else(|| absolute("USERPROFILE").map(|home| home.join(r"AppData\Local")))
        .map(|base| base.join(r"postern\state"))
        .ok_or("neither LOCALAPPDATA nor USERPROFILE is an absolute path")
}

fn absolute(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

pub(super) fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(path)
}

pub(super) fn check_private(path: &Path, _: &Metadata, _: &str) -> Result<(), String> {
    let shown = path.display();
    // Both without links, short names and differences of case.
    let plain = path.canonicalize().map_err(|error| format!("{shown}: {error}"))?;
    let profile = absolute("USERPROFILE").and_then(|profile| profile.canonicalize().ok());
    match profile {
        Some(profile) if plain.starts_with(&profile) => Ok(()),
        _ => Err(format!("others may be able to use {shown}; choose a place in your own profile (%USERPROFILE%)")),
    }
}

/// Inherited from the directory.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}
