//! ack-retry against a real nats-server. Comets are played by the test, over the bus, as comets speak.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod bounds;
mod config;
mod doors;
mod mesh;
mod owners;
mod sessions;
mod stories;
mod trace;
