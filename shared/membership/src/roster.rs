//! The roster: who is a member, and who is dead. Pure; every function takes `now`.
//!
//! A key in the bucket makes a member; a deleted key or silence ends it. Silence is measured on a clock that runs only while
//! this instance hears somebody (itself included), and starts again whenever it was deaf: a stopped process, a lost
//! connection or a stalled runtime here must not look like the death of everybody there.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use pushmesh_protocol::{
    id::{Instance, Token},
    message::{Epoch, MemberRecord},
};

use crate::{
    tuning::Tuning,
    view::{Member, View},
};

/// Fewer members than this never freeze.
const FREEZE_AT_LEAST: usize = 6;

/// Why a key is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    Deleted,
    Expired,
}

#[derive(Debug)]
pub(crate) struct Roster {
    tuning: Tuning,
    members: BTreeMap<(Token, Instance), Entry>,
    /// Time spent hearing somebody.
    listened: Duration,
    /// When somebody was heard last.
    heard_at: Option<Instant>,
    frozen_until: Option<Instant>,
    /// When members fell silent lately.
    losses: VecDeque<Instant>,
    changed: bool,
    tally: Tally,
}

/// What happened since it was last asked for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub suspicions: u64,
    pub returns: u64,
    pub freezes: u64,
}

#[derive(Debug)]
struct Entry {
    record: MemberRecord,
    epoch: Epoch,
    /// On the clock of `listened`.
    heard: Duration,
    silent: bool,
    expired: bool,
    /// Mentioned by the snapshot that is being read.
    mentioned: bool,
}

impl Roster {
    pub(crate) fn new(tuning: Tuning) -> Self {
        Self {
            tuning,
            members: BTreeMap::new(),
            listened: Duration::ZERO,
            heard_at: None,
            frozen_until: None,
            losses: VecDeque::new(),
            changed: false,
            tally: Tally::default(),
        }
    }

    /// A heartbeat. One of a member whose key was not seen yet, or of an earlier start, only shows that we can hear.
    pub(crate) fn heard(&mut self, now: Instant, service: &Token, instance: &Instance, epoch: Epoch) {
        self.listen(now);
        // The key of the map is a pair; cloning it is two reference counts.
        let Some(entry) = self.members.get_mut(&(service.clone(), instance.clone())) else { return };
        if epoch < entry.epoch {
            return;
        }
        if epoch > entry.epoch {
            // It was started again, and the new key is on its way: the old start is over.
            self.changed |= !entry.silent;
            entry.silent = true;
            return;
        }
        entry.heard = self.listened;
        if entry.silent {
            entry.silent = false;
            self.changed = true;
            self.tally.returns += 1;
        }
    }

    /// A member's key was written.
    pub(crate) fn put(&mut self, service: Token, instance: Instance, record: MemberRecord, revision: u64) {
        // The first write of a start does not know its own revision yet.
        let epoch = if record.epoch == 0 { revision } else { record.epoch };
        let heard = self.listened;
        match self.members.get_mut(&(service.clone(), instance.clone())) {
            Some(entry) if epoch < entry.epoch => {}
            Some(entry) if epoch == entry.epoch => {
                (entry.expired, entry.mentioned) = (false, true);
                let same =
                    MemberRecord { epoch: 0, ..record.clone() } == MemberRecord { epoch: 0, ..entry.record.clone() };
                if !same {
                    self.changed = true;
                }
                entry.record = record;
            }
            _ => {
                let entry = Entry { record, epoch, heard, silent: false, expired: false, mentioned: true };
                self.members.insert((service, instance), entry);
                self.changed = true;
            }
        }
    }

    /// A member's key is gone.
    pub(crate) fn gone(&mut self, service: &Token, instance: &Instance, why: Gone) {
        let key = (service.clone(), instance.clone());
        let Some(entry) = self.members.get_mut(&key) else { return };
        if why == Gone::Deleted || entry.silent {
            self.members.remove(&key);
            self.changed = true;
        } else {
            entry.expired = true;
        }
    }

    /// A snapshot of all keys begins.
    pub(crate) fn snapshot_begins(&mut self) {
        for entry in self.members.values_mut() {
            entry.mentioned = false;
        }
    }

