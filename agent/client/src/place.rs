//! Where an agent lives: its state directory, which is the user's alone.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

use postern_protocol::{Code, Problem};
use std::fs::{Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// `$XDG_STATE_HOME/postern`, else `~/.local/state/postern`; on Windows `%LOCALAPPDATA%\postern\state`.
pub fn default_path() -> Result<PathBuf, Problem> {
    system::default_path().map_err(unusable)
}

/// Makes the directory, and those above it that are missing, for the user alone.
pub fn make(path: &Path) -> io::Result<()> {
    system::make(path)
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
    system::check_private(path, &meta, "700").map_err(unusable)
}

/// Is this a file that only the user can read and write? Says what to do if not.
pub fn check_file(path: &Path, meta: &Metadata) -> Result<(), String> {
    if meta.is_symlink() {
        return Err(format!("{} is a symbolic link; give the file itself", path.display()));
    }
    system::check_private(path, meta, "600")
}

/// A file that these options make is for the user alone.
pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    system::private(options)
}

fn unusable(detail: impl Into<String>) -> Problem {
    Problem::new(Code::StateDir).detail(detail)
}
