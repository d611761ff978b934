//! The state of a member: what it knows, and what it decides. Pure.
//!
//! One task feeds it [`Event`]s and carries out the [`Action`]s it returns; nothing here waits or reads a clock.
//!
//! A partition held here is in one [`Slot`] after the other:
//!
//! ```text
//! Idle ──ring says ours, lease free or its owner dead──▶ Taking ──CAS won──▶ Held ──ring says another's──▶ Releasing
//!  ▲                                                       │                  │ └─fenced, or another's lease─▶ Stopping
//!  ├───────────CAS lost, or fenced meanwhile───────────────┘                  └─work ended by itself─┐           │
//!  ├──────────────────────────────── lease deleted ◀── GivingBack ◀──work ended──(Releasing)─────────┘           │
//!  └─────────────────────────────────────────────────────────────────────────────────────work ended──────────────┘
//! ```

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use pushmesh_bus::TakeOver;
use pushmesh_protocol::{
    Partition, Partitions,
    id::{Instance, Token},
    message::{Epoch, LeaseRecord, MemberRecord},
};

use crate::{
    owners::Leases,
    pulse::Echo,
    ring::{Map, Ring},
    roster::{Gone, Roster},
    tuning::Tuning,
};

/// After losing a race for a lease: the winner's record is on its way here.
const AFTER_CONFLICT: Duration = Duration::from_millis(100);
/// After the bucket did not answer.
const AFTER_OUTAGE: Duration = Duration::from_millis(500);
/// After work returned or panicked though it held its lease: slow enough not to spin.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

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
    /// The connection of heartbeats broke or is back.
    Deaf,
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
    /// Delete the lease, if it is still the one with this epoch.
    GiveBack { partition: Partition, epoch: Epoch },
    /// Everything is handed over.
    Left,
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

struct Owning {
    partitions: Partitions,
    slots: Vec<Slot>,
    /// Partitions whose work ended by itself here: what it had fetched is not given back.
    dirty: BTreeSet<u16>,
    ring: Ring,
    /// Whom `ring` is made of.
    members: Vec<(Instance, u16)>,
    map: Map,
}

pub(crate) struct State {
    service: Token,
    instance: Instance,
    epoch: Epoch,
    tuning: Tuning,
    pub(crate) roster: Roster,
    pub(crate) leases: Leases,
    leases_changed: bool,
    /// Members or leases changed since the map was made.
    replan: bool,
    /// Keys of leases that the snapshot being read has mentioned; `None`: it is complete.
    mentioned: Option<HashMap<Token, BTreeSet<u16>>>,
    owning: Option<Owning>,
    /// When the last heartbeat of ours that was heard had been sent.
    pulse: Option<Instant>,
    fenced: bool,
    /// Counts the times we were fenced.
    round: u64,
    leaving: bool,
    left: bool,
    superseded: bool,
}

impl State {
    pub(crate) fn new(service: Token, instance: Instance, epoch: Epoch, tuning: Tuning) -> Self {
        Self {
            service,
            instance,
            epoch,
            tuning,
            roster: Roster::new(tuning),
            leases: Leases::default(),
            leases_changed: false,
            replan: false,
            mentioned: Some(HashMap::new()),
            owning: None,
            pulse: None,
            fenced: true,
            round: 0,
            leaving: false,
            left: false,
            superseded: false,
        }
    }

