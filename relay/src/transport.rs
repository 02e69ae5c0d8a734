//! How device connections come in. The service behind them does not know which transport carries it: it gets a
//! verified device, a byte stream and a [`Cut`] by which the stream can be ended.

mod cut;
mod guard;
mod quic;
mod raw;
mod reset;
mod stream;
mod tls;

pub use cut::{Cut, Use, Valve};
pub use guard::{Guarded, Verdict};
pub use quic::{BindError, Bound, bind};
pub(crate) use raw::Raw;
pub use reset::ResetKey;
pub use stream::{QuicStream, Receiving, Sending};
pub use tls::{Tls, TlsError};
