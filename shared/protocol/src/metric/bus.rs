//! Metrics of `bus`.

use super::{Counter, Gauge, Histogram};

macro_rules! counters {
    ($($name:ident = $text:literal, $help:literal;)*) => {$(
        pub const $name: Counter = Counter { name: $text, help: $help };
    )*};
}

counters! {
    STORED = "pushmesh_bus_stored_total", "Messages that JetStream acknowledged, duplicates included";
    DUPLICATES = "pushmesh_bus_stored_duplicates_total", "Stored messages whose id the stream already had";
    STORE_RETRIES = "pushmesh_bus_store_retries_total", "Publishes said again with the same id";
    STORE_REFUSED = "pushmesh_bus_store_refused_total", "Messages given up: stream full, outage too long, or rejected";
    BATCHES = "pushmesh_bus_batches_total", "Atomic batches committed";
    BATCH_FALLBACKS = "pushmesh_bus_batch_fallbacks_total", "Atomic batches published singly after all";
    ACK_TIMEOUTS = "pushmesh_bus_ack_timeouts_total", "JetStream requests that got no answer in time";
    FORCED_RECONNECTS = "pushmesh_bus_forced_reconnects_total", "Reconnects because a connected server did not answer";
    RECONNECTS = "pushmesh_bus_reconnects_total", "Connections made after the first";
    SLOW_CONSUMER_EVENTS = "pushmesh_bus_slow_consumer_events_total", "Events of subscriptions that dropped messages";
    PERMISSION_VIOLATIONS = "pushmesh_bus_permission_violations_total", "Publishes and subscriptions the server refused";
    ACKS_DROPPED = "pushmesh_bus_acks_dropped_total", "Acks given up because their queue was full: the messages come again";
    WATCH_RESTARTS = "pushmesh_bus_watch_restarts_total", "Watches made anew after a gap, a reconnect or silence";
    PINS_LOST = "pushmesh_bus_pins_lost_total", "Partition consumers that another client was pinned to";
    DEAD_LETTERS = "pushmesh_bus_dead_letters_total", "Messages a handler refused";
}

pub const HELD_BYTES: Gauge =
    Gauge { name: "pushmesh_bus_held_bytes", help: "Bytes of messages waiting to be stored, of all connections" };
pub const STORE_SECONDS: Histogram =
    Histogram { name: "pushmesh_bus_store_seconds", help: "From the first publish of a message to its ack" };
/// One try of a take-over's request to JetStream's API, answered or given up: its count says how many there were.
pub const API_SECONDS: Histogram =
    Histogram { name: "pushmesh_bus_api_seconds", help: "From a take-over's request to JetStream's API to its answer" };
pub const API_WAIT_SECONDS: Histogram = Histogram {
    name: "pushmesh_bus_api_wait_seconds",
    help: "How long a take-over's request to JetStream's API waited for its turn on its connection",
};
