//! Metrics of `login_ingest`.

use super::{Counter, Gauge, Histogram};

/// Labels: `door` (grpc, http, bus), `outcome` (accepted, duplicate, refused, unknown).
pub const RECORDS: Counter =
    Counter { name: "pushmesh_login_ingest_records_total", help: "Records answered, by door and outcome." };
/// Label: `field`.
pub const REFUSALS: Counter =
    Counter { name: "pushmesh_login_ingest_refusals_total", help: "Records refused, by the field at fault." };
pub const WAITING: Gauge =
    Gauge { name: "pushmesh_login_ingest_waiting_records", help: "Records that wait to be stored." };
pub const BATCH_RECORDS: Histogram =
    Histogram { name: "pushmesh_login_ingest_batch_records", help: "Records stored at once." };
pub const STORE_SECONDS: Histogram =
    Histogram { name: "pushmesh_login_ingest_store_seconds", help: "How long a batch took to be stored." };
