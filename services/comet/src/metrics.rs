//! Every metric of the service.
//!
//! A shard counts in plain integers of its own and publishes them four times a second: no atomic is shared on the way
//! of a delivery.

use metrics::{Counter, Gauge, Histogram};
use pushmesh_protocol::metric::comet as names;
use pushmesh_telemetry::metric::{counter, counter_with, gauge, gauge_with, histogram};

use crate::{
    backlog::Sent,
    close::CloseReason,
    lane::{Class, Drops, Outgoing},
};

/// What one shard counted since it last published.
#[derive(Debug, Default)]
pub struct Tally {
    pub frames_in: u64,
    pub frames_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub writes: u64,
    /// Of frames for one connection.
    pub drops: Drops,
    /// Of frames for all of a room's members here.
    pub room_drops: Drops,
    /// Frames of rooms that sockets took, by class.
    pub room_deliveries: [u64; Class::ALL.len()],
    pub acks_dropped: u64,
    pub undelivered: u64,
}

impl Tally {
    /// A socket took these frames, and `bytes`.
    pub fn sent(&mut self, frames: &[Outgoing], bytes: usize) {
        self.bytes_out += bytes as u64;
        let mut sent = Sent::default();
        frames.iter().for_each(|frame| sent.count(frame));
        self.count(&sent);
    }

    /// A socket took these.
    pub fn count(&mut self, sent: &Sent) {
        self.frames_out += sent.frames;
        for (all, frames) in self.room_deliveries.iter_mut().zip(sent.of_rooms) {
            *all += frames;
        }
    }
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
    room_deliveries: [Counter; Class::ALL.len()],
    room_members: Gauge,
    pub room_pass: Histogram,
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
            room_deliveries: Class::ALL.map(|class| counter_with(&names::ROOM_DELIVERIES, &[("class", class.name())])),
            room_members: gauge(&names::ROOM_MEMBERS),
            room_pass: histogram(&names::ROOM_PASS),
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
        for (counter, count) in self.room_deliveries.iter().zip(tally.room_deliveries).filter(|(_, count)| *count > 0) {
            counter.increment(count);
        }
        for (name, drops) in [(&names::DROPPED, &tally.drops), (&names::ROOM_DROPPED, &tally.room_drops)] {
            for (class, reason, count) in drops.each().filter(|(_, _, count)| *count > 0) {
                counter_with(name, &[("class", class.name()), ("reason", reason.name())]).increment(count);
            }
        }
    }

    pub fn members_changed(&self, members: f64) {
        self.room_members.increment(members);
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

/// Counts a login by its outcome.
pub fn login(outcome: &'static str) {
    counter_with(&names::LOGINS, &[("outcome", outcome)]).increment(1);
}

/// Counts a question by its kind and outcome.
pub fn question(kind: &'static str, outcome: &'static str) {
    counter_with(&names::QUESTIONS, &[("kind", kind), ("outcome", outcome)]).increment(1);
}

/// Counts a JOIN by its outcome.
pub fn join(outcome: &'static str) {
    counter_with(&names::ROOM_JOINS, &[("outcome", outcome)]).increment(1);
}

pub fn room_ask(outcome: &'static str) {
    counter_with(&names::ROOM_ASKS, &[("outcome", outcome)]).increment(1);
}
