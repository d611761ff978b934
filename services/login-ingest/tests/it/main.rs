//! login-ingest as a process, on a real nats-server, through its three doors.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod auth;
mod bus;
mod ends;
mod example_config;
mod grpc;
mod http;
mod ingest;
mod outage;
mod trace;
