//! Every metric of the service.
//!
//! A shard counts in plain integers of its own and publishes them four times a second: no atomic is shared on the way
//! of a delivery.

use metrics::{Counter, Gauge, Histogram};
use pushmesh_protocol::metric::comet as names;
use pushmesh_telemetry::metric::{counter, counter_with, gauge, gauge_with, histogram};

use crate::{
    close::CloseReason,
    lane::{Class, DropReason, Drops},
};

/// What one shard counted since it last published.
#[derive(Debug, Default)]
pub struct Tally {
    pub frames_in: u64,
    pub frames_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub writes: u64,
    pub drops: Drops,
    pub acks_dropped: u64,
    pub undelivered: u64,
}

/// A shard's handles.
#[derive(Debug, Clone)]
pub struct ShardMetrics {
    frames_in: Counter,
    frames_out: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
    writes: Counter,
    acks_dropped: Counter,
    undelivered: Counter,
    connections_websocket: Gauge,
    connections_tcp: Gauge,
    backlog_bytes: Gauge,
    pub delivery: Histogram,
    pub accept_errors: Counter,
}

impl Default for ShardMetrics {
    fn default() -> Self {
        Self {
            frames_in: counter(&names::FRAMES_IN),
            frames_out: counter(&names::FRAMES_OUT),
            bytes_in: counter(&names::BYTES_IN),
            bytes_out: counter(&names::BYTES_OUT),
            writes: counter(&names::WRITES),
            acks_dropped: counter(&names::ACKS_DROPPED),
            undelivered: counter(&names::UNDELIVERED),
            connections_websocket: gauge_with(&names::CONNECTIONS, &[("transport", "websocket")]),
            connections_tcp: gauge_with(&names::CONNECTIONS, &[("transport", "tcp")]),
            backlog_bytes: gauge(&names::BACKLOG_BYTES),
            delivery: histogram(&names::DELIVERY),
            accept_errors: counter(&names::ACCEPT_ERRORS),
        }
    }
}

impl ShardMetrics {
    pub fn publish(&self, tally: &mut Tally) {
        let tally = std::mem::take(tally);
        for (counter, count) in [
            (&self.frames_in, tally.frames_in),
            (&self.frames_out, tally.frames_out),
            (&self.bytes_in, tally.bytes_in),
            (&self.bytes_out, tally.bytes_out),
            (&self.writes, tally.writes),
            (&self.acks_dropped, tally.acks_dropped),
            (&self.undelivered, tally.undelivered),
        ] {
            if count > 0 {
                counter.increment(count);
            }
        }
        for (class, reason, count) in tally.drops.each().filter(|(_, _, count)| *count > 0) {
            dropped(class, reason).increment(count);
        }
    }

    pub fn connected(&self, transport: &'static str) {
        self.connections(transport).increment(1.0);
    }

    pub fn disconnected(&self, transport: &'static str) {
        self.connections(transport).decrement(1.0);
    }

    pub fn backlog_changed(&self, bytes: f64) {
        self.backlog_bytes.increment(bytes);
    }

    pub fn closed(&self, reason: &CloseReason) {
        counter_with(&names::CLOSED, &[("reason", reason.label())]).increment(1);
    }

    fn connections(&self, transport: &'static str) -> &Gauge {
        if transport == "tcp" { &self.connections_tcp } else { &self.connections_websocket }
    }
}

fn dropped(class: Class, reason: DropReason) -> Counter {
    counter_with(&names::DROPPED, &[("class", class.name()), ("reason", reason.name())])
}

/// Counts a login by its outcome.
pub fn login(outcome: &'static str) {
    counter_with(&names::LOGINS, &[("outcome", outcome)]).increment(1);
}

/// Counts a question by its kind and outcome.
pub fn question(kind: &'static str, outcome: &'static str) {
    counter_with(&names::QUESTIONS, &[("kind", kind), ("outcome", outcome)]).increment(1);
}
