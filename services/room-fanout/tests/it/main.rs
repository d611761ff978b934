//! room-fanout against a real nats-server. api, comets and their clients are played by the test, over the bus, by the rules.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod config;
mod failing;
mod heavy;
mod hidden;
mod joins;
mod likes;
mod lost;
mod mesh;
mod over;
mod owners;
mod parts;
mod quiet;
mod rankings;
mod records;
mod refused;
mod server;
mod standing;
mod stories;
mod trace;
mod viewer;
