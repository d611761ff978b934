//! What the bench and its load driver's processes say to each other, one JSON object a line.

use std::{net::SocketAddr, path::PathBuf};

use pushmesh_protocol::RoomId;
use serde::{Deserialize, Serialize};

use super::frames::Protocol;
use crate::bench::latency::Counted;

/// What the bench says; each has one answer, when it is done.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Opens connections, and logs in users from `first` on, by keys of `jwks`; with a peer, subscribes. The process' first
    /// `decoders` connections decode everything.
    Connect {
        protocol: Protocol,
        address: SocketAddr,
        first: u64,
        count: u64,
        decoders: u64,
        jwks: Option<PathBuf>,
        within_ms: u64,
    },
    /// Only these CPUs from now on.
    Settle { cpus: Vec<usize> },
    /// The first `count` connections go into a room (pushmesh), and all that is counted is about them.
    Join { room: RoomId, count: u64, within_ms: u64 },
    /// Reads until each has all messages before `until`; nothing is read between two orders.
    Read { until: u64, due: Option<Due>, within_ms: u64 },
}

/// When a message was due: its latency counts from there.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Due {
    pub first: u64,
    /// On the clock of `machine::now`.
    pub start_ns: u64,
    pub period_ns: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Done,
    /// Not everybody got so far in time.
    Failed(String),
    Tally(Tally),
}

/// What the members have got under one order.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tally {
    pub frames: u64,
    pub bytes: u64,
    /// Messages that a later one came instead of, and those that never came.
    pub missing: u64,
    pub duplicated: u64,
    /// Frames that the server said it dropped.
    pub told_missing: u64,
    /// Frames that were decoded whole and were what was sent.
    pub decoded: u64,
    /// Frames that were not what was sent, and what else is not of the bench.
    pub spoilt: u64,
    pub foreign: u64,
    pub trouble: Option<String>,
    /// From the first byte read to the last.
    pub first_ns: u64,
    pub last_ns: u64,
    pub latencies: Counted,
}
