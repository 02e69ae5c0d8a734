//! Where an agent lives: its state directory, which is the user's alone.

use postern_protocol::{Code, Problem};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// `$XDG_STATE_HOME/postern`, else `~/.local/state/postern`.
pub fn default_path() -> Result<PathBuf, Problem> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join("postern"))
        .ok_or_else(|| unusable("neither HOME nor XDG_STATE_HOME is an absolute path"))
}

/// Is this a directory that only the user can read and write? Says what to do if not.
pub fn check(path: &Path) -> Result<(), Problem> {
    let shown = path.display();
    let meta = path.symlink_metadata().map_err(|error| unusable(format!("{shown}: {error}")))?;
    if meta.is_symlink() {
        return Err(unusable(format!("{shown} is a symbolic link; give the directory itself")));
    }
    if !meta.is_dir() {
        return Err(unusable(format!("{shown} is not a directory")));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(unusable(format!("{shown} belongs to another user")));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(unusable(format!("others can use {shown}; run: chmod 700 {shown}")));
    }
    Ok(())
}

fn unusable(detail: impl Into<String>) -> Problem {
    Problem::new(Code::StateDir).detail(detail)
}
