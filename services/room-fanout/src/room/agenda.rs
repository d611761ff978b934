//! [`Agenda`]: which room is due next.

use std::{cmp::Reverse, collections::BinaryHeap};

use pushmesh_protocol::{RoomId, message::Millis};

/// Rooms by when they are due. A room may stand here at several times, and know at one of them that it is not due.
#[derive(Debug, Default)]
pub(super) struct Agenda(BinaryHeap<Reverse<(Millis, RoomId)>>);

impl Agenda {
    pub fn add(&mut self, at: Millis, room: RoomId) {
        self.0.push(Reverse((at, room)));
    }

    pub fn next(&self) -> Option<Millis> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    pub fn pop_due(&mut self, now: Millis) -> Option<(Millis, RoomId)> {
        self.next().filter(|at| *at <= now)?;
        self.0.pop().map(|Reverse(entry)| entry)
    }
}
