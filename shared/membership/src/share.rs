//! [`Share`]: what this member does about each partition of its service. Pure.
//!
//! A partition is in one [`Slot`] after the other:
//!
//! ```text
//! Idle ──ring says ours, lease free or its owner dead──▶ Taking ──CAS won──▶ Held ──ring says another's──▶ Releasing
//!  ▲                                                       │                  │ └─fenced, or another's lease─▶ Stopping
//!  ├───────────CAS lost, or fenced meanwhile───────────────┘                  └─work ended by itself─┐           │
//!  ├──────────────────────────────── lease deleted ◀── GivingBack ◀──work ended──(Releasing)─────────┘           │
//!  └─────────────────────────────────────────────────────────────────────────────────────work ended──────────────┘
//! ```

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use pushmesh_bus::TakeOver;
use pushmesh_protocol::{
    Partition, Partitions,
    id::{Instance, Token},
    message::{Epoch, LeaseRecord},
};

use crate::{
    event::{Action, Loss, TakeFailed},
    owners::{Lease, Leases},
    ring::{Map, Ring},
    roster::Roster,
};

/// After losing a race for a lease: the winner's record is on its way here.
const AFTER_CONFLICT: Duration = Duration::from_millis(100);
/// After the bucket did not answer.
const AFTER_OUTAGE: Duration = Duration::from_millis(500);
/// After work returned or panicked though it held its lease: slow enough not to spin.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Idle {
        not_before: Option<Instant>,
    },
    /// `how`: what the lease looked like; `round`: fenced meanwhile, it is worth nothing.
    Taking {
        how: TakeOver,
        round: u64,
    },
    Held {
        epoch: Epoch,
    },
    Releasing {
        epoch: Epoch,
    },
    /// Lost; the work has not returned yet.
    Stopping {
        epoch: Epoch,
    },
    /// `failed`: the work had ended by itself.
    GivingBack {
        epoch: Epoch,
        failed: bool,
    },
}

const IDLE: Slot = Slot::Idle { not_before: None };

impl Slot {
    /// The epoch under which its work may go on.
    fn held(self) -> Option<Epoch> {
        match self {
            Self::Held { epoch } | Self::Releasing { epoch } => Some(epoch),
            _ => None,
        }
    }
}

pub(crate) struct Share {
    partitions: Partitions,
    slots: Vec<Slot>,
    /// Partitions whose work ended by itself here: what it had fetched is not given back.
    dirty: BTreeSet<u16>,
    ring: Ring,
    /// Whom `ring` is made of.
    members: Vec<(Instance, u16)>,
    map: Map,
    /// Counts the times we were fenced.
    round: u64,
}

/// What is decided on: members and leases as the bucket and the heartbeats show them.
#[derive(Clone, Copy)]
pub(crate) struct Sight<'a> {
    pub service: &'a Token,
    /// What a lease of ours says.
    pub mine: &'a LeaseRecord,
    pub leases: &'a Leases,
    pub roster: &'a Roster,
}

impl<'a> Sight<'a> {
    fn lease(self, partition: Partition) -> Option<&'a Lease> {
        self.leases.get(self.service, partition)
    }

    /// What the lease says, if there is one now.
    fn record(self, partition: Partition) -> Option<&'a LeaseRecord> {
        self.lease(partition)?.record.as_ref()
    }

    fn is_alive(self, lease: &LeaseRecord) -> bool {
        self.roster.is_alive(self.service, &lease.owner, lease.owner_epoch)
    }
}

/// What the whole member is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mood {
    /// Everything is to be handed over.
    pub leaving: bool,
    /// Nothing is to be taken for now, and what is ours without work is given back.
    pub frozen: bool,
    /// Nothing is to be taken for now; what is ours without work stays so until then.
    pub resting: bool,
}

impl Share {
    pub(crate) fn new(partitions: Partitions) -> Self {
        let ring = Ring::new(partitions, []);
        Self {
            partitions,
            slots: vec![IDLE; usize::from(partitions.count())],
            dirty: BTreeSet::new(),
            map: ring.map(),
            ring,
            members: Vec::new(),
            round: 0,
        }
    }

