//! What came of a load.

use std::fmt;

use serde::Serialize;

use super::{
    flow::Flowed,
    hall::{ClassSeen, Group},
    mix::Mix,
    tally::Class,
};
use crate::bench::{
    latency::{Latencies, rounded},
    load::Load,
    scrape::Counters,
};

/// One run.
pub struct Taken {
    pub mix: Mix,
    /// Nothing queued up, and all was accepted.
    pub held: bool,
    /// Into how many the room was cut in the end.
    pub parts: u16,
    pub classes: [ClassTaken; Class::ALL.len()],
    pub groups: [Group; super::audience::GROUPS],
    /// Connections that broke and came again since the bench began.
    pub broken: u64,
    pub trouble: Option<String>,
    pub load: Load,
    /// The comet's, before and after.
    pub before: Counters,
    pub after: Counters,
}

/// Of a class; the keys are a contract. `offered` and `accepted` are messages; the others count each for each client.
#[derive(Debug, Clone, Serialize)]
pub struct ClassTaken {
    pub offered: u64,
    pub accepted: u64,
    pub delivered: u64,
    /// Likes that came in a sum with others.
    pub merged: u64,
    /// Of those delivered: dropped on their way, and asked for again; of class low: frames that were dropped.
    pub dropped: u64,
    /// Accepted, and never seen.
    pub lost: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    /// Of what was offered: refused by api, not sent in time, or never answered.
    pub refused: u64,
    pub unsent: u64,
    pub unanswered: u64,
}

impl ClassTaken {
    pub fn new(flowed: &Flowed, seen: &ClassSeen, expected: u64, dropped: u64) -> Self {
        let Latency { p50_ms, p99_ms, p999_ms } = Latency::of(&seen.latencies);
        Self {
            offered: flowed.offered,
            accepted: flowed.accepted,
            delivered: seen.delivered,
            merged: seen.merged,
            dropped,
            lost: expected.saturating_sub(seen.delivered + seen.merged),
            p50_ms,
            p99_ms,
            p999_ms,
            refused: flowed.refused,
            unsent: flowed.unsent,
            unanswered: flowed.unanswered,
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
}

impl Latency {
    pub fn of(latencies: &Latencies) -> Self {
        let at = |share| latencies.percentile_ms(share);
        Self { p50_ms: at(0.5), p99_ms: at(0.99), p999_ms: at(0.999) }
    }
}

impl Flowed {
    /// All that was offered was accepted.
    pub fn is_whole(&self) -> bool {
        self.refused == 0 && self.unsent == 0 && self.unanswered == 0
    }
}

impl Taken {
    pub fn class(&self, class: Class) -> &ClassTaken {
        &self.classes[class as usize]
    }

    /// How much one of the comet's counters grew.
    pub fn counted(&self, name: &str, label: &str) -> u64 {
        self.after.sum(name, label).saturating_sub(self.before.sum(name, label))
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mix { gift, high, normal, low } = self.mix;
        let all = gift + high + normal + low;
        let held = if self.held { "held" } else { "did not hold" };
        write!(f, "{all:.0}/s: {held}, {} parts", self.parts)?;
        for (name, class) in NAMES.into_iter().zip(&self.classes).filter(|(_, class)| class.offered > 0) {
            let ClassTaken { offered, accepted, p50_ms, p99_ms, lost, dropped, .. } = class;
            write!(f, "; {name} {accepted} of {offered}, p50 {p50_ms:.0} p99 {p99_ms:.0} ms")?;
            if *lost + *dropped > 0 {
                write!(f, ", lost {lost}, dropped {dropped}")?;
            }
        }
        let Load { idle, generator_share, lag_p99_ms, .. } = self.load;
        write!(
            f,
            "; idle {:.0} %, generator {:.0} %, {} ms late",
            idle * 100.0,
            generator_share * 100.0,
            rounded(lag_p99_ms)
        )?;
        let cpu = self.load.service_cpu_s.iter().filter(|(_, seconds)| **seconds > 0.5);
        for (name, seconds) in cpu {
            write!(f, ", {name} {seconds:.1} s")?;
        }
        if let Some(bottleneck) = &self.load.bottleneck {
            write!(f, "; {bottleneck}")?;
        }
        if self.broken > 0 {
            write!(f, "; {} connections broke so far", self.broken)?;
        }
        match &self.trouble {
            Some(trouble) => write!(f, "; {trouble}"),
            None => Ok(()),
        }
    }
}

pub const NAMES: [&str; Class::ALL.len()] = ["gift", "high", "normal", "low"];
