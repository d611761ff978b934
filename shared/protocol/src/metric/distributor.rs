//! Metrics of `distributor`. Where a label is named it is `kind`.

use super::{Counter, Gauge, Histogram};

pub const RECORDS: Counter = Counter {
    name: "pushmesh_distributor_records_total",
    help: "Records of LOGIN that every kind has, or has in LATE.",
};
pub const MALFORMED: Counter =
    Counter { name: "pushmesh_distributor_malformed_total", help: "Messages that were no record: dead letters." };
pub const WAITING: Gauge =
    Gauge { name: "pushmesh_distributor_waiting_records", help: "Records of LOGIN that wait for some kind." };
pub const RECORD_SECONDS: Histogram = Histogram {
    name: "pushmesh_distributor_record_seconds",
    help: "From a record's delivery until every kind has it, or has it in LATE.",
};
/// Label: `kind`.
pub const REQUESTS: Counter =
    Counter { name: "pushmesh_distributor_requests_total", help: "Requests sent to a kind's owners." };
/// Label: `kind`.
pub const SILENT: Counter = Counter {
    name: "pushmesh_distributor_requests_unanswered_total",
    help: "Requests without an answer, or without a readable one.",
};
/// Label: `kind`.
pub const BATCH_RECORDS: Histogram =
    Histogram { name: "pushmesh_distributor_batch_records", help: "Records of one request." };
/// Label: `kind`.
pub const REQUEST_SECONDS: Histogram =
    Histogram { name: "pushmesh_distributor_request_seconds", help: "How long a kind took to answer a request." };
/// Label: `kind`.
pub const LATE_STORED: Counter = Counter {
    name: "pushmesh_distributor_late_stored_total",
    help: "Records that went to LATE: their kind was silent.",
};
/// Label: `kind`.
pub const LATE_DRAINED: Counter =
    Counter { name: "pushmesh_distributor_late_drained_total", help: "Records that their kind took from LATE." };
/// Label: `kind`.
pub const LATE_PARTITIONS: Gauge =
    Gauge { name: "pushmesh_distributor_late_partitions", help: "Partitions whose records go through LATE." };
