//! What the machine is told, and what it says.

use std::{sync::Arc, time::Duration};

use pushmesh_protocol::{
    Instance, Partition,
    message::{Epoch, OnlineEntry, OnlineResult},
};

use super::LateStart;

/// A kind's place in the mesh's list of kinds.
pub type KindIndex = usize;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long records gather while a request of their kind is on its way.
    pub gather: Duration,
    /// Entries of one request.
    pub batch_max: usize,
    /// How long a kind may be silent before its part goes to LATE.
    pub late_after: Duration,
    /// The first wait before saying something again; it doubles.
    pub retry_min: Duration,
    /// The longest wait.
    pub retry_max: Duration,
    /// Records stored in LATE at once.
    pub store_max: usize,
}

/// What can happen. `H` stands for a delivered message until it is done.
#[derive(Debug)]
pub enum Event<H> {
    /// A partition was taken; for each kind what its LATE held.
    Opened { partition: Partition, epoch: Epoch, late: Vec<LateStart> },
    /// LOGIN delivered a record.
    Record { epoch: Epoch, entry: Arc<OnlineEntry>, handle: H },
    /// LATE delivered a record, with `behind` more behind it. Its entry has our epoch.
    Late { kind: KindIndex, epoch: Epoch, at: u64, behind: u64, entry: Arc<OnlineEntry>, handle: H },
    /// LATE delivered something that is no record; it is settled already.
    LatePassed { kind: KindIndex, partition: Partition, epoch: Epoch, at: u64, behind: u64 },
    /// A partition is to be handed over: nothing more is delivered.
    Closing { partition: Partition, epoch: Epoch },
    /// A partition is no longer ours.
    Lost { partition: Partition, epoch: Epoch },
    /// A kind answered a request, or `None`: it did not.
    Answered { request: u64, results: Option<Vec<OnlineResult>> },
    /// LATE took, or did not take: for each its sequence there, and whether it stood there already.
    Stored { kind: KindIndex, results: Vec<Option<(u64, bool)>> },
    /// Some partition has another owner in this kind.
    OwnersChanged { kind: KindIndex },
}

/// What is to be done.
#[derive(Debug)]
pub enum Effect<H> {
    /// All kinds have it: acknowledge the message in LOGIN.
    Done(H),
    /// Its kind has it: acknowledge the message in LATE.
    LateDone(KindIndex, H),
    /// Request; the answer comes back as [`Event::Answered`].
    Send { request: u64, kind: KindIndex, owner: Instance, entries: Vec<Arc<OnlineEntry>> },
    /// Store in LATE, in this order; comes back as [`Event::Stored`].
    StoreLate { kind: KindIndex, entries: Vec<Arc<OnlineEntry>> },
    /// A closing partition is at rest.
    Closed(Partition, Epoch),
    /// A receiver knows a newer owner of the partition.
    Fenced(Partition, Epoch),
}
