//! The background agent and its CLI: one binary, `postern`.
//!
//! A request's way through here: [`listeners`] accept it and check who asks, [`uplink`] tells the current
//! connection and token, [`link`] carries it to the relay. [`engine`] keeps both of them fresh, by the pure
//! decisions of `postern-agent-core`. [`local_api`] and its [`postern_client`] are how the [`cli`] talks to the agent.

pub mod activity;
mod bundle;
pub mod cli;
pub mod config;
pub mod denials;
pub mod device_key;
pub mod discovery;
mod doctor;
pub mod engine;
pub mod enroll;
#[cfg(test)]
mod forger;
pub mod link;
pub mod listeners;
pub mod local_api;
#[cfg(test)]
mod mock_relay;
pub mod oidc;
mod peer;
pub mod posture;
pub mod recent_log;
pub mod secrets;
mod service;
pub mod settings;
pub mod state_dir;
mod system;
#[cfg(test)]
mod testing;
pub mod uplink;
mod web;
