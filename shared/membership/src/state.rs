//! The state of a member: what it knows, and what it decides. Pure.
//!
//! One task feeds it [`Event`]s and carries out the [`Action`]s it returns; nothing here waits or reads a clock. What it
//! does about each partition is its [`Share`]'s to know.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use pushmesh_protocol::{
    Partition,
    id::{Instance, Token},
    message::{Epoch, LeaseRecord},
};

use crate::{
    event::{Action, Deafness, Event, Parting, TakeFailed},
    owners::Leases,
    ring::{fnv1a64, splitmix},
    roster::Roster,
    setbacks::Setbacks,
    share::{Mood, Share, Sight},
    tuning::Tuning,
};

/// How long a member that leaves, its work done, waits for the bucket to take note.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// The same while it does not even hear itself.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

pub(crate) struct State {
    service: Token,
    /// What our leases say: who, and which start of it.
    me: LeaseRecord,
    tuning: Tuning,
    pub(crate) roster: Roster,
    pub(crate) leases: Leases,
    leases_changed: bool,
    /// Members or leases changed since the map was made.
    replan: bool,
    /// Keys of leases that the snapshot being read has mentioned; `None`: it is complete.
    mentioned: Option<HashMap<Token, BTreeSet<u16>>>,
    share: Option<Share>,
    connected: bool,
    /// When the last heartbeat of ours that was heard had been sent.
    pulse: Option<Instant>,
    fenced: bool,
    setbacks: Setbacks,
    /// When something was applied last: at least a tick, unless we were not scheduled.
    applied: Option<Instant>,
    /// When we found that we had not been scheduled for long.
    stalled: Option<Instant>,
    leave: Leave,
    superseded: bool,
}

/// How far leaving has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// Nobody asked.
    Not,
    /// Work is being handed over.
    Working,
    /// No work runs; the bucket is to take note.
    Telling {
        since: Instant,
    },
    Done,
}

impl State {
    pub(crate) fn new(service: Token, instance: Instance, epoch: Epoch, tuning: Tuning) -> Self {
        let seed = splitmix(fnv1a64(&service) ^ fnv1a64(instance.token())) ^ epoch;
        Self {
            service,
            me: LeaseRecord { owner: instance, owner_epoch: epoch },
            tuning,
            roster: Roster::new(tuning),
            leases: Leases::default(),
            leases_changed: false,
            replan: false,
            mentioned: Some(HashMap::new()),
            share: None,
            connected: true,
            pulse: None,
            fenced: true,
            setbacks: Setbacks::new(seed),
            applied: None,
            stalled: None,
            leave: Leave::Not,
            superseded: false,
        }
    }

    pub(crate) fn apply(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        // They come often and change no lease; what they change in the roster the next tick acts on.
        let heartbeat = matches!(event, Event::Heard { .. } | Event::Echo(_));
        let late = self.applied.replace(now).is_some_and(|before| now.duration_since(before) >= self.tuning.stall());
        if late {
            self.stalled = Some(now);
        }
        if matches!(event, Event::WorkEnded { .. }) {
            // First: work that ended because the pulse stopped has not ended by itself.
            self.check_pulse(now, &mut actions);
        }
        self.note(now, event, &mut actions);
        self.replan |= self.leases_changed || self.roster.is_changed();
        self.check_pulse(now, &mut actions);
        if !heartbeat {
            self.decide(now, &mut actions);
        }
        actions
    }

