//! The comet from outside: real sockets, and a mesh that is either the test itself or a real nats-server.

#![allow(clippy::unwrap_used, reason = "a test says by its panic what went wrong")]

mod bombs;
mod config;
mod conformance;
mod crowd;
mod doors;
mod goodbye;
mod harness;
mod limits;
mod live;
mod mesh;
mod others;
mod proxy;
mod relay;
mod rooms;
mod slow;
mod stories;
mod storm;
mod unheard;
mod whereabouts;
