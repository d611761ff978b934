//! group-push as a process on a real nats-server, as a backend and the distributor see it. What its engine does is tested
//! in `shared/push`.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod another_kind;
mod backend;
mod distributor;
mod example_config;
mod killed;
mod trace;
