//! The relay's decisions, pure: verify, revoke, decide, limit, issue. Time and randomness are arguments.
//!
//! A request meets the modules in this order: [`certificate`] (who calls), [`forward`] (which app, is it well
//! formed), [`token`] (which session), [`access`] (may it, by [`revocation`] and [`policy`]), [`identity`] (what
//! the upstream is told) and [`audit`] (what is kept).

pub mod access;
pub mod app;
pub mod audit;
pub mod certificate;
mod claims;
pub mod forward;
pub mod identity;
pub mod issuance;
pub mod limits;
pub mod logout;
pub mod outside;
pub mod policy;
pub mod principal;
pub mod provider;
pub mod registry;
pub mod revocation;
pub mod signals;
pub mod token;

#[cfg(test)]
extern crate self as postern_relay_core;
#[cfg(test)]
mod fixture;
