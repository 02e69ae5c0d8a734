//! The audit log: one JSON line per record, each bound to the one before by a hash, with signed checkpoints.
//!
//! Whoever can write the file can rewrite what lies after the last checkpoint and nothing before it; a checkpoint
//! kept elsewhere ([`Checkpoint`]) also shows when the end was cut off.

mod ascii;
mod chain;
mod context;
mod entry;
mod record;
mod verify;

pub use ascii::line as json_line;
pub use chain::{Chain, ChainError, CheckpointKey, CheckpointSigner};
pub use context::Context;
pub use entry::{Entry, Replay};
pub use record::{Event, Outcome, Record};
pub use verify::{Broken, Checkpoint, Report, verify};

#[cfg(test)]
mod tests;
