//! The engine on a real nats-server: what a distributor says, what backends ask, and what PUSH holds afterwards.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod mesh;
mod outage;
mod race;
mod rpc;
mod stories;
mod takeover;
