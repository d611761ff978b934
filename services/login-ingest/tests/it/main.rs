//! login-ingest as a process, on a real nats-server, through its three doors.

mod auth;
mod bus;
mod example_config;
mod grpc;
mod http;
mod ingest;
mod outage;
