//! The protocol as other implementations see it.

mod bombs;
mod golden;
mod names;
mod properties;
mod samples;
