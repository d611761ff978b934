//! Who is there, and who does what: members, partitions, leases, fencing.
//!
//! **What for.** Services that cut their work into partitions ([`Membership::own`]) share them among their instances in
//! proportion to their weights, and go on within about a second when one is gone. Everybody else learns who is there
//! ([`Membership::view`]) and who owns what ([`Membership::owners`]).
//!
//! **Consumes, produces, owns.** The bucket `mesh`: this member's key `m.<service>.<instance>` and the lease keys
//! `o.<service>.<p>` of its service are written, all keys are watched. Core subject `pm.v1.hb.<service>.<instance>`: a
//! heartbeat every 250 ms, on a connection and a thread of its own (`heart`): decisions run there too, the work does not.
//!
//! **Guarantees.**
//! * A partition's leases have growing epochs (the key's revision). A lease is written only at take-over, by compare-and-set.
//! * [`Lease::held`] is `false` from 900 ms after the last heartbeat of its own that the holder heard, counted from when it
//!   was sent; others take over 1.2 s after they last heard it. So two holders never both see `true`, while clocks run
//!   at the same speed; where they do not, receivers tell by the epoch and the broker by the pin.
//! * A member ends when its key is deleted or when it is silent *while others are heard*. An expired key alone means
//!   nothing: while the bucket has no leader, nobody can renew. Time in which we ourselves hear nothing does not count.
//! * When more than half of at least six members vanish at once nothing is re-balanced for 10 s.
//! * Every member computes the same map from the same members and leases ([`ring`]). Nobody is given more than
//!   ceil(1.1 · P · weight / total); what is held stays where it is as far as that allows. A member stands in the ring
//!   once it calls `own`.
//! * A graceful hand-over finishes first, then deletes the lease, then the next one takes it. A bucket that does not answer
//!   holds up nobody who leaves for more than seconds ([`Membership::leave`]).
//! * A busy process keeps its leases. One whose runtime does not get on for 10 s falls silent, and is replaced.
//! * Whoever loses everything takes it anew at once, and after growing pauses if that happens again and again (`setbacks`).
//!
//! A lease that was lost for a moment is not taken up again where it was left, even if nobody had it in between: work takes a
//! lease that does not hold for lost for good, and only a new epoch tells its receivers which of its words still count.
//!
//! **Work that returns** while its lease is held (or panics) is logged and counted, and its lease is given back. Whomever
//! the ring names takes it again, after a second if that is the same instance, with a new epoch and as after a crash. So a
//! worker that learns from a receiver that it is fenced just returns.
//!
//! **Does not** consume messages, pin or reset consumers (the work does, with [`Lease::how`]), or choose among equals.
//!
//! **Start reading** at [`ring`], `state` and `share`; `task` connects them with NATS.

pub mod ring;

mod clock;
mod event;
mod heart;
mod key;
mod lease;
mod membership;
mod metrics;
mod owners;
mod pulse;
mod roster;
mod setbacks;
mod share;
mod state;
mod task;
mod tuning;
mod view;
mod work;

pub use clock::Clock;
pub use event::Parting;
pub use lease::Lease;
pub use membership::{JoinError, Membership};
pub use owners::{Owner, Owners};
pub use pulse::Heard;
pub use tuning::{Me, Tuning};
pub use view::{Member, View};
pub use work::{Ownership, PartitionWork};
