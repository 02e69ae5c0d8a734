//! The watched files: a cheap look that tells whether one may have changed, and their texts.

use crate::config::{Config, text_of};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The files as a look found them, links followed: where each is, how long, and when it was last written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Files(Vec<Option<[i128; 5]>>);

impl Files {
    pub(super) fn look(paths: &[PathBuf]) -> Self {
        let stamp = |path: &PathBuf| {
            let meta = std::fs::metadata(path).ok()?;
            let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
            let (written, changed) = (nanos(meta.mtime(), meta.mtime_nsec()), nanos(meta.ctime(), meta.ctime_nsec()));
            Some([meta.dev().into(), meta.ino().into(), meta.len().into(), written, changed])
        };
        Self(paths.iter().map(stamp).collect())
    }
}

/// The files of a configuration that are watched.
pub(super) fn watched(config: &Config) -> [PathBuf; 2] {
    [config.file.clone(), config.policy_file.clone()]
}

/// What the files say. `None`: one cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Texts(Vec<Option<String>>);

impl Texts {
    pub(super) fn read(paths: &[PathBuf]) -> Self {
        Self(paths.iter().map(|path| text_of(path).ok()).collect())
    }

    /// Are they what `config` was loaded from?
    pub(super) fn are(&self, config: &Config) -> bool {
        self.0 == [Some(config.text.to_string()), Some(config.policy.text().to_owned())]
    }
}

/// The directories in which a change of `path` shows: its own, and that of each link on the way to the file. Editors
/// replace the file, Kubernetes a link beside it.
pub(super) fn directories(path: &Path) -> Vec<PathBuf> {
    let directory = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut found = vec![directory(path)];
    found.extend(path.canonicalize().ok().as_deref().map(directory));
    found.dedup();
    found
}
