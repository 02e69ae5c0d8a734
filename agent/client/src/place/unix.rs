//! On Unix, owner and mode say whose a file is.

use crate::user::User;
use std::fs::{DirBuilder, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

pub(super) fn default_path() -> Result<PathBuf, &'static str> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join("postern"))
        .ok_or("neither HOME nor XDG_STATE_HOME is an absolute path")
}

pub(super) fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub(super) fn check_private(path: &Path, meta: &Metadata, mode: &str) -> Result<(), String> {
    let shown = path.display();
    if !User::own().owns(meta) {
        return Err(format!("{shown} belongs to another user"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(format!("others can use {shown}; run: chmod {mode} {shown}"));
    }
    Ok(())
}

pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}
