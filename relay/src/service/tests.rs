//! The data side as a whole: a real relay on UDP loopback, devices with real certificates, real upstreams.

mod cutting;
mod hostile;
mod http;
mod lapse;
mod policy_diff;
mod refusals;
mod reload;
mod reverify;
mod sharing;
mod step_up;
mod tcp;
mod transport;
mod upstreams;
mod websocket;
mod world;
