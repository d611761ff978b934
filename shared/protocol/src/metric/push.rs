//! Metrics of `push`, the engine of every push kind. Each has the label `kind`.

use super::{Counter, Gauge, Histogram};

/// Label: `outcome` (evaluated, overtaken, stale, fenced, not_mine, failed).
pub const RECORDS: Counter =
    Counter { name: "pushmesh_push_records_total", help: "Login records of online batches, by outcome." };
/// Batches that could not be read, or came while too many waited.
pub const BATCHES_REFUSED: Counter =
    Counter { name: "pushmesh_push_batches_refused_total", help: "Online batches refused as a whole, by reason." };
pub const PUSHES: Counter =
    Counter { name: "pushmesh_push_pushes_total", help: "Pushes of calls stored in PUSH, repeated ones included." };
pub const WITHDRAWALS: Counter =
    Counter { name: "pushmesh_push_withdrawals_total", help: "Withdrawals of calls stored in PUSH." };
pub const LOGINS_ENDED: Counter =
    Counter { name: "pushmesh_push_logins_ended_total", help: "Ends of logins stored in PUSH." };
pub const DUPLICATES: Counter =
    Counter { name: "pushmesh_push_duplicates_total", help: "Messages that PUSH had already." };
pub const STORE_FAILURES: Counter =
    Counter { name: "pushmesh_push_store_failures_total", help: "Messages that could not be stored at a try." };
pub const MALFORMED: Counter = Counter {
    name: "pushmesh_push_malformed_total",
    help: "Messages skipped because nobody can read them, by source.",
};
pub const LOGINS: Gauge = Gauge { name: "pushmesh_push_logins", help: "Online logins held." };
pub const MEMBERSHIPS: Gauge = Gauge { name: "pushmesh_push_memberships", help: "Memberships held." };
pub const ACTIVE_CALLS: Gauge = Gauge { name: "pushmesh_push_active_calls", help: "Active calls known." };
pub const OUTBOX: Gauge = Gauge { name: "pushmesh_push_outbox_messages", help: "Messages that wait to be stored." };
pub const PARTITIONS: Gauge = Gauge { name: "pushmesh_push_partitions", help: "Partitions served." };
pub const EVALUATE_SECONDS: Histogram = Histogram {
    name: "pushmesh_push_evaluate_seconds",
    help: "From an online batch's arrival at its partition to its answer.",
};
pub const LOAD_SECONDS: Histogram =
    Histogram { name: "pushmesh_push_load_seconds", help: "From a partition's lease to its first answer." };
pub const DISSOLVED: Counter = Counter {
    name: "pushmesh_push_dissolved_total",
    help: "Memberships removed because their last call ended long ago.",
};
