//! The protocol as other implementations see it.

// In a test an unwrap is an assertion.
#![allow(clippy::unwrap_used)]

mod bombs;
mod golden;
mod names;
mod properties;
mod samples;
