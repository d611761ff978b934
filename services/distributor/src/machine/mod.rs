//! Which records wait for which kind: the gatherer's state. Pure: no clock, no I/O; its events are the gatherer's, its
//! effects are carried out by it.
//!
//! * A record of LOGIN waits in one [`Lane`] for each kind and is done when each of them answered it or stored it in
//!   LATE: kinds don't know each other.
//! * A lane has one request in flight, so a partition's records reach a kind in their order; a request carries many
//!   lanes, so partitions share it.
//! * A lane whose kind is silent for `late_after` goes through LATE until that is drained.

mod event;
mod lane;
#[cfg(test)]
mod properties;
mod sending;
#[cfg(test)]
mod tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod world;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use pushmesh_protocol::{
    Instance, Partition,
    message::{Epoch, OnlineEntry, OnlineResult},
};

pub use event::{Effect, Event, KindIndex, Limits};
use lane::{Answered, Verdict};
pub use lane::{Lane, LateStart};

pub struct Machine<H> {
    limits: Limits,
    partitions: BTreeMap<Partition, Part<H>>,
    kinds: Vec<KindState>,
    requests: HashMap<u64, Request>,
    next_request: u64,
    /// Lanes that something happened to since the last [`Machine::poll`].
    touched: BTreeSet<(KindIndex, Partition)>,
    timers: BTreeSet<(Instant, KindIndex, Partition)>,
}

struct Part<H> {
    epoch: Epoch,
    closing: bool,
    lanes: Vec<Lane<H>>,
    alarms: Vec<Option<Instant>>,
    /// By sequence in LOGIN: the message, and for how many kinds it waits.
    held: BTreeMap<u64, (H, usize)>,
}

#[derive(Default)]
struct KindState {
    ready: BTreeSet<Partition>,
    /// When what is ready is sent at the latest.
    flush_at: Option<Instant>,
    requests: usize,
    storable: BTreeSet<Partition>,
    /// What is being stored: how many of which lane, in their order.
    storing: Option<Vec<Share>>,
    store_not_before: Option<Instant>,
}

struct Request {
    kind: KindIndex,
    shares: Vec<Share>,
}

/// One lane's share of a request or a store.
struct Share {
    partition: Partition,
    epoch: Epoch,
    count: usize,
}

impl<H> Machine<H> {
    pub fn new(kinds: usize, limits: Limits) -> Self {
        Self {
            limits,
            partitions: BTreeMap::new(),
            kinds: (0..kinds).map(|_| KindState::default()).collect(),
            requests: HashMap::new(),
            next_request: 0,
            touched: BTreeSet::new(),
            timers: BTreeSet::new(),
        }
    }

    /// Records of LOGIN that are not done.
    pub fn waiting(&self) -> usize {
        self.partitions.values().map(|part| part.held.len()).sum()
    }

    /// Lanes that go through LATE.
    pub fn late_lanes(&self, kind: KindIndex) -> usize {
        self.partitions.values().filter(|part| part.lanes[kind].is_late()).count()
    }

    /// Takes one event in. What follows from it is said here or by the next [`Machine::poll`].
    pub fn apply(&mut self, event: Event<H>, now: Instant, effects: &mut Vec<Effect<H>>) {
        match event {
            Event::Opened { partition, epoch, late } => self.open(partition, epoch, &late, now),
            Event::Record { epoch, entry, handle } => self.record(epoch, entry, handle, now, effects),
            Event::Late { kind, epoch, at, behind, entry, handle } => {
                let partition = entry.partition;
                let Some(lane) = self.lane(kind, partition, epoch) else { return };
                // Held already, and this is its redelivery: it says nothing new.
                drop(lane.push_late(at, behind, entry, handle));
                self.touched.insert((kind, partition));
            }
            Event::LatePassed { kind, partition, epoch, at, behind } => {
                let Some(lane) = self.lane(kind, partition, epoch) else { return };
                lane.passed(at, behind);
                self.touched.insert((kind, partition));
            }
            Event::Closing { partition, epoch } => {
                let Some(part) = self.part(partition, epoch) else { return };
                part.closing = true;
                self.touch_all(partition);
                self.close_if_still(partition, effects);
            }
            Event::Lost { partition, epoch } => {
                if self.part(partition, epoch).is_some() {
                    self.forget(partition);
                }
            }
            Event::Answered { request, results } => self.answered(request, results, now, effects),
            Event::Stored { kind, results } => self.stored(kind, &results, now, effects),
            Event::OwnersChanged { kind } => {
                for (partition, part) in &mut self.partitions {
                    part.lanes[kind].owner_changed();
                    self.touched.insert((kind, *partition));
                }
            }
        }
    }