    pub(crate) fn apply(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        // They come often and change no lease; what they change in the roster the next tick acts on.
        let heartbeat = matches!(event, Event::Heard { .. } | Event::Echo(_));
        match event {
            Event::Tick => self.roster.tick(now),
            Event::Heard { service, instance, epoch } => self.roster.heard(now, &service, &instance, epoch),
            Event::Echo(echo) => {
                if echo.revived {
                    self.fence(&mut actions);
                }
                self.pulse = Some(echo.sent);
                self.roster.heard(now, &self.service, &self.instance, self.epoch);
            }
            Event::Deaf => self.roster.deaf(),
            Event::MemberPut { service, instance, record, revision } => {
                self.roster.put(service, instance, record, revision);
            }
            Event::MemberGone { service, instance, why } => self.roster.gone(&service, &instance, why),
            Event::LeasePut { service, partition, record, revision } => {
                self.lease(&service, partition, Some(record), revision);
            }
            Event::LeaseGone { service, partition, revision } => {
                self.lease(&service, partition, None, revision);
            }
            Event::SnapshotBegins => {
                self.mentioned = Some(HashMap::new());
                self.roster.snapshot_begins();
            }
            Event::SnapshotEnds => {
                if let Some(mentioned) = self.mentioned.take() {
                    let keep = |service: &Token, partition: Partition| {
                        mentioned.get(service).is_some_and(|numbers| numbers.contains(&partition.0))
                    };
                    self.leases_changed |= self.leases.keep(keep);
                    self.roster.snapshot_ends();
                }
            }
            Event::Own(partitions) => {
                self.replan = true;
                let ring = Ring::new(partitions, []);
                self.owning.get_or_insert_with(|| Owning {
                    partitions,
                    slots: vec![IDLE; usize::from(partitions.count())],
                    dirty: BTreeSet::new(),
                    map: ring.map(),
                    ring,
                    members: Vec::new(),
                });
            }
            Event::Taken { partition, outcome } => self.taken(now, partition, outcome, &mut actions),
            Event::WorkEnded { partition, epoch } => self.work_ended(partition, epoch, &mut actions),
            Event::GivenBack { partition, epoch, done } => self.given_back(now, partition, epoch, done),
            Event::Leave => self.leaving = true,
        }
        self.replan |= self.leases_changed || self.roster.is_changed();
        self.check_pulse(now, &mut actions);
        if !heartbeat {
            self.decide(now, &mut actions);
        }
        actions
    }

    /// The partitions whose work may go on, with their epochs.
    pub(crate) fn held(&self) -> Vec<(Partition, Epoch)> {
        let Some(owning) = &self.owning else { return Vec::new() };
        let held = |(partition, slot): (Partition, &Slot)| match slot {
            Slot::Held { epoch } | Slot::Releasing { epoch } => Some((partition, *epoch)),
            _ => None,
        };
        owning.partitions.all().zip(&owning.slots).filter_map(held).collect()
    }

    /// Whether every partition's lease is a living member's.
    pub(crate) fn covered(&self) -> bool {
        self.owning.as_ref().is_some_and(|owning| {
            owning.partitions.all().all(|partition| {
                let lease = self.leases.get(&self.service, partition).and_then(|lease| lease.record.as_ref());
                lease.is_some_and(|lease| self.is_alive(lease))
            })
        })
    }

    pub(crate) fn take_leases_changed(&mut self) -> bool {
        std::mem::take(&mut self.leases_changed)
    }

    /// The snapshot is read, and our own key was in it.
    pub(crate) fn is_complete(&self) -> bool {
        self.mentioned.is_none() && self.roster.epoch_of(&self.service, &self.instance) == Some(self.epoch)
    }

    /// A lease's key, as the watch shows it. In a snapshot its first word counts even if its revision is lower than what
    /// was known: the bucket may have been made anew.
    fn lease(&mut self, service: &Token, partition: Partition, record: Option<LeaseRecord>, revision: u64) {
        let anew = self.mention(service, partition);
        self.leases_changed |= if anew {
            self.leases.replace(service, partition, record, revision)
        } else {
            self.leases.set(service, partition, record, revision)
        };
    }

    /// `true` if the snapshot that is being read had not mentioned it yet.
    fn mention(&mut self, service: &Token, partition: Partition) -> bool {
        let Some(mentioned) = &mut self.mentioned else { return false };
        mentioned.entry(service.clone()).or_default().insert(partition.0)
    }

    fn is_alive(&self, lease: &LeaseRecord) -> bool {
        self.roster.is_alive(&self.service, &lease.owner, lease.owner_epoch)
    }

    fn is_mine(&self, lease: &LeaseRecord) -> bool {
        lease.owner == self.instance && lease.owner_epoch == self.epoch
    }

