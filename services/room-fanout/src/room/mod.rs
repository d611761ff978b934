//! What is decided about rooms: no async, no I/O, no clock. All times are arguments.
//!
//! [`Rooms`] is all rooms of one partition under one lease. Its owner applies [`Event`]s and carries out what
//! [`Rooms::tick`] returns, so that every rule of a room can be tested by a list of events.
//!
//! What holds, whichever owner dies when:
//! * **Told in order.** An item goes out with the offset before it in its chain as its receivers see it ([`chain`]); what a
//!   record says is applied was told before the record was written ([`Rooms::writes`] returns the frames first).
//! * **Counted once.** Each record carries the sequence up to which it is true ([`record`]); a message at or below it changes
//!   nothing in it. So records need no atomicity among each other, and replay from the checkpoint makes them exact.
//! * **Bounded.** Tails, timelines, lives of likes and names in notices have limits ([`Limits`]); a room without people and
//!   traffic leaves memory once everything of it is stored.
//!
//! Start reading at [`rooms`], then [`live`]: one room.

mod agenda;
mod around;
mod chain;
mod effect;
mod ends;
mod event;
mod gather;
mod items;
mod join;
mod ledger;
mod likes;
mod limits;
mod live;
mod meter;
mod outbox;
mod pack;
mod parts;
mod past;
mod presence;
mod ranking;
mod record;
mod restore;
mod retell;
mod rooms;
mod skipped;
mod standing;
mod store;
mod tail;
mod tally;
mod tell;
mod timeline;
mod trail;

pub use around::Owner;
pub use effect::Effect;
pub use ends::{Begin, Ends};
pub use event::{Asleep, Event, Source};
pub use join::{Asked, NotRecovered, Sources};
pub use limits::{Limits, PartLimits};
pub use past::{Past, PastAsk, PastOf, Span};
pub use record::{Positions, lease_of};
pub use rooms::{PLACES_MAX, Rooms};
pub use store::Writes;
pub use tally::Tally;

#[cfg(test)]
mod tests;
