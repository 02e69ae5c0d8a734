//! The harness of the end-to-end tests: it starts the real relay and agent beside the real things they meet
//! (an OpenID provider, a Secret Service, nginx, PostgreSQL) and stand-ins for those that have to misbehave.
//!
//! A test makes a [`World`], starts in it what it needs, and drives it as a person or an attacker would. Every
//! process belongs to the value that started it and ends with it; every wait has a deadline; every port comes from
//! the operating system. When a test fails, the world prints the tail of each process's output.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    reason = "a harness: an expectation that fails here is a test that fails"
)]

pub mod agent;
pub mod browser;
pub mod certificate;
pub mod client;
pub mod desktop;
pub mod device;
pub mod forge;
pub mod glewlwyd;
pub mod keyring;
pub mod nginx;
pub mod odd;
pub mod postgres;
pub mod process;
pub mod provider;
pub mod quic;
pub mod relay;
pub mod screen;
pub mod secrets;
pub mod server;
pub mod stand_in;
pub mod stand_in_agent;
pub mod tray;
pub mod upstream;
pub mod wait;
pub mod webdriver;
pub mod world;

pub use agent::Agent;
pub use browser::Browser;
pub use client::Reply;
pub use desktop::Desktop;
pub use device::Device;
pub use glewlwyd::Glewlwyd;
pub use keyring::Keyring;
pub use provider::Provider;
pub use quic::Quic;
pub use relay::{App, Relay, Settings};
pub use screen::Screen;
pub use stand_in::StandIn;
pub use tray::Tray;
pub use upstream::Upstream;
pub use wait::{SHORT, WAIT, eventually};
pub use webdriver::Window;
pub use world::World;
