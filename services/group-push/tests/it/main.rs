//! group-push as a process on a real nats-server, as a backend and the distributor see it. What its engine does is tested
//! in `shared/push`.

mod another_kind;
mod backend;
mod distributor;
mod example_config;
mod killed;
mod trace;
