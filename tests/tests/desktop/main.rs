//! The desktop as people use it and as attackers would: the real program in a real window, with a real agent, relay,
//! provider and keyring.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    reason = "tests: an expectation that fails is a test that fails"
)]

mod attacks;
mod day;
mod manners;
mod office;
mod organisations;
mod tray;
