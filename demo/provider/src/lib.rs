//! A small OpenID provider for demonstrations and tests. It keeps everything in memory, shows its
//! passwords on the sign-in page and so refuses to listen on anything but loopback.
//!
//! What it does it does by the book: authorization code with PKCE (S256 only), `iss` in the response
//! (RFC 9207), refresh tokens that rotate and whose reuse ends the family, the device authorization
//! grant (RFC 8628), client credentials with `at+jwt` (RFC 9068), revocation (RFC 7009) and
//! RP-initiated logout.

mod authorize;
mod client_auth;
mod config;
mod device;
mod discovery;
mod grants;
mod keys;
mod logout;
mod oauth;
mod page;
mod server;
mod store;
mod token;

pub use config::{Client, ClientKind, Config, Lifetimes, User};
pub use server::{Provider, StartError};
