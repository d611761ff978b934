//! The comet from outside: real sockets, and a mesh that is either the test itself or a real nats-server.

#![allow(clippy::unwrap_used, reason = "a test says by its panic what went wrong")]

mod bombs;
mod config;
mod doors;
mod harness;
mod limits;
mod mesh;
mod slow;
mod stories;
