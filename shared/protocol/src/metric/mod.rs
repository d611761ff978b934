//! Names of metrics: one file for each crate that exports some.
//!
//! Names read `pushmesh_<crate>_<what>_<unit>`; counters end in `_total`; units are base units (seconds, bytes).
//! No label takes a user, room or id.

pub mod ack_retry;
pub mod api;
pub mod boot;
pub mod bus;
pub mod comet;
pub mod distributor;
pub mod login_ingest;
pub mod membership;
pub mod push;
pub mod room_fanout;

/// Only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    pub name: &'static str,
    pub help: &'static str,
}

/// Goes up and down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauge {
    pub name: &'static str,
    pub help: &'static str,
}

/// A distribution, in seconds or bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    pub name: &'static str,
    pub help: &'static str,
}
