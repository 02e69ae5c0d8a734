//! The agent's decisions, pure: in which state it is, what to renew when, what a refusal means, who may use a listener.
//!
//! Time and randomness are arguments; nothing here does IO. [`Machine::handle`] takes an event and says what the shell
//! is to do; [`Machine::next_deadline`] says when it wants to be asked again. The same events give the same effects.

pub mod backoff;
mod duty;
mod event;
pub mod guard;
mod lapse;
mod live;
mod machine;
pub mod renewal;
mod resting;
mod sign_in;
mod step_up;
mod turn;
mod upkeep;
mod verdict;

pub use event::{Account, Answer, Effect, Ending, Event, Moment, Task, Ticket, Tokens, Validity};
pub use machine::Machine;
pub use step_up::{BY_HAND, FOR_SERVICE};
