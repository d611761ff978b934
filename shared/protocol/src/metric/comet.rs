//! Metrics of `comet`.

use super::{Counter, Gauge, Histogram};

pub const CONNECTIONS: Gauge =
    Gauge { name: "pushmesh_comet_connections", help: "Connections that are logged in, by transport." };
pub const LOGINS: Counter = Counter { name: "pushmesh_comet_logins_total", help: "LOGIN frames, by outcome." };
pub const FRAMES_IN: Counter =
    Counter { name: "pushmesh_comet_frames_in_total", help: "Frames from clients, fragments and pings included." };
pub const FRAMES_OUT: Counter = Counter { name: "pushmesh_comet_frames_out_total", help: "Frames to clients." };
pub const BYTES_IN: Counter = Counter { name: "pushmesh_comet_in_bytes_total", help: "Bytes from clients." };
pub const BYTES_OUT: Counter = Counter { name: "pushmesh_comet_out_bytes_total", help: "Bytes to clients." };
pub const WRITES: Counter =
    Counter { name: "pushmesh_comet_writes_total", help: "Socket writes: what a delivery costs." };
pub const DROPPED: Counter =
    Counter { name: "pushmesh_comet_dropped_total", help: "Frames that were not sent, by class and reason." };
pub const ACKS_DROPPED: Counter = Counter {
    name: "pushmesh_comet_acks_dropped_total",
    help: "Acknowledgements dropped because too many waited: their pushes are sent again.",
};
pub const UNDELIVERED: Counter = Counter {
    name: "pushmesh_comet_undelivered_total",
    help: "Pushes for connections that are gone, or from owners that are no longer.",
};
pub const BATCHES_DROPPED: Counter = Counter {
    name: "pushmesh_comet_batches_dropped_total",
    help: "Deliveries dropped because a shard's queue was full: their pushes are sent again.",
};
pub const MALFORMED: Counter =
    Counter { name: "pushmesh_comet_malformed_total", help: "Messages off the bus that could not be read." };
pub const BACKLOG_BYTES: Gauge =
    Gauge { name: "pushmesh_comet_backlog_bytes", help: "Bytes that wait for clients that read too slowly." };
pub const CLOSED: Counter = Counter { name: "pushmesh_comet_closed_total", help: "Connections closed, by reason." };
pub const ACCEPT_ERRORS: Counter =
    Counter { name: "pushmesh_comet_accept_errors_total", help: "Connections that could not be accepted." };
pub const DELIVERY: Histogram =
    Histogram { name: "pushmesh_comet_delivery_seconds", help: "From a batch off the bus to its last socket write." };
pub const QUESTIONS: Counter =
    Counter { name: "pushmesh_comet_questions_total", help: "CALLS and application frames, by kind and outcome." };
pub const SESSIONS_REPUT: Counter = Counter {
    name: "pushmesh_comet_sessions_reput_total",
    help: "Sessions put again after the comet was unheard for too long.",
};
pub const ROOMS: Gauge = Gauge { name: "pushmesh_comet_rooms", help: "Rooms that are listened to." };
pub const ROOM_MEMBERS: Gauge =
    Gauge { name: "pushmesh_comet_room_members", help: "Connections in rooms: one in two rooms counts twice." };
pub const ROOM_FRAMES: Counter =
    Counter { name: "pushmesh_comet_room_frames_total", help: "Frames of rooms off the bus, by class." };
pub const ROOM_FENCED: Counter = Counter {
    name: "pushmesh_comet_room_fenced_total",
    help: "Batches and answers of rooms' owners that are no longer.",
};
pub const ROOM_DELIVERIES: Counter = Counter {
    name: "pushmesh_comet_room_deliveries_total",
    help: "Frames of rooms that members' sockets took, by class.",
};
pub const ROOM_DROPPED: Counter = Counter {
    name: "pushmesh_comet_room_dropped_total",
    help: "Frames of rooms that no member of a shard got, by class and reason; after full and queue they are told of a gap.",
};
pub const ROOM_JOINS: Counter =
    Counter { name: "pushmesh_comet_room_joins_total", help: "JOIN frames that were asked, by outcome." };
pub const ROOM_PASS: Histogram = Histogram {
    name: "pushmesh_comet_room_pass_seconds",
    help: "From a room's frame off the bus to its last member's socket, or backlog.",
};
/// Label: `outcome` (answered, not_ready, unanswered).
pub const ROOM_ASKS: Counter = Counter {
    name: "pushmesh_comet_room_asks_total",
    help: "Asks of rooms' owners, each for all JOINs from one position that waited, by outcome.",
};
