//! room-fanout: owns the rooms of a live stream.
//!
//! For whom: everybody in a room, who has to see a gift at once and a like some time, in order, whatever the storm.
//!
//! * **Consumes** ROOM_HIGH, ROOM_NORMAL and ROOM_LOW, partition by partition; questions of comets and api; comets' counts
//!   of who is there; the buckets `rooms` and `mutes`, by watch.
//! * **Produces** one `RoomBatch` a room, class and tick for the comets with a member in it; rankings (ROOM_NORMAL),
//!   level-ups (ROOM_LOW), dead letters.
//! * **Owns** rooms: their order, ledger, ranking, likes and parts; in memory, and in the bucket `ledger` with a checkpoint.
//!
//! It guarantees: what a stream holds is applied once, whichever owner dies (each record carries the sequence up to which it
//! is true), and told in the order of its chain, each item with the offset before it. Gifts go before chat, chat before
//! normal, normal before low, and at least one in 32 from below. The epoch of the lease goes with every batch.
//!
//! **A stream that has lost its end** (its server was restored from an older copy; `docs/adr/0009-a-stream-that-lost-its-end.md`)
//! gives sequences again. The owner notices when it follows the stream again or takes over: the checkpoint has applied more
//! than the stream holds. It says so (ERROR, `missing_total`), keeps every sum, counts as applied only what the stream still
//! holds of it, and begins another epoch of offsets, so that clients are told of a gap and everything new is applied and told.
//! Streams that were made anew are an epoch too: theirs is when they were made.
//!
//! It does not check what is sent (api does), keep who is where (comets do) or write to sockets.
//!
//! Start reading at [`room`], then [`serving`]: what one partition's task does with it.

mod comets;
pub mod config;
mod effects;
mod failing;
mod handlers;
mod history;
mod ledger;
mod lost;
mod metrics;
pub mod partition;
mod readings;
pub mod room;
pub mod service;
pub mod serving;
mod sources;
mod standing;
mod turns;

pub use config::Config;
pub use service::Service;
