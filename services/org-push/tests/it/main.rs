//! org-push as a process on a real nats-server, as a backend sees it. What its engine does is tested in `shared/push`.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod backend;
mod example_config;
