//! What a member's [`State`](crate::state::State) is told, and what it wants done.

use std::time::Duration;

use pushmesh_bus::TakeOver;
use pushmesh_protocol::{
    Partition, Partitions,
    id::{Instance, Token},
    message::{Epoch, LeaseRecord, MemberRecord},
};

use crate::{pulse::Echo, roster::Gone};

#[derive(Debug)]
pub(crate) enum Event {
    /// Time passes: at least five times a heartbeat.
    Tick,
    /// Another member's heartbeat.
    Heard {
        service: Token,
        instance: Instance,
        epoch: Epoch,
    },
    /// Our own heartbeat came back.
    Echo(Echo),
    /// The connection of heartbeats broke or is back: nobody was heard meanwhile.
    Connection {
        connected: bool,
    },
    MemberPut {
        service: Token,
        instance: Instance,
        record: MemberRecord,
        revision: u64,
    },
    MemberGone {
        service: Token,
        instance: Instance,
        why: Gone,
    },
    LeasePut {
        service: Token,
        partition: Partition,
        record: LeaseRecord,
        revision: u64,
    },
    LeaseGone {
        service: Token,
        partition: Partition,
        revision: u64,
    },
    /// A snapshot of the bucket begins; what it does not mention is gone.
    SnapshotBegins,
    SnapshotEnds,
    /// This member takes partitions from now on.
    Own(Partitions),
    /// The outcome of an [`Action::Take`].
    Taken {
        partition: Partition,
        outcome: Result<Epoch, TakeFailed>,
    },
    /// The work of a lease returned.
    WorkEnded {
        partition: Partition,
        epoch: Epoch,
    },
    /// The outcome of an [`Action::GiveBack`]; `false`: the bucket did not answer.
    GivenBack {
        partition: Partition,
        epoch: Epoch,
        done: bool,
    },
    /// Hand everything over.
    Leave,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TakeFailed {
    /// Somebody else wrote the lease first.
    Conflict,
    /// The bucket did not answer: it may have been written.
    Outage,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Write the lease, if its key still has the revision (`None`: if there is none).
    Take { partition: Partition, expect: Option<u64> },
    /// The lease is ours: let the work begin.
    Start { partition: Partition, epoch: Epoch, how: TakeOver },
    /// Ask the work to hand over.
    Release { partition: Partition },
    /// The lease is lost: the work must stop at once.
    Lose { partition: Partition, why: Loss },
    /// All leases are lost: so many partitions were held. The `in_a_row`th time in short order.
    Fenced { held: usize, why: Deafness, in_a_row: u32 },
    /// The pulse is back after that; takes nothing before the pause is over.
    Revived { pause: Duration },
    /// Delete the lease, if it is still the one with this epoch.
    GiveBack { partition: Partition, epoch: Epoch },
    /// No work runs any more, and what could be handed over is.
    Left(Parting),
    /// Another start of this instance has taken its place.
    Superseded { by: Epoch },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// We did not hear ourselves.
    Fenced,
    /// The bucket shows another's lease, or none.
    Usurped,
}

/// Why we did not hear ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deafness {
    /// We were not scheduled: the machine, or its limit of CPU, stood in the way.
    Stalled,
    /// We looked in time, and nothing came: the network or the server stood in the way.
    Unheard,
}

impl Deafness {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Deafness::Stalled => "stalled",
            Deafness::Unheard => "unheard",
        }
    }
}

/// How a member left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// Everything is handed over, and its key is deleted.
    InOrder,
    /// The bucket could not be told: others take over as after a crash.
    Unheard,
}