    /// The partitions whose work may go on, with their epochs.
    pub(crate) fn held(&self) -> Vec<(Partition, Epoch)> {
        self.partitions.all().zip(&self.slots).filter_map(|(partition, slot)| Some((partition, slot.held()?))).collect()
    }

    /// Whether every partition's lease is a living member's, and works where it is ours: whoever lost everything is named
    /// by its leases until it takes them anew or gives them back.
    pub(crate) fn is_covered(&self, sight: Sight<'_>) -> bool {
        self.partitions.all().zip(&self.slots).all(|(partition, slot)| match sight.record(partition) {
            Some(lease) if lease == sight.mine => slot.held().is_some(),
            Some(lease) => sight.is_alive(lease),
            None => false,
        })
    }

    /// Whether any work runs, its lease held or lost.
    pub(crate) fn is_working(&self) -> bool {
        let works = |slot: &Slot| matches!(slot, Slot::Held { .. } | Slot::Releasing { .. } | Slot::Stopping { .. });
        self.slots.iter().any(works)
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.slots.iter().all(|slot| matches!(slot, Slot::Idle { .. }))
    }

    /// Whether a lease names us.
    pub(crate) fn is_named(&self, sight: Sight<'_>) -> bool {
        self.partitions.all().any(|partition| sight.record(partition) == Some(sight.mine))
    }

    /// All leases are lost: whoever took them over must not meet us at work. Returns how many were held; `None`: nothing
    /// was, and nothing was about to be.
    pub(crate) fn fence(&mut self, actions: &mut Vec<Action>) -> Option<usize> {
        let round = self.round;
        self.round += 1;
        let (mut held, mut taking) = (0, false);
        for (partition, slot) in self.partitions.all().zip(&mut self.slots) {
            if let Slot::Held { epoch } | Slot::Releasing { epoch } = *slot {
                *slot = Slot::Stopping { epoch };
                self.dirty.insert(partition.0);
                actions.push(Action::Lose { partition, why: Loss::Fenced });
                held += 1;
            }
            taking |= matches!(slot, Slot::Taking { round: begun, .. } if *begun == round);
        }
        (held > 0 || taking).then_some(held)
    }

    pub(crate) fn is_taking(&self, partition: Partition) -> bool {
        matches!(self.slots[usize::from(partition.0)], Slot::Taking { .. })
    }

    /// The answer to [`Action::Take`]. `good`: nobody has taken the lease since, and we may work.
    pub(crate) fn taken(&mut self, partition: Partition, won: Epoch, good: bool, actions: &mut Vec<Action>) {
        let slot = &mut self.slots[usize::from(partition.0)];
        let Slot::Taking { how, round } = *slot else { return };
        if good && round == self.round {
            *slot = Slot::Held { epoch: won };
            self.dirty.remove(&partition.0);
            actions.push(Action::Start { partition, epoch: won, how });
        } else {
            *slot = IDLE;
        }
    }

    /// The other answer to [`Action::Take`].
    pub(crate) fn not_taken(&mut self, now: Instant, partition: Partition, failed: TakeFailed) {
        let pause = if failed == TakeFailed::Conflict { AFTER_CONFLICT } else { AFTER_OUTAGE };
        self.slots[usize::from(partition.0)] = Slot::Idle { not_before: Some(now + pause) };
    }

    pub(crate) fn work_ended(&mut self, partition: Partition, ended: Epoch, actions: &mut Vec<Action>) {
        let slot = &mut self.slots[usize::from(partition.0)];
        match *slot {
            Slot::Held { epoch } if epoch == ended => {
                // It must not be ours without anybody at work: give it back, and let the ring decide again.
                self.dirty.insert(partition.0);
                *slot = Slot::GivingBack { epoch, failed: true };
                actions.push(Action::GiveBack { partition, epoch });
            }
            Slot::Releasing { epoch } if epoch == ended => {
                *slot = Slot::GivingBack { epoch, failed: false };
                actions.push(Action::GiveBack { partition, epoch });
            }
            Slot::Stopping { epoch } if epoch == ended => *slot = IDLE,
            _ => {}
        }
    }

