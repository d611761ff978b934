//! Timers: a hierarchical timing wheel over a slab.
//!
//! Insert and cancel are O(1), whatever the number of timers; a timer moves at most once per level before it is due
//! (G. Varghese and T. Lauck, *Hashed and Hierarchical Timing Wheels*, SOSP 1987, scheme 7). Seven levels of 64 slots
//! with a tick of 1 ms reach from 1970 to 2109, so that absolute times need no base and no delay is too long.
//!
//! A timer is never due early, and due timers come in the order of their deadlines.

use pushmesh_protocol::message::Millis;

use crate::slab::{Id, Slab};

const LEVELS: usize = 7;
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const NONE: u32 = u32::MAX;
/// The last millisecond the wheel can hold.
const LAST: Millis = (1 << (BITS * LEVELS as u32)) - 1;

/// A timer that has been set.
pub type TimerId = Id;

#[derive(Debug)]
struct Node<T> {
    deadline: Millis,
    value: T,
    before: u32,
    after: u32,
    level: u8,
    slot: u8,
}

/// Timers that carry a `T`.
#[derive(Debug)]
pub struct Wheel<T> {
    nodes: Slab<Node<T>>,
    heads: [[u32; SLOTS]; LEVELS],
    /// One bit per slot that has timers.
    occupied: [u64; LEVELS],
    now: Millis,
}

impl<T: Copy> Wheel<T> {
    pub fn new(now: Millis) -> Self {
        Self { nodes: Slab::default(), heads: [[NONE; SLOTS]; LEVELS], occupied: [0; LEVELS], now: now.min(LAST) }
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Sets a timer. A deadline that has passed is due at the next [`Wheel::advance`].
    pub fn insert(&mut self, deadline: Millis, value: T) -> TimerId {
        let deadline = deadline.clamp(self.now, LAST);
        let id = self.nodes.insert(Node { deadline, value, before: NONE, after: NONE, level: 0, slot: 0 });
        self.link(id.index());
        id
    }

    /// Takes a timer back; `None` where it was due already.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        self.nodes.get(id)?;
        self.unlink(id.index());
        self.nodes.remove(id).map(|node| node.value)
    }

    /// When to call [`Wheel::advance`] next: no timer is due before.
    pub fn next(&self) -> Option<Millis> {
        self.earliest().map(|(_, _, start)| start)
    }

    /// Moves to `now` and appends what is due, by deadline.
    pub fn advance(&mut self, now: Millis, due: &mut Vec<T>) {
        while let Some((level, slot, start)) = self.earliest() {
            if start > now {
                break;
            }
            self.now = self.now.max(start);
            self.occupied[level] &= !(1 << slot);
            let mut next = std::mem::replace(&mut self.heads[level][slot], NONE);
            while next != NONE {
                let index = next;
                let node = self.nodes.at(index).expect("a linked node is in the slab");
                next = node.after;
                if level == 0 {
                    let id = self.nodes.id_at(index).expect("a linked node is in the slab");
                    due.extend(self.nodes.remove(id).map(|node| node.value));
                } else {
                    self.link(index);
                }
            }
        }
        self.now = self.now.max(now.min(LAST));
    }

    // All timers of a level lie within the slot of the level above that holds `now`: the lowest level that has any
    // has the earliest.
    fn earliest(&self) -> Option<(usize, usize, Millis)> {
        let level = self.occupied.iter().position(|bits| *bits != 0)?;
        let shift = BITS * level as u32;
        let here = (self.now >> shift) as usize % SLOTS;
        let ahead = self.occupied[level].rotate_right(here as u32).trailing_zeros() as usize;
        let slot = (here + ahead) % SLOTS;
        let turn = self.now >> (shift + BITS) << (shift + BITS);
        Some((level, slot, turn + ((slot as Millis) << shift)))
    }

