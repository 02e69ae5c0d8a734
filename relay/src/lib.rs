//! The relay: the policy enforcement point in front of private apps.
//!
//! It listens twice. The public listener (`public`) serves anyone: discovery, enrolment, health and the
//! keys of identity assertions. The transport (`transport`) wants a device certificate, and whatever comes
//! through it is decided, request by request, by `postern_relay_core::access::decide`. This crate is the
//! shell around that core: it owns sockets, files, clock, randomness and the store.

pub mod admin;
mod aside;
pub mod assemble;
pub mod audit_log;
pub mod backchannel;
pub mod body;
pub mod ca;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod enroll;
pub mod events;
pub mod gate;
pub mod http_app;
pub mod identity_header;
pub mod init;
pub mod keys;
mod lapse;
pub mod log;
pub mod outside;
pub mod policy_diff;
pub mod provider;
pub mod public;
pub mod refusal;
pub mod reload;
pub mod reverify;
pub mod revoke;
pub mod serve;
pub mod server_tls;
pub mod service;
pub mod session;
pub mod signals;
pub mod state;
pub mod store;
pub mod streams;
pub mod tcp_app;
#[cfg(test)]
mod testing;
pub mod transport;
pub mod upstream;

pub use state::Relay;
