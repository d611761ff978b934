//! What a process tells of itself: logs on stderr, spans over OTLP, metrics for Prometheus.
//!
//! It consumes `tracing` events, [`span`]s and `metrics`; produces lines on stderr (JSON with trace ids, text on a terminal),
//! batches of spans to a collector (OTLP over gRPC) and one text for a scrape. It owns the process's subscriber, tracer
//! provider and recorder: one of each, made by [`init`].
//!
//! Guarantees: a message whose trace is not sampled costs no span, no allocation and no byte on the wire; whether it is sampled is
//! decided once, where its trace begins. The queue of spans is bounded (2,048, `OTEL_BSP_MAX_QUEUE_SIZE`); beyond it
//! spans are dropped, never messages. Without a collector nothing is traced. Before [`init`], everything here is a no-op.
//!
//! Deliberately not here: metric names (`pushmesh_protocol::metric`), where a context stands in a NATS message (`shared/bus`),
//! logs and metrics over OTLP.
//!
//! Start reading at [`init`] and [`span`].

mod config;
mod init;
mod log;
pub mod metric;
mod process;
pub mod propagate;
pub mod span;

pub use config::{Config, LogFormat};
pub use init::{InitError, LogLevelError, Telemetry, init};