    /// A snapshot is complete: what it did not mention has expired, or was deleted and will be silent.
    pub(crate) fn snapshot_ends(&mut self) {
        let missing: Vec<_> =
            self.members.iter().filter(|(_, entry)| !entry.mentioned).map(|(key, _)| key.clone()).collect();
        for (service, instance) in missing {
            self.gone(&service, &instance, Gone::Expired);
        }
    }

    /// The connection of heartbeats broke or is back: nobody was heard meanwhile.
    pub(crate) fn deaf(&mut self) {
        self.heard_at = None;
        for entry in self.members.values_mut() {
            entry.heard = self.listened;
        }
    }

    /// Looks for members that fell silent.
    pub(crate) fn tick(&mut self, now: Instant) {
        // The time since somebody was heard last is not counted yet: it may be the beginning of deafness.
        let clock = self.listened;
        let alive = self.members.values().filter(|entry| !entry.silent).count();
        let mut lost = 0;
        for entry in self.members.values_mut().filter(|entry| !entry.silent) {
            if clock.saturating_sub(entry.heard) >= self.tuning.dead_after {
                entry.silent = true;
                lost += 1;
            }
        }
        if lost == 0 {
            return;
        }
        self.members.retain(|_, entry| !(entry.silent && entry.expired));
        self.changed = true;
        self.tally.suspicions += lost as u64;
        self.count_losses(now, lost, alive - lost);
    }

    /// More than half of at least six gone within one span of detection: rather a fault between us than their death.
    fn count_losses(&mut self, now: Instant, lost: usize, left: usize) {
        while self.losses.front().is_some_and(|at| now.duration_since(*at) > self.tuning.dead_after) {
            self.losses.pop_front();
        }
        self.losses.extend(std::iter::repeat_n(now, lost));
        let before = left + self.losses.len();
        if before >= FREEZE_AT_LEAST && self.losses.len() * 2 > before {
            if !self.is_frozen(now) {
                self.tally.freezes += 1;
            }
            self.frozen_until = Some(now + self.tuning.freeze);
        }
    }

    pub(crate) fn is_frozen(&self, now: Instant) -> bool {
        self.frozen_until.is_some_and(|until| now < until)
    }

    pub(crate) fn is_alive(&self, service: &Token, instance: &Instance, epoch: Epoch) -> bool {
        let entry = self.members.get(&(service.clone(), instance.clone()));
        entry.is_some_and(|entry| !entry.silent && entry.epoch == epoch)
    }

    /// The epoch that the bucket shows for an instance.
    pub(crate) fn epoch_of(&self, service: &Token, instance: &Instance) -> Option<Epoch> {
        self.members.get(&(service.clone(), instance.clone())).map(|entry| entry.epoch)
    }

    /// Whom the ring of a service is made of.
    pub(crate) fn ring_of(&self, service: &Token) -> Vec<(Instance, u16)> {
        let members = self
            .members
            .iter()
            .filter(|((of, _), entry)| of == service && !entry.silent && entry.record.owning && !entry.record.draining);
        members.map(|((_, instance), entry)| (instance.clone(), entry.record.weight)).collect()
    }

    pub(crate) fn view(&self) -> View {
        let mut services: BTreeMap<Token, Vec<Member>> = BTreeMap::new();
        for ((service, instance), entry) in &self.members {
            services.entry(service.clone()).or_default().push(Member {
                instance: instance.clone(),
                epoch: entry.epoch,
                weight: entry.record.weight,
                address: entry.record.address.clone(),
                draining: entry.record.draining,
                owning: entry.record.owning,
                alive: !entry.silent,
            });
        }
        View { services }
    }

    pub(crate) fn is_changed(&self) -> bool {
        self.changed
    }

    /// Whether the view changed since it was last asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(crate) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    fn listen(&mut self, now: Instant) {
        match self.heard_at.map(|at| now.saturating_duration_since(at)) {
            Some(gap) if gap <= self.tuning.hearing_gap() => self.listened += gap,
            Some(_) => self.deaf(),
            None => {}
        }
        self.heard_at = Some(now);
    }
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