    /// Says what is to be sent and stored now; `owner` knows who owns a partition in a kind.
    pub fn poll(
        &mut self,
        now: Instant,
        owner: impl Fn(KindIndex, Partition) -> Option<Instance>,
        effects: &mut Vec<Effect<H>>,
    ) {
        while let Some(&(at, kind, partition)) = self.timers.first().filter(|(at, ..)| *at <= now) {
            self.timers.remove(&(at, kind, partition));
            if let Some(part) = self.partitions.get_mut(&partition) {
                part.alarms[kind] = None;
            }
            self.touched.insert((kind, partition));
        }
        // What found no owner may go to LATE instead: a second look finds nothing left to do.
        for _ in 0..2 {
            self.look(now);
            for kind in 0..self.kinds.len() {
                self.flush(kind, now, &owner, effects);
                self.store(kind, now, effects);
            }
        }
        self.look(now);
    }

    /// When [`Machine::poll`] is to be called at the latest.
    pub fn wake_at(&self) -> Option<Instant> {
        let lanes = self.timers.first().map(|(at, ..)| *at);
        let kinds = self.kinds.iter().flat_map(|kind| {
            let store = kind.store_not_before.filter(|_| kind.storing.is_none() && !kind.storable.is_empty());
            [kind.flush_at, store]
        });
        kinds.flatten().chain(lanes).min()
    }

    fn open(&mut self, partition: Partition, epoch: Epoch, late: &[LateStart], now: Instant) {
        self.forget(partition);
        let lanes: Vec<_> = late.iter().map(|start| Lane::new(*start, now)).collect();
        assert_eq!(lanes.len(), self.kinds.len(), "each kind has its LATE");
        let alarms = vec![None; lanes.len()];
        self.partitions.insert(partition, Part { epoch, closing: false, lanes, alarms, held: BTreeMap::new() });
    }

    fn record(&mut self, epoch: Epoch, entry: Arc<OnlineEntry>, handle: H, now: Instant, effects: &mut Vec<Effect<H>>) {
        let (partition, kinds) = (entry.partition, self.kinds.len());
        let Some(part) = self.part(partition, epoch) else { return };
        if part.held.contains_key(&entry.sequence) {
            // Delivered again while it waits here.
            return;
        }
        if kinds == 0 {
            effects.push(Effect::Done(handle));
            return;
        }
        part.held.insert(entry.sequence, (handle, kinds));
        for lane in &mut part.lanes {
            lane.push(Arc::clone(&entry), now);
        }
        self.touch_all(partition);
    }

    fn answered(
        &mut self,
        request: u64,
        results: Option<Vec<OnlineResult>>,
        now: Instant,
        effects: &mut Vec<Effect<H>>,
    ) {
        let Some(Request { kind, shares }) = self.requests.remove(&request) else { return };
        self.kinds[kind].requests -= 1;
        let expected: usize = shares.iter().map(|share| share.count).sum();
        let results = results.filter(|results| results.len() == expected).unwrap_or_default();
        let mut rest = &results[..];
        for Share { partition, epoch, count } in shares {
            let (own, others) = rest.split_at(count.min(rest.len()));
            rest = others;
            let limits = self.limits;
            let Some(lane) = self.lane(kind, partition, epoch) else { continue };
            let (done, all) = match lane.judge(own, epoch) {
                Verdict::Well(done) => (done, true),
                Verdict::Again(done) => (done, false),
                Verdict::Fenced => {
                    self.forget(partition);
                    effects.push(Effect::Fenced(partition, epoch));
                    continue;
                }
            };
            match lane.answered(done, all, now, &limits) {
                Answered::Late(handles) => {
                    effects.extend(handles.into_iter().map(|handle| Effect::LateDone(kind, handle)));
                }
                Answered::Login(sequences) => self.count_down(partition, &sequences, effects),
            }
            self.touched.insert((kind, partition));
            self.close_if_still(partition, effects);
        }
    }

