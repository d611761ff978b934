//! Every metric of the service.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram};
use pushmesh_protocol::{
    message::DeadReason,
    metric::room_fanout as name,
    room::{RoomBatch, RoomClass},
};
use pushmesh_telemetry::metric;

use crate::room::{NotRecovered, Source, Tally};

pub struct Metrics {
    applied: [Counter; 4],
    likes: Counter,
    repeated: Counter,
    muted: Counter,
    malformed: [Counter; 5],
    pub malformed_asks: Counter,
    pub malformed_presence: Counter,
    pub malformed_standing: Counter,
    dead_malformed: Counter,
    dead_rejected: Counter,
    pub dead_dropped: Counter,
    pub missing: Counter,
    batches: [Counter; 3],
    frames: [Counter; 3],
    bytes: [Counter; 3],
    unsent: [Counter; 3],
    pub gift_seconds: Histogram,
    joins: Counter,
    recovered: Counter,
    not_recovered: Counter,
    pub not_ready: Counter,
    not_recovered_by: [Counter; NotRecovered::ALL.len()],
    pub history_seconds: Histogram,
    pub rankings_dropped: Counter,
    pub records_written: Counter,
    pub write_retries: Counter,
    pub write_seconds: Histogram,
    pub load_seconds: Histogram,
    pub foreign: Counter,
    pub unreadable_records: Counter,
    cuts: Counter,
    merges: Counter,
    lives_forgotten: Counter,
    fell_asleep: Counter,
    woken: Counter,
    forgotten: Counter,
    pub standing_behind: Counter,
    partitions: Gauge,
    awake: Gauge,
    asleep: Gauge,
}

impl Metrics {
    pub fn new() -> Self {
        let by_source = |name, source| metric::counter_with(name, &[("source", source)]);
        let by_class = |name| RoomClass::ALL.map(|class| metric::counter_with(name, &[("class", class.name())]));
        let asks = |outcome| metric::counter_with(&name::ASKS, &[("outcome", outcome)]);
        let dead = |reason: DeadReason| metric::counter_with(&name::DEAD, &[("reason", reason.token())]);
        Self {
            applied: ["gift", "chat", "event", "note"].map(|source| by_source(&name::APPLIED, source)),
            likes: metric::counter(&name::LIKES),
            repeated: metric::counter(&name::REPEATED),
            muted: metric::counter(&name::MUTED),
            malformed: ["gift", "chat", "event", "like", "note"].map(|source| by_source(&name::MALFORMED, source)),
            malformed_asks: by_source(&name::MALFORMED, "ask"),
            malformed_presence: by_source(&name::MALFORMED, "presence"),
            malformed_standing: by_source(&name::MALFORMED, "bucket"),
            dead_malformed: dead(DeadReason::Malformed),
            dead_rejected: dead(DeadReason::Rejected),
            dead_dropped: metric::counter(&name::DEAD_DROPPED),
            missing: metric::counter(&name::MISSING),
            batches: by_class(&name::BATCHES),
            frames: by_class(&name::FRAMES),
            bytes: by_class(&name::BYTES),
            unsent: by_class(&name::UNSENT),
            gift_seconds: metric::histogram(&name::GIFT_SECONDS),
            joins: asks("joined"),
            recovered: asks("recovered"),
            not_recovered: asks("not_recovered"),
            not_ready: asks("not_ready"),
            not_recovered_by: NotRecovered::ALL
                .map(|why| metric::counter_with(&name::NOT_RECOVERED, &[("reason", why.name())])),
            history_seconds: metric::histogram(&name::HISTORY_SECONDS),
            rankings_dropped: metric::counter(&name::RANKINGS_DROPPED),
            records_written: metric::counter(&name::RECORDS_WRITTEN),
            write_retries: metric::counter(&name::WRITE_RETRIES),
            write_seconds: metric::histogram(&name::WRITE_SECONDS),
            load_seconds: metric::histogram(&name::LOAD_SECONDS),
            foreign: metric::counter(&name::FOREIGN),
            unreadable_records: metric::counter(&name::UNREADABLE_RECORDS),
            cuts: metric::counter(&name::CUTS),
            merges: metric::counter(&name::MERGES),
            lives_forgotten: metric::counter(&name::LIVES_FORGOTTEN),
            fell_asleep: metric::counter(&name::FELL_ASLEEP),
            woken: metric::counter(&name::WOKEN),
            forgotten: metric::counter(&name::FORGOTTEN),
            standing_behind: metric::counter(&name::STANDING_BEHIND),
            partitions: metric::gauge(&name::PARTITIONS),
            awake: metric::gauge(&name::ROOMS),
            asleep: metric::gauge(&name::ROOMS_ASLEEP),
        }
    }

    pub fn malformed(&self, source: Source) {
        self.malformed[source as usize].increment(1);
    }

    pub fn dead(&self, reason: DeadReason) {
        match reason {
            DeadReason::Malformed => &self.dead_malformed,
            _ => &self.dead_rejected,
        }
        .increment(1);
    }

    pub fn told(&self, batch: &RoomBatch, was_sent: bool) {
        let class = batch.class as usize;
        if !was_sent {
            self.unsent[class].increment(1);
            return;
        }
        self.batches[class].increment(1);
        self.frames[class].increment(batch.frames.len() as u64);
        self.bytes[class].increment(batch.frames.iter().map(|frame| frame.frame.len() as u64).sum());
    }

    /// What the rooms of a partition did since it was taken last.
    pub fn tally(&self, tally: &Tally) {
        for (counter, count) in self.not_recovered_by.iter().zip(tally.not_recovered) {
            counter.increment(count);
        }
        let counts = [tally.gifts, tally.chats, tally.events, tally.notes];
        for (counter, count) in self.applied.iter().zip(counts) {
            counter.increment(count);
        }
        for (counter, count) in [
            (&self.likes, tally.likes),
            (&self.repeated, tally.repeated),
            (&self.muted, tally.muted),
            (&self.joins, tally.joins),
            (&self.recovered, tally.recovered),
            (&self.not_recovered, tally.not_recovered.iter().sum()),
            (&self.cuts, tally.cuts),
            (&self.merges, tally.merges),
            (&self.lives_forgotten, tally.lives_forgotten),
            (&self.fell_asleep, tally.fell_asleep),
            (&self.woken, tally.woken),
            (&self.forgotten, tally.forgotten),
        ] {
            counter.increment(count);
        }
    }
}

/// What one partition holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    pub awake: usize,
    pub asleep: usize,
}

/// One partition's part of the gauges; dropped, it is taken back.
pub struct Holding {
    metrics: Arc<Metrics>,
    held: Held,
}

impl Holding {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        metrics.partitions.increment(1.0);
        Self { metrics, held: Held::default() }
    }

    pub fn set(&mut self, new: Held) {
        let old = std::mem::replace(&mut self.held, new);
        let moved = |gauge: &Gauge, from: usize, to: usize| {
            if from != to {
                gauge.increment(to as f64 - from as f64);
            }
        };
        moved(&self.metrics.awake, old.awake, new.awake);
        moved(&self.metrics.asleep, old.asleep, new.asleep);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.set(Held::default());
        self.metrics.partitions.decrement(1.0);
    }
}
