//! Every metric of the service.

use metrics::{Counter, Gauge, Histogram};
use pushmesh_protocol::metric::login_ingest as name;
use pushmesh_telemetry::metric;

use crate::record::Field;

/// Where a record came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Grpc,
    Http,
    Bus,
}

impl Door {
    const ALL: [Door; 3] = [Self::Grpc, Self::Http, Self::Bus];

    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Bus => "bus",
        }
    }
}

struct Outcomes {
    accepted: Counter,
    duplicate: Counter,
    refused: Counter,
    unknown: Counter,
}

pub struct Metrics {
    outcomes: [Outcomes; Door::ALL.len()],
    refusals: [Counter; Field::ALL.len()],
    pub waiting: Gauge,
    pub batch_records: Histogram,
    pub store_seconds: Histogram,
}

impl Metrics {
    pub fn new() -> Self {
        let outcome =
            |door: Door, outcome| metric::counter_with(&name::RECORDS, &[("door", door.name()), ("outcome", outcome)]);
        Self {
            outcomes: Door::ALL.map(|door| Outcomes {
                accepted: outcome(door, "accepted"),
                duplicate: outcome(door, "duplicate"),
                refused: outcome(door, "refused"),
                unknown: outcome(door, "unknown"),
            }),
            refusals: Field::ALL.map(|field| metric::counter_with(&name::REFUSALS, &[("field", field.name())])),
            waiting: metric::gauge(&name::WAITING),
            batch_records: metric::histogram(&name::BATCH_RECORDS),
            store_seconds: metric::histogram(&name::STORE_SECONDS),
        }
    }

    pub fn accepted(&self, door: Door, duplicate: bool) {
        let outcomes = &self.outcomes[door as usize];
        if duplicate { outcomes.duplicate.increment(1) } else { outcomes.accepted.increment(1) }
    }

    pub fn refused(&self, door: Door, field: Field) {
        self.outcomes[door as usize].refused.increment(1);
        self.refusals[field as usize].increment(1);
    }

    pub fn unknown(&self, door: Door) {
        self.outcomes[door as usize].unknown.increment(1);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
