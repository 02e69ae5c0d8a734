//! The machine against a world that answers, fails, is silent, sleeps and sets clocks back as it likes.

mod again;
mod properties;
mod stories;
mod world;
