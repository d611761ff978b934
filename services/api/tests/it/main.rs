//! api as a process, twice, on a real nats-server, over real HTTP and gRPC.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod auth;
mod bad_input;
mod example_config;
mod gifts;
mod grpc;
mod likes;
mod limits;
mod mesh;
mod messages;
mod online;
mod openapi;
mod order;
mod outage;
mod peers;
mod pushes;
mod reading;
mod trace;
