//! The name of an agent's pipe on Windows, where pipes are no files: it stands in a file in the state directory, in the
//! place of the socket, which only the user can write. Nobody else can guess it and wait there in the agent's stead.

use std::fmt::{self, Write as _};

const FIRST: &str = r"\\.\pipe\postern-";
/// Random bytes of a name.
pub const SALT: usize = 16;
/// A file that is longer holds no name.
pub const MAX_FILE: u64 = 256;

/// A pipe's name, with the number of the process that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipeName {
    process: u32,
    salt: String,
}

impl PipeName {
    /// Of the agent in this process.
    pub fn fresh(process: u32, salt: [u8; SALT]) -> Self {
        let mut text = String::with_capacity(2 * SALT);
        for byte in salt {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self { process, salt: text }
    }

    /// What [`fmt::Display`] wrote, and nothing else: no other path is ever opened as a pipe.
    pub fn parse(text: &str) -> Option<Self> {
        let (process, salt) = text.strip_prefix(FIRST)?.split_once('-')?;
        let name = Self { process: process.parse().ok()?, salt: salt.to_owned() };
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (salt.len() == 2 * SALT && salt.bytes().all(hex) && name.to_string() == text).then_some(name)
    }

    /// The process that made it.
    pub const fn process(&self) -> u32 {
        self.process
    }
}

impl fmt::Display for PipeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FIRST}{}-{}", self.process, self.salt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        let name = PipeName::fresh(4711, [0xa5; SALT]);
        assert_eq!(name.to_string(), format!(r"\\.\pipe\postern-4711-{}", "a5".repeat(16)));
        assert_eq!(PipeName::parse(&name.to_string()), Some(name));
    }

    /// A15: a file with something else leads nowhere: to no other machine, no other pipe, no file.
    #[test]
    fn a15_nothing_else_is_a_name() {
        let salt = "a5".repeat(16);
        for text in [
            String::new(),
            salt.clone(),
            format!(r"\\server\pipe\postern-1-{salt}"),
            format!(r"\\.\pipe\other-1-{salt}"),
            format!(r"\\.\pipe\postern-1-{salt}\x"),
            format!(r"\\.\pipe\postern-+1-{salt}"),
            format!(r"\\.\pipe\postern-01-{salt}"),
            format!(r"\\.\pipe\postern-4294967296-{salt}"),
            format!(r"\\.\pipe\postern-1-{}", salt.to_uppercase()),
            format!("\\\\.\\pipe\\postern-1-{salt}\n"),
            r"C:\Windows\System32\config".to_owned(),
        ] {
            assert_eq!(PipeName::parse(&text), None, "{text:?}");
        }
    }
}