    fn link(&mut self, index: u32) {
        let node = self.nodes.at(index).expect("the caller holds a node");
        // The highest digit in which deadline and now differ is the level.
        let differ = (self.now ^ node.deadline) | (SLOTS as u64 - 1);
        let level = ((63 - differ.leading_zeros()) / BITS) as usize;
        let slot = (node.deadline >> (BITS * level as u32)) as usize % SLOTS;
        let head = std::mem::replace(&mut self.heads[level][slot], index);
        (node.level, node.slot, node.before, node.after) = (level as u8, slot as u8, NONE, head);
        if let Some(after) = self.nodes.at(head) {
            after.before = index;
        }
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, index: u32) {
        let node = self.nodes.at(index).expect("the caller holds a node");
        let (before, after, level, slot) = (node.before, node.after, usize::from(node.level), usize::from(node.slot));
        match self.nodes.at(before) {
            Some(before) => before.after = after,
            None => self.heads[level][slot] = after,
        }
        if let Some(after) = self.nodes.at(after) {
            after.before = before;
        }
        if self.heads[level][slot] == NONE {
            self.occupied[level] &= !(1 << slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_timer_costs_at_most_96_bytes() {
        let bytes = Slab::<Node<crate::desk::Timer>>::bytes_per_value();
        assert!(bytes <= 96, "{bytes}");
    }

    #[test]
    fn a_passed_deadline_is_due_at_once_and_an_absurd_one_is_kept() {
        let mut wheel = Wheel::new(1_000);
        wheel.insert(5, 'a');
        let id = wheel.insert(u64::MAX, 'b');
        let mut due = vec![];
        wheel.advance(1_000, &mut due);
        assert_eq!(due, ['a']);
        wheel.advance(LAST - 1, &mut due);
        assert_eq!((due.len(), wheel.cancel(id), wheel.next()), (1, Some('b'), None));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u64),
        Cancel(usize),
        Advance(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let delay = prop_oneof![0..70u64, 0..5_000u64, 0..10_000_000u64, 0..700_000_000_000u64];
        let step = prop_oneof![
            4 => delay.clone().prop_map(Step::Insert),
            1 => (0..64usize).prop_map(Step::Cancel),
            2 => delay.prop_map(Step::Advance),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn does_what_a_sorted_map_does(start in 0..1_800_000_000_000u64, steps in steps()) {
            let mut wheel = Wheel::new(start);
            let mut model = BTreeMap::new();
            let mut ids = vec![];
            let mut now = start;
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(delay) => {
                        ids.push((wheel.insert(now + delay, number), now + delay, number));
                        model.insert((now + delay, number), ());
                    }
                    Step::Cancel(which) if !ids.is_empty() => {
                        let (id, deadline, number) = ids[which % ids.len()];
                        prop_assert_eq!(wheel.cancel(id).is_some(), model.remove(&(deadline, number)).is_some());
                    }
                    Step::Cancel(_) => {}
                    Step::Advance(delay) => {
                        now = (now + delay).min(LAST / 2);
                        let mut due = vec![];
                        wheel.advance(now, &mut due);
                        let rest = model.split_off(&(now + 1, 0));
                        let expected = std::mem::replace(&mut model, rest);
                        // By deadline; those of one millisecond in any order.
                        let deadline = |number: &usize| ids.iter().find(|(_, _, n)| n == number).map(|(_, d, _)| *d);
                        let order: Vec<_> = due.iter().map(deadline).collect();
                        prop_assert!(order.is_sorted());
                        due.sort_unstable();
                        let mut numbers: Vec<_> = expected.into_keys().map(|(_, number)| number).collect();
                        numbers.sort_unstable();
                        prop_assert_eq!(due, numbers);
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                let first = model.keys().next().map(|(deadline, _)| *deadline);
                prop_assert_eq!(wheel.next().is_some(), first.is_some());
                prop_assert!(wheel.next() <= first, "wakes in time");
            }
        }
    }
}
