//! What agent, relay and desktop share: names, times, messages and the one table of error codes.
//!
//! Nothing here does IO, reads a clock or draws randomness; every type that comes from the network
//! validates itself while it is deserialized, so a value that exists is a value that is well formed.

pub mod binding;
pub mod code;
pub mod control;
pub mod discovery;
pub mod headers;
pub mod id;
pub mod local;
pub mod problem;
pub mod spiffe;
pub mod time;
#[cfg(test)]
mod typescript;

pub use code::{Code, Fault, Retry};
pub use id::{AppName, DecisionId, DeviceId, SessionId};
pub use problem::{Problem, StepUp};
pub use spiffe::{SpiffeId, TrustDomain};
pub use time::Timestamp;

/// ALPN protocol of the QUIC transport.
pub const ALPN_QUIC: &[u8] = b"postern/1";

/// Most bytes a request's or an answer's header section may take, after decoding.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Most bytes of a control message (enrolment, session, discovery, local API).
pub const MAX_CONTROL_BYTES: usize = 64 * 1024;
