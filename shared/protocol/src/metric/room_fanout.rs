//! Metrics of `room-fanout`.

use super::{Counter, Gauge, Histogram};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $help:literal;)*) => {$(
        $(#[$doc])*
        pub const $name: Counter = Counter { name: $text, help: $help };
    )*};
}

counters! {
    /// Label: `source` (gift, chat, event, note).
    APPLIED = "pushmesh_room_fanout_applied_total", "Messages of the streams applied, by source.";
    LIKES = "pushmesh_room_fanout_likes_total", "Likes counted.";
    REPEATED = "pushmesh_room_fanout_repeated_total",
        "Messages skipped because they had been applied: a new owner replays what was not written yet.";
    MUTED = "pushmesh_room_fanout_muted_total", "Messages and gifts' notes told to nobody because their sender was muted when he sent them.";
    /// Label: `source` (gift, chat, event, like, note, ask, presence, bucket).
    MALFORMED = "pushmesh_room_fanout_malformed_total",
        "Messages that nobody can read, by source: those of the streams become dead letters.";
    /// Label: `reason` (malformed, rejected).
    DEAD = "pushmesh_room_fanout_dead_total",
        "Dead letters, by reason: each is a message that no room was told. Alarm above zero.";
    DEAD_DROPPED = "pushmesh_room_fanout_dead_dropped_total", "Dead letters that nobody keeps, because too many waited.";
    MISSING = "pushmesh_room_fanout_missing_total",
        "Times that a stream no longer held all that an owner had to replay, or had lost its end: sums may lack something.";
    /// Label: `class`.
    BATCHES = "pushmesh_room_fanout_batches_total", "Publishes to comets, by class.";
    /// Label: `class`.
    FRAMES = "pushmesh_room_fanout_frames_total", "Frames published to comets, by class.";
    /// Label: `class`.
    BYTES = "pushmesh_room_fanout_frame_bytes_total", "Bytes of frames published to comets, by class.";
    /// Label: `class`.
    UNSENT = "pushmesh_room_fanout_unsent_total",
        "Publishes that NATS did not take, by class: clients see the gap by the next heads.";
    /// Label: `outcome` (joined, recovered, not_recovered, not_ready): the second and third are of those who joined.
    ASKS = "pushmesh_room_fanout_asks_total", "Users who asked to join, by outcome; and questions while a partition is taken over.";
    /// Label: `reason`: epoch (of other streams), ahead (of what this owner knows), too_old (gone from the stream), too_much,
    /// unread (the stream could not be read, or not in time), busy (too many waited for a reading).
    NOT_RECOVERED = "pushmesh_room_fanout_not_recovered_total",
        "Users who came back and were told of a gap, by reason. Alarm where unread or busy rises.";
    RANKINGS_DROPPED = "pushmesh_room_fanout_rankings_dropped_total",
        "Rankings that were not stored: the room's next one makes up for them.";
    RECORDS_WRITTEN = "pushmesh_room_fanout_records_written_total", "Records written to the bucket ledger.";
    WRITE_RETRIES = "pushmesh_room_fanout_write_retries_total", "Stores and writes that had to be tried again.";
    FOREIGN = "pushmesh_room_fanout_foreign_records_total",
        "Times that the ledger held another owner's word and a partition was given back.";
    UNREADABLE_RECORDS = "pushmesh_room_fanout_unreadable_records_total",
        "Tries to own a partition that has a record nobody can read: nobody owns it until it is mended. Alarm above zero.";
    CUTS = "pushmesh_room_fanout_cuts_total", "Times that a room was cut into more parts.";
    MERGES = "pushmesh_room_fanout_merges_total", "Times that a room was merged to fewer parts.";
    LIVES_FORGOTTEN = "pushmesh_room_fanout_lives_forgotten_total",
        "Lives of api instances whose likes a room remembers no more, because there were too many.";
    FELL_ASLEEP = "pushmesh_room_fanout_fell_asleep_total", "Idle rooms that left memory.";
    WOKEN = "pushmesh_room_fanout_woken_total", "Rooms that came back into memory.";
    FORGOTTEN = "pushmesh_room_fanout_forgotten_total",
        "Rooms that were silent for `forget_after`, and of which nothing is stored any more.";
    STANDING_BEHIND = "pushmesh_room_fanout_standing_behind_total",
        "Times that a partition was too slow for changes of states, roles and mutes, and was told all again.";
}

pub const GIFT_SECONDS: Histogram = Histogram {
    name: "pushmesh_room_fanout_gift_seconds",
    help: "From a gift's acceptance by api to its frame's publish.",
};
pub const HISTORY_SECONDS: Histogram = Histogram {
    name: "pushmesh_room_fanout_history_seconds",
    help: "How long reading from the streams took what somebody who came back had missed.",
};
pub const WRITE_SECONDS: Histogram = Histogram {
    name: "pushmesh_room_fanout_write_seconds",
    help: "How long writing what had changed in a partition took.",
};
pub const LOAD_SECONDS: Histogram =
    Histogram { name: "pushmesh_room_fanout_load_seconds", help: "From a partition's lease to its first answer." };
pub const PARTITIONS: Gauge = Gauge { name: "pushmesh_room_fanout_partitions", help: "Partitions served." };
pub const ROOMS: Gauge = Gauge { name: "pushmesh_room_fanout_rooms", help: "Rooms in memory." };
pub const ROOMS_ASLEEP: Gauge =
    Gauge { name: "pushmesh_room_fanout_rooms_asleep", help: "Rooms that are only in the bucket ledger." };
