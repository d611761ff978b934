//! discuss-push as a process on a real nats-server, as a backend sees it. What its engine does is tested in `shared/push`.

mod backend;
mod example_config;
