//! A Unix socket that nobody else may connect to.

use postern_client::user::User;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use tokio::net::{UnixListener, UnixStream};

/// A Unix socket's path has to fit into `sockaddr_un` with its final zero; the shortest is macOS's.
const MAX_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// What a call comes in by.
pub(super) type Stream = UnixStream;

/// Where calls come in.
pub(super) struct Door(UnixListener);

impl Door {
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        if path.as_os_str().len() > MAX_PATH {
            return Err(format!("the socket's path is longer than {MAX_PATH} bytes"));
        }
        let bound = || -> io::Result<UnixListener> {
            remove_left_behind(path)?;
            let listener = UnixListener::bind(path)?;
            fs::set_permissions(path, Permissions::from_mode(0o600))?;
            Ok(listener)
        };
        bound().map(Self).map_err(|error| error.to_string())
    }

    pub(super) async fn accept(&mut self) -> io::Result<Stream> {
        self.0.accept().await.map(|(stream, _)| stream)
    }
}

pub(super) fn caller(stream: &Stream) -> io::Result<User> {
    User::of(stream)
}

fn remove_left_behind(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is in its place")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
