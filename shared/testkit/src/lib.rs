//! For tests only: real servers, real processes, and waiting on what is really so.
//!
//! * [`Nats`], [`Cluster`]: nats-server children in directories of their own, to be killed, paused and restarted.
//! * [`wait_for`]: polls a condition up to a deadline and fails with its last reason. There is no sleeping in tests.
//! * [`Process`]: one of our binaries, with its doors, signals and captured log.
//! * [`OtlpStub`]: takes spans over OTLP and hands them to the test.
//! * [`Port`]: one that nobody else is given; [`pushmesh_binary`].
//!
//! **Guarantees**: whatever a test starts ends with its value, also when the test panics or its process dies; all files
//! go with it. A panicking test prints the logs of its children.

mod nats;
mod otlp;
mod port;
mod process;
mod wait;

pub use nats::{Cluster, Nats};
pub use otlp::{OtlpStub, Span};
pub use port::Port;
pub use process::{Process, ProcessOptions, pushmesh_binary};
pub use wait::wait_for;

pub use pushmesh_broker as broker;