    pub(crate) fn given_back(&mut self, now: Instant, partition: Partition, given: Epoch, done: bool) {
        let slot = &mut self.slots[usize::from(partition.0)];
        let Slot::GivingBack { epoch, failed } = *slot else { return };
        if epoch != given {
            return;
        }
        let pause = match (done, failed) {
            (_, true) => AFTER_FAILURE,
            // The lease may still be there: `settle` gives it back again.
            (false, false) => AFTER_OUTAGE,
            (true, false) => AFTER_CONFLICT,
        };
        *slot = Slot::Idle { not_before: Some(now + pause) };
    }

    /// What the bucket shows as another's, or as gone, is not ours any more.
    pub(crate) fn lose_usurped(&mut self, sight: Sight<'_>, actions: &mut Vec<Action>) {
        for (partition, slot) in self.partitions.all().zip(&mut self.slots) {
            let (Slot::Held { epoch } | Slot::Releasing { epoch }) = *slot else { continue };
            let lease = sight.lease(partition);
            if lease.is_some_and(|lease| lease.revision != epoch || lease.record.is_none()) {
                *slot = Slot::Stopping { epoch };
                self.dirty.insert(partition.0);
                actions.push(Action::Lose { partition, why: Loss::Usurped });
            }
        }
    }

    /// Makes the map anew. What living members of the ring hold counts as theirs.
    pub(crate) fn plan(&mut self, sight: Sight<'_>) {
        let members = sight.roster.ring_of(sight.service);
        if members != self.members {
            self.ring = Ring::new(self.partitions, members.iter().map(|(instance, weight)| (instance, *weight)));
            self.members = members;
        }
        let holder =
            |partition| sight.record(partition).filter(|lease| sight.is_alive(lease)).map(|lease| &lease.owner);
        self.map = self.ring.map_from(holder);
    }

    /// Brings what we hold towards what the map says.
    pub(crate) fn settle(&mut self, now: Instant, sight: Sight<'_>, mood: Mood, actions: &mut Vec<Action>) {
        for partition in self.partitions.all() {
            let target = self.map.of(partition);
            let wanted = !mood.leaving && target == Some(&sight.mine.owner);
            let at = usize::from(partition.0);
            match self.slots[at] {
                Slot::Held { epoch } if mood.leaving || (!wanted && target.is_some()) => {
                    self.slots[at] = Slot::Releasing { epoch };
                    actions.push(Action::Release { partition });
                }
                Slot::Idle { not_before } if not_before.is_none_or(|at| now >= at) => {
                    if let Some(next) =
                        self.settle_idle(partition, wanted && !mood.frozen, !mood.resting, sight, actions)
                    {
                        self.slots[at] = next;
                    }
                }
                _ => {}
            }
        }
    }

    fn settle_idle(
        &self,
        partition: Partition,
        wanted: bool,
        may_take: bool,
        sight: Sight<'_>,
        actions: &mut Vec<Action>,
    ) -> Option<Slot> {
        let (known, round) = (sight.lease(partition), self.round);
        match known.and_then(|lease| lease.record.as_ref().map(|record| (record, lease.revision))) {
            _ if wanted && !may_take => None,
            None if wanted => {
                // Of a key that was there and is gone its owner has let go in good order; unless it was us, and badly.
                let how = match known {
                    _ if self.dirty.contains(&partition.0) => TakeOver::Crashed,
                    Some(_) => TakeOver::HandedOver,
                    None => TakeOver::Fresh,
                };
                actions.push(Action::Take { partition, expect: None });
                Some(Slot::Taking { how, round })
            }
            // Ours without work (fenced, or the answer to its CAS was lost): a new epoch, or back.
            Some((record, revision)) if record == sight.mine && !wanted => {
                actions.push(Action::GiveBack { partition, epoch: revision });
                Some(Slot::GivingBack { epoch: revision, failed: false })
            }
            Some((record, revision)) if wanted && (record == sight.mine || !sight.is_alive(record)) => {
                actions.push(Action::Take { partition, expect: Some(revision) });
                Some(Slot::Taking { how: TakeOver::Crashed, round })
            }
            _ => None,
        }
    }
}
