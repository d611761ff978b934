//! The rooms of one connection.

use std::sync::Arc;

use super::frame::Frame;
use crate::limit::Bucket;

/// Few: a list is faster than anything clever.
#[derive(Debug, Default)]
pub struct Memberships {
    list: Vec<Membership>,
    /// JOINs so far: an answer to an earlier one means nothing.
    pub attempts: u32,
    pub joins: Bucket,
}

#[derive(Debug)]
pub struct Membership {
    /// In the shard's table.
    pub room: u32,
    /// Its place in the room's crowd.
    pub at: u32,
    /// It has been told JOINED once: it counts as present.
    pub is_present: bool,
    /// A JOIN is under way.
    pub joining: Option<Box<Held>>,
}

/// What waits for the answer to a JOIN.
#[derive(Debug)]
pub struct Held {
    pub attempt: u32,
    /// In the order they came; whom they are for is looked at when the answer says what the member sees.
    pub frames: Vec<Arc<Frame>>,
    pub bytes: usize,
    /// By class: too much came meanwhile.
    pub missed: [u32; 3],
    /// What was ordered meanwhile is newer than the answer.
    pub oversee: Option<bool>,
}

impl Held {
    pub fn new(attempt: u32) -> Self {
        Self { attempt, frames: Vec::new(), bytes: 0, missed: [0; 3], oversee: None }
    }

    /// `false`: there is no room for it. One frame out of order would be worse than a gap, so all of them go.
    pub fn hold(&mut self, frame: &Arc<Frame>, frames_max: usize, bytes_max: usize) -> bool {
        let is_lost = self.missed != [0; 3];
        if !is_lost && self.frames.len() < frames_max && self.bytes + frame.bytes() <= bytes_max {
            self.bytes += frame.bytes();
            self.frames.push(frame.clone());
            return true;
        }
        for lost in self.frames.drain(..).chain([frame.clone()]) {
            let missed = &mut self.missed[lost.lane.class() as usize];
            *missed = missed.saturating_add(1);
        }
        self.bytes = 0;
        false
    }
}

impl Memberships {
    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn push(&mut self, membership: Membership) {
        self.list.push(membership);
    }

    pub fn of(&mut self, room: u32) -> Option<&mut Membership> {
        self.list.iter_mut().find(|membership| membership.room == room)
    }

    pub fn remove(&mut self, room: u32) -> Option<Membership> {
        let at = self.list.iter().position(|membership| membership.room == room)?;
        Some(self.list.swap_remove(at))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Membership> {
        self.list.iter()
    }

    pub fn take_all(&mut self) -> Vec<Membership> {
        std::mem::take(&mut self.list)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn too_much_for_one_who_joins_is_a_gap_and_not_a_hole() {
        let gap = Arc::new(Frame::gap(&"r".parse().unwrap(), [1, 0, 0], Instant::now()));
        let mut held = Held::new(1);
        assert!(held.hold(&gap, 2, 1000) && held.hold(&gap, 2, 1000));
        assert_eq!(held.bytes, 2 * gap.bytes());
        assert!(!held.hold(&gap, 2, 1000));
        assert_eq!((held.frames.len(), held.bytes, held.missed), (0, 0, [3, 0, 0]));
        assert!(!held.hold(&gap, 2, 1000), "nothing after a gap until it is told");
        assert_eq!(held.missed, [4, 0, 0]);
    }
}