    fn taken(
        &mut self,
        now: Instant,
        partition: Partition,
        outcome: Result<Epoch, TakeFailed>,
        actions: &mut Vec<Action>,
    ) {
        let mine = LeaseRecord { owner: self.instance.clone(), owner_epoch: self.epoch };
        let Some(owning) = &mut self.owning else { return };
        let slot = &mut owning.slots[usize::from(partition.0)];
        let Slot::Taking { how, round } = *slot else { return };
        match outcome {
            Ok(epoch) => {
                if let Some(mentioned) = &mut self.mentioned {
                    // Written after the snapshot that is being read had begun.
                    mentioned.entry(self.service.clone()).or_default().insert(partition.0);
                }
                // `false`: somebody has taken it since.
                let newest = self.leases.set(&self.service, partition, Some(mine), epoch)
                    || self.leases.get(&self.service, partition).is_some_and(|lease| lease.revision == epoch);
                self.leases_changed = true;
                if newest && round == self.round && !self.fenced && !self.superseded {
                    *slot = Slot::Held { epoch };
                    owning.dirty.remove(&partition.0);
                    actions.push(Action::Start { partition, epoch, how });
                } else {
                    *slot = IDLE;
                }
            }
            Err(failed) => {
                let pause = if failed == TakeFailed::Conflict { AFTER_CONFLICT } else { AFTER_OUTAGE };
                *slot = Slot::Idle { not_before: Some(now + pause) };
            }
        }
    }

