//! Every metric of the service.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use pushmesh_protocol::{Kind, metric::distributor as name};
use pushmesh_telemetry::metric;

use crate::machine::KindIndex;

pub struct Metrics {
    pub records: Counter,
    pub malformed: Counter,
    pub waiting: Gauge,
    pub record_seconds: Histogram,
    kinds: Vec<OfKind>,
}

/// One kind's.
pub struct OfKind {
    pub requests: Counter,
    pub silent: Counter,
    pub batch_records: Histogram,
    pub request_seconds: Histogram,
    pub late_stored: Counter,
    pub late_drained: Counter,
    pub late_partitions: Gauge,
}

impl Metrics {
    pub fn new(kinds: &[Kind]) -> Self {
        Self {
            records: metric::counter(&name::RECORDS),
            malformed: metric::counter(&name::MALFORMED),
            waiting: metric::gauge(&name::WAITING),
            record_seconds: metric::histogram(&name::RECORD_SECONDS),
            kinds: kinds.iter().map(OfKind::new).collect(),
        }
    }

    pub fn kind(&self, kind: KindIndex) -> &OfKind {
        &self.kinds[kind]
    }
}

impl OfKind {
    fn new(kind: &Kind) -> Self {
        let labels = [("kind", kind.as_str())];
        Self {
            requests: metric::counter_with(&name::REQUESTS, &labels),
            silent: metric::counter_with(&name::SILENT, &labels),
            batch_records: metric::histogram_with(&name::BATCH_RECORDS, &labels),
            request_seconds: metric::histogram_with(&name::REQUEST_SECONDS, &labels),
            late_stored: metric::counter_with(&name::LATE_STORED, &labels),
            late_drained: metric::counter_with(&name::LATE_DRAINED, &labels),
            late_partitions: metric::gauge_with(&name::LATE_PARTITIONS, &labels),
        }
    }

    pub fn requested(&self, records: usize) {
        self.requests.increment(1);
        self.batch_records.record(records as f64);
    }

    pub fn answered(&self, after: Duration, well: bool) {
        self.request_seconds.record(after.as_secs_f64());
        if !well {
            self.silent.increment(1);
        }
    }
}
