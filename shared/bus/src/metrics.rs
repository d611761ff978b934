//! Every metric of this crate.

use metrics::{Counter, Gauge, Histogram};
use pushmesh_protocol::metric::bus as names;
use pushmesh_telemetry::metric::{counter, gauge, histogram};

/// Handles are made once a connection: counting is an atomic add.
pub(crate) struct Metrics {
    pub stored: Counter,
    pub duplicates: Counter,
    pub store_retries: Counter,
    pub store_refused: Counter,
    pub batches: Counter,
    pub batch_fallbacks: Counter,
    pub held_bytes: Gauge,
    pub store_seconds: Histogram,
    pub ack_timeouts: Counter,
    pub api_seconds: Histogram,
    pub api_wait_seconds: Histogram,
    pub forced_reconnects: Counter,
    pub reconnects: Counter,
    pub slow_consumer_events: Counter,
    pub permission_violations: Counter,
    pub acks_dropped: Counter,
    pub watch_restarts: Counter,
    pub pins_lost: Counter,
    pub dead_letters: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            stored: counter(&names::STORED),
            duplicates: counter(&names::DUPLICATES),
            store_retries: counter(&names::STORE_RETRIES),
            store_refused: counter(&names::STORE_REFUSED),
            batches: counter(&names::BATCHES),
            batch_fallbacks: counter(&names::BATCH_FALLBACKS),
            held_bytes: gauge(&names::HELD_BYTES),
            store_seconds: histogram(&names::STORE_SECONDS),
            ack_timeouts: counter(&names::ACK_TIMEOUTS),
            api_seconds: histogram(&names::API_SECONDS),
            api_wait_seconds: histogram(&names::API_WAIT_SECONDS),
            forced_reconnects: counter(&names::FORCED_RECONNECTS),
            reconnects: counter(&names::RECONNECTS),
            slow_consumer_events: counter(&names::SLOW_CONSUMER_EVENTS),
            permission_violations: counter(&names::PERMISSION_VIOLATIONS),
            acks_dropped: counter(&names::ACKS_DROPPED),
            watch_restarts: counter(&names::WATCH_RESTARTS),
            pins_lost: counter(&names::PINS_LOST),
            dead_letters: counter(&names::DEAD_LETTERS),
        }
    }
}
