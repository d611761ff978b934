//! The engine on a real nats-server: what a distributor says, what backends ask, and what PUSH holds afterwards.

mod mesh;
mod outage;
mod race;
mod rpc;
mod stories;
mod takeover;
