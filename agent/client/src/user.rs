//! A user of this machine, as the system tells users apart.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::User;
#[cfg(windows)]
pub use windows::{Held, User};
