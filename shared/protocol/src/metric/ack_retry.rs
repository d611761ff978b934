//! Metrics of `ack_retry`.

use super::{Counter, Gauge, Histogram};

/// Label: `attempt` (1, 2, 3, more). A reconnect's counts; one to several devices is one.
pub const TRANSMISSIONS: Counter =
    Counter { name: "pushmesh_ack_retry_transmissions_total", help: "Transmissions of pushes, by attempt." };
/// Label: `outcome` (acked, withdrawn, expired, dead, inbox_full, dropped). Alarm on `dead` and `inbox_full`.
pub const OUTCOMES: Counter =
    Counter { name: "pushmesh_ack_retry_outcomes_total", help: "Pushes that are over, by outcome." };
pub const INBOXED: Counter =
    Counter { name: "pushmesh_ack_retry_inboxed_total", help: "Times a push was kept for its user's next login." };
pub const DUPLICATES: Counter =
    Counter { name: "pushmesh_ack_retry_duplicates_total", help: "Pushes not taken a second time." };
pub const NOTHING_TO_WITHDRAW: Counter = Counter {
    name: "pushmesh_ack_retry_nothing_to_withdraw_total",
    help: "Ends of calls that their login cannot have been told of.",
};
pub const MALFORMED: Counter =
    Counter { name: "pushmesh_ack_retry_malformed_total", help: "Messages and keys that nobody can read, by source." };
pub const OLD_EPOCHS: Counter = Counter {
    name: "pushmesh_ack_retry_old_epoch_pushes_total",
    help: "Pushes made under an older lease than one already seen; delivered all the same.",
};
pub const FENCED: Counter = Counter {
    name: "pushmesh_ack_retry_fenced_total",
    help: "Transmissions a comet refused because it has seen a newer owner.",
};
pub const GONE: Counter = Counter {
    name: "pushmesh_ack_retry_gone_total",
    help: "Transmissions to connections that their comet did not have any more.",
};
pub const KICKS: Counter =
    Counter { name: "pushmesh_ack_retry_kicks_total", help: "Connections closed because a newer one took over." };
pub const TIMEOUTS: Counter =
    Counter { name: "pushmesh_ack_retry_login_timeouts_total", help: "Logins reported offline after their session." };
pub const REPORTS_REFUSED: Counter = Counter {
    name: "pushmesh_ack_retry_reports_refused_total",
    help: "Reports of such ends that login-ingest refused.",
};
pub const UNSENT: Counter = Counter {
    name: "pushmesh_ack_retry_unsent_items_total",
    help: "Items that could not be handed to the connection to NATS.",
};
pub const EFFECT_RETRIES: Counter = Counter {
    name: "pushmesh_ack_retry_effect_retries_total",
    help: "Writes and reports that failed at a try and are tried again.",
};
pub const PENDING: Gauge =
    Gauge { name: "pushmesh_ack_retry_pending_pushes", help: "Pushes not settled, without those in inboxes." };
pub const INBOX: Gauge = Gauge { name: "pushmesh_ack_retry_inbox_pushes", help: "Pushes in inboxes." };
pub const PENDING_BYTES: Gauge =
    Gauge { name: "pushmesh_ack_retry_pending_bytes", help: "Bytes of pushes held in memory." };
pub const SESSIONS: Gauge = Gauge { name: "pushmesh_ack_retry_sessions", help: "Sessions known." };
pub const PARTITIONS: Gauge = Gauge { name: "pushmesh_ack_retry_partitions", help: "Partitions served." };
pub const FULL_PARTITIONS: Gauge = Gauge {
    name: "pushmesh_ack_retry_full_partitions",
    help: "Partitions whose pushes wait in the stream because a bound is reached.",
};
pub const BATCH_ITEMS: Histogram =
    Histogram { name: "pushmesh_ack_retry_batch_items", help: "Items of one batch to a comet." };
pub const ACK_SECONDS: Histogram =
    Histogram { name: "pushmesh_ack_retry_ack_seconds", help: "From a push's making to its acknowledgement." };
pub const LOAD_SECONDS: Histogram =
    Histogram { name: "pushmesh_ack_retry_load_seconds", help: "From a partition's lease to its first push." };
