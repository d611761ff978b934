//! What leaves for the kinds: requests that carry many lanes, and what goes to LATE instead.

use std::{collections::BTreeMap, time::Instant};

use pushmesh_protocol::{Instance, Partition};

use super::{Effect, KindIndex, Machine, Request, Share};

impl<H> Machine<H> {
    pub(super) fn flush(
        &mut self,
        kind: KindIndex,
        now: Instant,
        owner: &impl Fn(KindIndex, Partition) -> Option<Instance>,
        effects: &mut Vec<Effect<H>>,
    ) {
        let state = &mut self.kinds[kind];
        if state.ready.is_empty() {
            state.flush_at = None;
            return;
        }
        let flush_at = *state.flush_at.get_or_insert(now + self.limits.gather);
        let ready = state.ready.iter().map(|partition| {
            let part = &self.partitions[partition];
            part.lanes[kind].sendable(now, part.closing)
        });
        // Idle, the first record leaves at once; busy, others join it.
        if state.requests > 0 && flush_at > now && ready.sum::<usize>() < self.limits.batch_max {
            return;
        }
        state.flush_at = None;
        let mut by_owner: BTreeMap<Instance, Vec<Partition>> = BTreeMap::new();
        for partition in std::mem::take(&mut state.ready) {
            self.touched.insert((kind, partition));
            match owner(kind, partition) {
                Some(instance) => by_owner.entry(instance).or_default().push(partition),
                None => {
                    let part = self.partitions.get_mut(&partition).expect("a ready lane is of a partition we have");
                    part.lanes[kind].without_owner(now, &self.limits);
                }
            }
        }
        for (owner, partitions) in by_owner {
            self.send(kind, &owner, partitions, now, effects);
        }
    }

    fn send(
        &mut self,
        kind: KindIndex,
        owner: &Instance,
        partitions: Vec<Partition>,
        now: Instant,
        effects: &mut Vec<Effect<H>>,
    ) {
        let mut entries = vec![];
        let mut shares = vec![];
        let mut partitions = partitions.into_iter().peekable();
        while let Some(partition) = partitions.next() {
            let part = self.partitions.get_mut(&partition).expect("a ready lane is of a partition we have");
            let lane = &mut part.lanes[kind];
            let count = lane.sendable(now, part.closing).min(self.limits.batch_max - entries.len());
            entries.extend(lane.send(count));
            shares.push(Share { partition, epoch: part.epoch, count });
            if entries.len() >= self.limits.batch_max || partitions.peek().is_none() {
                let request = self.next_request;
                self.next_request += 1;
                self.kinds[kind].requests += 1;
                self.requests.insert(request, Request { kind, shares: std::mem::take(&mut shares) });
                let entries = std::mem::take(&mut entries);
                effects.push(Effect::Send { request, kind, owner: owner.clone(), entries });
            }
        }
    }

    /// One store of a kind at a time keeps LATE in order.
    pub(super) fn store(&mut self, kind: KindIndex, now: Instant, effects: &mut Vec<Effect<H>>) {
        let state = &mut self.kinds[kind];
        let held_back = state.store_not_before.is_some_and(|at| at > now);
        if state.storing.is_some() || held_back || state.storable.is_empty() {
            return;
        }
        let mut entries = vec![];
        let mut shares = vec![];
        for partition in &state.storable {
            let part = self.partitions.get_mut(partition).expect("a storable lane is of a partition we have");
            let lane = &mut part.lanes[kind];
            let count = lane.storable(now, part.closing, &self.limits).min(self.limits.store_max - entries.len());
            if count == 0 {
                break;
            }
            entries.extend(lane.store(count));
            shares.push(Share { partition: *partition, epoch: part.epoch, count });
            self.touched.insert((kind, *partition));
        }
        if entries.is_empty() {
            return;
        }
        state.storing = Some(shares);
        effects.push(Effect::StoreLate { kind, entries });
    }
}