    fn work_ended(&mut self, partition: Partition, ended: Epoch, actions: &mut Vec<Action>) {
        let Some(owning) = &mut self.owning else { return };
        let slot = &mut owning.slots[usize::from(partition.0)];
        match *slot {
            Slot::Held { epoch } if epoch == ended => {
                // It must not be ours without anybody at work: give it back, and let the ring decide again.
                owning.dirty.insert(partition.0);
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

    fn given_back(&mut self, now: Instant, partition: Partition, given: Epoch, done: bool) {
        let Some(owning) = &mut self.owning else { return };
        let slot = &mut owning.slots[usize::from(partition.0)];
        let Slot::GivingBack { epoch, failed } = *slot else { return };
        if epoch != given {
            return;
        }
        let pause = match (done, failed) {
            (_, true) => AFTER_FAILURE,
            // The lease may still be there: `decide` gives it back again.
            (false, false) => AFTER_OUTAGE,
            (true, false) => AFTER_CONFLICT,
        };
        *slot = Slot::Idle { not_before: Some(now + pause) };
    }

    /// All leases are lost: whoever took them over must not meet us at work.
    fn fence(&mut self, actions: &mut Vec<Action>) {
        self.fenced = true;
        self.round += 1;
        let Some(owning) = &mut self.owning else { return };
        for (partition, slot) in owning.partitions.all().zip(&mut owning.slots) {
            if let Slot::Held { epoch } | Slot::Releasing { epoch } = *slot {
                *slot = Slot::Stopping { epoch };
                owning.dirty.insert(partition.0);
                actions.push(Action::Lose { partition, why: Loss::Fenced });
            }
        }
    }

    fn check_pulse(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let shown = self.roster.epoch_of(&self.service, &self.instance);
        if let Some(by) = shown.filter(|shown| *shown > self.epoch && !self.superseded) {
            self.superseded = true;
            self.fence(actions);
            actions.push(Action::Superseded { by });
        }
        let beats = self.pulse.is_some_and(|sent| now.saturating_duration_since(sent) < self.tuning.fence_after);
        if !beats && !self.fenced {
            self.fence(actions);
        }
        self.fenced = !beats || self.superseded;
    }

    fn decide(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.lose_usurped(actions);
        self.settle(now, actions);
        if self.leaving && !self.left && self.holds_nothing() {
            self.left = true;
            actions.push(Action::Left);
        }
    }

    /// No work runs, and no lease names us.
    fn holds_nothing(&self) -> bool {
        let Some(owning) = &self.owning else { return true };
        let mine = |partition| {
            let lease = self.leases.get(&self.service, partition).and_then(|lease| lease.record.as_ref());
            lease.is_some_and(|lease| self.is_mine(lease))
        };
        let idle = |slot: &Slot| matches!(slot, Slot::Idle { .. });
        owning.slots.iter().all(idle) && (self.superseded || !owning.partitions.all().any(mine))
    }

    /// What the bucket shows as another's, or as gone, is not ours any more.
    fn lose_usurped(&mut self, actions: &mut Vec<Action>) {
        let Some(owning) = &mut self.owning else { return };
        for (partition, slot) in owning.partitions.all().zip(&mut owning.slots) {
            let (Slot::Held { epoch } | Slot::Releasing { epoch }) = *slot else { continue };
            let lease = self.leases.get(&self.service, partition);
            if lease.is_some_and(|lease| lease.revision != epoch || lease.record.is_none()) {
                *slot = Slot::Stopping { epoch };
                owning.dirty.insert(partition.0);
                actions.push(Action::Lose { partition, why: Loss::Usurped });
            }
        }
    }

    /// Brings what we hold towards what the ring says.
    fn settle(&mut self, now: Instant, actions: &mut Vec<Action>) {
        // A table that is being read anew, or an instance that others count as dead, is no ground to act on.
        if self.mentioned.is_some() || self.fenced {
            return;
        }
        let frozen = self.roster.is_frozen(now);
        let Some(mut owning) = self.owning.take() else { return };
        if self.replan && !frozen {
            self.replan = false;
            self.plan(&mut owning);
        }
        for partition in owning.partitions.all() {
            let target = owning.map.of(partition);
            let wanted = !self.leaving && target == Some(&self.instance);
            let slot = &mut owning.slots[usize::from(partition.0)];
            match *slot {
                Slot::Held { epoch } if self.leaving || (!wanted && target.is_some()) => {
                    *slot = Slot::Releasing { epoch };
                    actions.push(Action::Release { partition });
                }
                Slot::Idle { not_before } if not_before.is_none_or(|at| now >= at) => {
                    let dirty = owning.dirty.contains(&partition.0);
                    if let Some(next) = self.settle_idle(partition, wanted && !frozen, dirty, actions) {
                        *slot = next;
                    }
                }
                _ => {}
            }
        }
        self.owning = Some(owning);
    }

    /// Makes the map anew. What living members of the ring hold counts as theirs.
    fn plan(&self, owning: &mut Owning) {
        let members = self.roster.ring_of(&self.service);
        if members != owning.members {
            owning.ring = Ring::new(owning.partitions, members.iter().map(|(instance, weight)| (instance, *weight)));
            owning.members = members;
        }
        owning.map = owning.ring.map_from(|partition| {
            let lease = self.leases.get(&self.service, partition).and_then(|lease| lease.record.as_ref());
            lease.filter(|lease| self.is_alive(lease)).map(|lease| &lease.owner)
        });
    }

    fn settle_idle(&self, partition: Partition, wanted: bool, dirty: bool, actions: &mut Vec<Action>) -> Option<Slot> {
        let known = self.leases.get(&self.service, partition);
        let round = self.round;
        match known.and_then(|lease| lease.record.as_ref().map(|record| (record, lease.revision))) {
            None if wanted => {
                // Of a key that was there and is gone its owner has let go in good order; unless it was us, and badly.
                let how = match known {
                    _ if dirty => TakeOver::Crashed,
                    Some(_) => TakeOver::HandedOver,
                    None => TakeOver::Fresh,
                };
                actions.push(Action::Take { partition, expect: None });
                Some(Slot::Taking { how, round })
            }
            // Ours without work (fenced, or the answer to its CAS was lost): a new epoch, or back.
            Some((record, revision)) if self.is_mine(record) && !wanted => {
                actions.push(Action::GiveBack { partition, epoch: revision });
                Some(Slot::GivingBack { epoch: revision, failed: false })
            }
            Some((record, revision)) if wanted && (self.is_mine(record) || !self.is_alive(record)) => {
                actions.push(Action::Take { partition, expect: Some(revision) });
                Some(Slot::Taking { how: TakeOver::Crashed, round })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