    fn note(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Tick => self.roster.tick(now),
            Event::Heard { service, instance, epoch } => self.roster.heard(now, &service, &instance, epoch),
            Event::Echo(echo) => {
                if echo.revived {
                    self.fence(now, actions);
                }
                self.pulse = Some(echo.sent);
                self.roster.heard(now, &self.service, &self.me.owner, self.me.owner_epoch);
            }
            Event::Connection { connected } => {
                self.connected = connected;
                self.roster.deaf();
            }
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
            Event::SnapshotEnds => self.snapshot_ends(),
            Event::Own(partitions) => {
                self.replan = true;
                self.share.get_or_insert_with(|| Share::new(partitions));
            }
            Event::Taken { partition, outcome } => self.taken(now, partition, outcome, actions),
            Event::WorkEnded { partition, epoch } => {
                if let Some(share) = &mut self.share {
                    share.work_ended(partition, epoch, actions);
                }
            }
            Event::GivenBack { partition, epoch, done } => {
                if let Some(share) = &mut self.share {
                    share.given_back(now, partition, epoch, done);
                }
            }
            Event::Leave if self.leave == Leave::Not => self.leave = Leave::Working,
            Event::Leave => {}
        }
    }

    /// The partitions whose work may go on, with their epochs.
    pub(crate) fn held(&self) -> Vec<(Partition, Epoch)> {
        self.share.as_ref().map(Share::held).unwrap_or_default()
    }

    /// Whether every partition's lease is a living member's.
    pub(crate) fn covered(&self) -> bool {
        self.share.as_ref().is_some_and(|share| share.is_covered(self.sight()))
    }

    /// Whether it takes nothing yet because it lost everything a moment ago.
    pub(crate) fn rests(&self, now: Instant) -> bool {
        self.setbacks.rests(now)
    }

    pub(crate) fn take_leases_changed(&mut self) -> bool {
        std::mem::take(&mut self.leases_changed)
    }

    /// The snapshot is read, and our own key was in it.
    pub(crate) fn is_complete(&self) -> bool {
        self.mentioned.is_none() && self.roster.epoch_of(&self.service, &self.me.owner) == Some(self.me.owner_epoch)
    }

    fn sight(&self) -> Sight<'_> {
        Sight { service: &self.service, mine: &self.me, leases: &self.leases, roster: &self.roster }
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

    fn snapshot_ends(&mut self) {
        let Some(mentioned) = self.mentioned.take() else { return };
        let keep = |service: &Token, partition: Partition| {
            mentioned.get(service).is_some_and(|numbers| numbers.contains(&partition.0))
        };
        self.leases_changed |= self.leases.keep(keep);
        self.roster.snapshot_ends();
    }

    fn taken(
        &mut self,
        now: Instant,
        partition: Partition,
        outcome: Result<Epoch, TakeFailed>,
        actions: &mut Vec<Action>,
    ) {
        let Some(share) = self.share.as_mut().filter(|share| share.is_taking(partition)) else { return };
        let won = match outcome {
            Ok(won) => won,
            Err(failed) => return share.not_taken(now, partition, failed),
        };
        if let Some(mentioned) = &mut self.mentioned {
            // Written after the snapshot that is being read had begun.
            mentioned.entry(self.service.clone()).or_default().insert(partition.0);
        }
        // `false`: somebody has taken it since.
        let newest = self.leases.set(&self.service, partition, Some(self.me.clone()), won)
            || self.leases.get(&self.service, partition).is_some_and(|lease| lease.revision == won);
        self.leases_changed = true;
        share.taken(partition, won, newest && !self.fenced && !self.superseded, actions);
    }

    /// We did not hear ourselves, and have lost all leases.
    fn fence(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(held) = self.give_up(actions) else { return };
        let stalled = self.stalled.is_some_and(|at| now.duration_since(at) < self.tuning.fence_after);
        let why = if stalled { Deafness::Stalled } else { Deafness::Unheard };
        actions.push(Action::Fenced { held, why, in_a_row: self.setbacks.lost(now) });
    }

    /// Whoever took our leases over must not meet us at work. Returns how many we held, if anything was lost.
    fn give_up(&mut self, actions: &mut Vec<Action>) -> Option<usize> {
        self.fenced = true;
        self.share.as_mut()?.fence(actions)
    }

    fn check_pulse(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let shown = self.roster.epoch_of(&self.service, &self.me.owner);
        if let Some(by) = shown.filter(|shown| *shown > self.me.owner_epoch && !self.superseded) {
            self.superseded = true;
            self.give_up(actions);
            actions.push(Action::Superseded { by });
        }
        let beats = self.pulse.is_some_and(|sent| now.saturating_duration_since(sent) < self.tuning.fence_after);
        if !beats && !self.fenced {
            self.fence(now, actions);
        }
        self.fenced = !beats || self.superseded;
        if !self.fenced
            && let Some(pause) = self.setbacks.revived(now)
        {
            actions.push(Action::Revived { pause });
        }
    }

    fn decide(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let Some(mut share) = self.share.take() {
            share.lose_usurped(self.sight(), actions);
            self.settle(&mut share, now, actions);
            self.share = Some(share);
        }
        if let Some(parting) = self.parting(now) {
            self.leave = Leave::Done;
            actions.push(Action::Left(parting));
        }
    }

    fn settle(&mut self, share: &mut Share, now: Instant, actions: &mut Vec<Action>) {
        let leaving = self.leave != Leave::Not;
        // A table that is being read anew, or an instance that others count as dead, is no ground to act on. Letting go is
        // right by any table.
        if self.fenced || (self.mentioned.is_some() && !leaving) {
            return;
        }
        let frozen = self.roster.is_frozen(now);
        if self.replan && !frozen {
            self.replan = false;
            share.plan(self.sight());
        }
        let resting = self.setbacks.rests(now);
        share.settle(now, self.sight(), Mood { leaving, frozen, resting }, actions);
    }

    /// Whether leaving has come to its end, in one way or the other.
    fn parting(&mut self, now: Instant) -> Option<Parting> {
        let since = match self.leave {
            Leave::Not | Leave::Done => return None,
            Leave::Working => now,
            Leave::Telling { since } => since,
        };
        let Some(share) = &self.share else { return Some(Parting::InOrder) };
        if share.is_idle() && (self.superseded || !share.is_named(self.sight())) {
            return Some(Parting::InOrder);
        }
        if share.is_working() {
            self.leave = Leave::Working;
            return None;
        }
        self.leave = Leave::Telling { since };
        let within = match (self.fenced, self.connected) {
            (true, false) => Duration::ZERO,
            (true, true) => HEARD_WITHIN,
            (false, _) => TOLD_WITHIN,
        };
        (now.saturating_duration_since(since) >= within).then_some(Parting::Unheard)
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
