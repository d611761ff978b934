//! One `main` for all services: configuration, lifecycle, admin port, gRPC doors, shutdown in two stages.
//!
//! It consumes flags, a file, the environment and signals; produces a running [`Service`] with a [`Context`]: connected to
//! NATS, joined to the mesh, its doors announced once it is ready. It owns the process's start and end.
//!
//! Guarantees: a service is ready when every [`Latch`] is dropped, and at no other time. The end goes in one order, within the
//! grace period: not ready, `drain` token, [`Service::drain`], tracked tasks, leaving the mesh, draining NATS, the last
//! spans. The end of the grace period or a second signal cancels `stop`, and the process ends at once.
//! Exit codes: 0 clean, 1 fatal, 2 usage, 69 a dependency is away past its deadline, or NATS at the end, 78 bad configuration.
//! A door's answers reach whoever reads them: a connection is never reset under a caller who still writes. Who says nothing
//! keeps no place at a door.
//! SIGHUP reads the settings again: keys and log level change at once, the rest is named and waits for the next start.
//!
//! Deliberately not here: what a service does, restarts (a supervisor's work), metrics of services.
//!
//! Start reading at [`Service`], then [`run()`].

mod accept;
mod admin;
mod cli;
mod connection;
mod context;
mod contracts;
mod error;
mod grpc;
mod opening;
mod readiness;
mod reload;
mod run;
mod service;
mod settings;
mod shutdown;

pub use cli::{main, main_with_args};
pub use connection::Caller;
pub use context::Context;
pub use contracts::Contracts;
pub use error::BootError;
pub use grpc::{CONNECTIONS_MAX, HEADERS_MAX_BYTES, MESSAGE_MAX_BYTES, STREAMS_MAX};
pub use pushmesh_config::FieldError;
pub use readiness::{Latch, Readiness};
pub use run::{Control, Doors, run};
pub use service::{Service, ServiceConfig};
pub use settings::{AdminConfig, Common, DoorConfig, DoorsConfig, MeshConfig, Settings, ShutdownConfig};
pub use shutdown::Shutdown;

/// Version and revision: what `--version` and `/buildinfo` say.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The revision it was built from, if the build named it in `PUSHMESH_REVISION`.
pub const REVISION: &str = match option_env!("PUSHMESH_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