    fn stored(&mut self, kind: KindIndex, results: &[Option<(u64, bool)>], now: Instant, effects: &mut Vec<Effect<H>>) {
        let Some(shares) = self.kinds[kind].storing.take() else { return };
        let failed = results.iter().any(Option::is_none);
        self.kinds[kind].store_not_before = failed.then(|| now + self.limits.retry_min);
        let mut rest = results;
        for Share { partition, epoch, count } in shares {
            let (own, others) = rest.split_at(count.min(rest.len()));
            rest = others;
            let Some(lane) = self.lane(kind, partition, epoch) else { continue };
            let sequences = lane.stored(own);
            self.count_down(partition, &sequences, effects);
            self.touched.insert((kind, partition));
            self.close_if_still(partition, effects);
        }
    }

    /// One kind less for each.
    fn count_down(&mut self, partition: Partition, sequences: &[u64], effects: &mut Vec<Effect<H>>) {
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        for sequence in sequences {
            let std::collections::btree_map::Entry::Occupied(mut held) = part.held.entry(*sequence) else { continue };
            held.get_mut().1 -= 1;
            if held.get().1 == 0 {
                effects.push(Effect::Done(held.remove().0));
            }
        }
    }

    fn close_if_still(&mut self, partition: Partition, effects: &mut Vec<Effect<H>>) {
        let Some(part) = self.partitions.get(&partition) else { return };
        if part.closing && part.held.is_empty() && part.lanes.iter().all(Lane::is_still) {
            effects.push(Effect::Closed(partition, part.epoch));
            self.forget(partition);
        }
    }

    /// Looks at every lane that something happened to: what it may do now, and when it wakes by itself.
    fn look(&mut self, now: Instant) {
        for (kind, partition) in std::mem::take(&mut self.touched) {
            let Some(part) = self.partitions.get_mut(&partition) else { continue };
            let lane = &mut part.lanes[kind];
            lane.turn(now, &self.limits);
            let state = &mut self.kinds[kind];
            keep(&mut state.ready, partition, lane.sendable(now, part.closing) > 0);
            keep(&mut state.storable, partition, lane.storable(now, part.closing, &self.limits) > 0);
            let wake = lane.wake_at(&self.limits).filter(|at| *at > now);
            if part.alarms[kind] != wake {
                if let Some(at) = std::mem::replace(&mut part.alarms[kind], wake) {
                    self.timers.remove(&(at, kind, partition));
                }
                self.timers.extend(wake.map(|at| (at, kind, partition)));
            }
        }
    }

    fn part(&mut self, partition: Partition, epoch: Epoch) -> Option<&mut Part<H>> {
        self.partitions.get_mut(&partition).filter(|part| part.epoch == epoch)
    }

    fn lane(&mut self, kind: KindIndex, partition: Partition, epoch: Epoch) -> Option<&mut Lane<H>> {
        self.part(partition, epoch).map(|part| &mut part.lanes[kind])
    }

    fn touch_all(&mut self, partition: Partition) {
        self.touched.extend((0..self.kinds.len()).map(|kind| (kind, partition)));
    }

    fn forget(&mut self, partition: Partition) {
        let Some(part) = self.partitions.remove(&partition) else { return };
        for (kind, alarm) in part.alarms.into_iter().enumerate() {
            if let Some(at) = alarm {
                self.timers.remove(&(at, kind, partition));
            }
            self.kinds[kind].ready.remove(&partition);
            self.kinds[kind].storable.remove(&partition);
        }
    }
}

fn keep(set: &mut BTreeSet<Partition>, partition: Partition, wanted: bool) {
    if wanted {
        set.insert(partition);
    } else {
        set.remove(&partition);
    }
}
