//! distributor: hands each login record on to every push kind.
//!
//! * **Consumes** LOGIN and each `LATE_<kind>`, by the partitions it owns (one durable consumer of each per partition,
//!   pinned to the owner).
//! * **Produces** requests on `pm.v1.online.<kind>.<instance>`, to whom the lease of the record's partition names in
//!   that kind; and, for a kind that is silent, messages in its `LATE_<kind>`.
//! * **Owns** which records wait for which kind: in memory. What it has not finished is still in LOGIN or LATE, where
//!   the next owner finds it.
//!
//! It guarantees: every record reaches every kind at least once, and a user's records reach a kind in their order
//! (again, after a take-over or a lost answer, but never overtaken: one request per kind and partition is in flight). A
//! message of LOGIN is acknowledged when each kind has answered it or has it in its LATE, so a kind that is down delays
//! only itself: after `late_after` its part goes to LATE, and what comes later follows it there until that is drained.
//! The idempotency key is the record's login id; its order is its sequence in LOGIN, whichever way it came.
//!
//! It skips no record, knows no user, and does not look into the kinds: a fourth one is configuration of the mesh. Where
//! LATE fails to take one record of several (its stream is full), those behind it may reach it first; receivers tell by
//! the sequence.
//!
//! Start reading at [`machine`], which is pure; [`gatherer`] carries out what it says, [`partition`] feeds it.

pub mod config;
pub mod gatherer;
pub mod handlers;
pub mod machine;
mod metrics;
pub mod partition;
pub mod service;

pub use config::Config;
pub use service::Service;
