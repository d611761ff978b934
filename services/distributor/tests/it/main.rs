//! The distributor as a process, on a real nats-server, between a LOGIN that the tests fill and push kinds that the
//! tests play: members that own partitions and answer online batches.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod example_config;
mod kind;
mod mesh;
mod stories;
mod trace;
