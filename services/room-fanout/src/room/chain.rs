//! [`Chain`] and [`ChatChain`]: where a room's orders stand.

use pushmesh_protocol::{UserId, room::part_of};
use serde::{Deserialize, Serialize};

use super::{timeline::Timeline, trail::Trail};

/// A chain that everybody sees alike.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Chain {
    pub last: u64,
    #[serde(default)]
    trail: Trail,
}

impl Chain {
    /// The offset before this one; `None` if the chain has been there.
    pub fn step(&mut self, offset: u64) -> Option<u64> {
        if offset <= self.last {
            return None;
        }
        self.trail.push(offset);
        Some(std::mem::replace(&mut self.last, offset))
    }

    pub fn trail(&self) -> &Trail {
        &self.trail
    }

    /// Only what came up to `end` was of this stream.
    pub fn cut(&mut self, end: u64) {
        if self.last > end {
            *self = Self { last: end, trail: Trail::at(end) };
        }
    }

    /// The trail must end where the chain does, whatever a record says.
    pub fn mended(mut self) -> Self {
        mend(&mut self.trail, self.last);
        self
    }
}

/// What somebody sees of the chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View<'a> {
    /// Everything: an overseer.
    All,
    /// What his part sees.
    PartOf(&'a UserId),
}

/// The chain of chat: each part sees one of its own, overseers the whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct ChatChain {
    whole: u64,
    /// By part, as many as there are; none while the room is whole.
    parts: Vec<u64>,
    timeline: Timeline,
    /// Of the whole.
    #[serde(default)]
    trail: Trail,
}

impl ChatChain {
    pub fn parts(&self) -> u16 {
        self.timeline.parts()
    }

    /// The most parts that there are or were, as far as is remembered.
    pub fn finest(&self) -> u16 {
        self.timeline.finest()
    }

    /// The last offset of all.
    pub fn whole(&self) -> u64 {
        self.whole
    }

    pub fn trail(&self) -> &Trail {
        &self.trail
    }

    /// The last offset that a part saw.
    pub fn part(&self, part: u16) -> u64 {
        self.parts.get(usize::from(part)).copied().unwrap_or(self.whole)
    }

    pub fn last(&self, view: View) -> u64 {
        match view {
            View::All => self.whole,
            View::PartOf(user) => self.part(part_of(user, self.parts())),
        }
    }

    /// The offset before this one in the whole; `None` if the chain has been there.
    pub fn step(&mut self, offset: u64) -> Option<u64> {
        if offset <= self.whole {
            return None;
        }
        self.trail.push(offset);
        Some(std::mem::replace(&mut self.whole, offset))
    }

    /// The offset before this one in a part of a room that is cut.
    pub fn step_part(&mut self, part: u16, offset: u64) -> u64 {
        std::mem::replace(&mut self.parts[usize::from(part)], offset)
    }

    /// Cuts or merges: all new parts begin where the whole stands. Returns where the old ones stood.
    pub fn recut(&mut self, parts: u16) -> Vec<u64> {
        let old = (0..self.parts()).map(|part| self.part(part)).collect();
        self.parts = if parts > 1 { vec![self.whole; usize::from(parts)] } else { Vec::new() };
        self.timeline.change(self.whole, parts);
        old
    }

    /// Whether somebody with this view was told what `from` sent at `offset`; `None` where that is forgotten.
    pub fn was_seen(&self, view: View, from: Option<&UserId>, offset: u64) -> Option<bool> {
        let (View::PartOf(user), Some(from)) = (view, from) else { return Some(true) };
        self.timeline.parts_at(offset).map(|parts| part_of(from, parts) == part_of(user, parts))
    }

    #[cfg(test)]
    pub fn parts_at(&self, offset: u64) -> Option<u16> {
        self.timeline.parts_at(offset)
    }

    /// Only what came up to `end` was of this stream: all parts go on from there.
    pub fn cut(&mut self, end: u64) {
        if self.whole > end {
            self.timeline.change(end, self.parts());
            (self.whole, self.trail) = (end, Trail::at(end));
            self.parts.fill(end);
        }
    }

    /// The parts' own count must fit what the timeline says, and the trail the whole, whatever a record says.
    pub fn mended(mut self) -> Self {
        mend(&mut self.trail, self.whole);
        let parts = usize::from(self.parts());
        if parts > 1 {
            self.parts.resize(parts, self.whole);
        } else {
            self.parts.clear();
        }
        self
    }
}

fn mend(trail: &mut Trail, last: u64) {
    if trail.last() != last {
        *trail = Trail::at(last);
    }
}
