//! A named pipe of which only the user may open an end, under a name that a file in the state directory tells.

use crate::state_dir::read_regular;
use aws_lc_rs::rand;
use interprocess::os::windows::named_pipe::PipeListenerOptions;
use interprocess::os::windows::named_pipe::pipe_mode::Bytes;
use interprocess::os::windows::named_pipe::tokio::PipeListener;
use interprocess::os::windows::security_descriptor::SecurityDescriptor;
use postern_client::channel::Pipe;
use postern_client::pipe_name::{MAX_FILE, PipeName, SALT};
use postern_client::place;
use postern_client::user::User;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// What a call comes in by.
pub(super) type Stream = Pipe;

/// Where calls come in.
pub(super) struct Door(PipeListener<Bytes, Bytes>);

impl Door {
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let opened = || -> io::Result<Self> {
            remove_left_behind(path)?;
            let mut salt = [0; SALT];
            rand::fill(&mut salt).map_err(|_| io::Error::other("no randomness"))?;
            let name = PipeName::fresh(std::process::id(), salt);
            let door = Self(listen(&name)?);
            // It answers before it can be found.
            let mut file = place::private(OpenOptions::new().write(true).create_new(true)).open(path)?;
            file.write_all(name.to_string().as_bytes())?;
            Ok(door)
        };
        opened().map_err(|error| error.to_string())
    }

    pub(super) async fn accept(&mut self) -> io::Result<Stream> {
        self.0.accept().await.map(Pipe::from)
    }
}

/// Fails if a pipe of this name is there. Takes no call from another machine.
fn listen(name: &PipeName) -> io::Result<PipeListener<Bytes, Bytes>> {
    let user = User::own();
    let sid = user.sid().ok_or_else(|| io::Error::other("the system does not tell whom this program acts for"))?;
    // Owned by the user, everything allowed to the user, nothing inherited: nothing to anybody else.
    let access: Vec<u16> = format!("O:{sid}D:P(A;;GA;;;{sid})\0").encode_utf16().collect();
    let access = widestring::U16CStr::from_slice(&access).map_err(io::Error::other)?;
    PipeListenerOptions::new()
        .path(name.to_string())
        .security_descriptor(Some(SecurityDescriptor::deserialize(access)?))
        .accept_remote(false)
        .input_buffer_size_hint(BUFFER)
        .output_buffer_size_hint(BUFFER)
        .create_tokio_duplex()
}

/// Enough for an answer in one go.
const BUFFER: u32 = 64 * 1024;

pub(super) fn caller(stream: &Stream) -> io::Result<User> {
    stream.client()
}

fn remove_left_behind(path: &Path) -> io::Result<()> {
    let ours =
        |bytes: &Vec<u8>| bytes.is_empty() || str::from_utf8(bytes).is_ok_and(|text| PipeName::parse(text).is_some());
    match read_regular(path, MAX_FILE) {
        Ok(bytes) if ours(&bytes) => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no pipe's name is in its place")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
