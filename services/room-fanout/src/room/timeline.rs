//! [`Timeline`]: into how many parts a room was cut, and when.

use serde::{Deserialize, Serialize};

/// Changes that are remembered: history before the oldest of them is told to nobody who sees only his part.
const CHANGES_MAX: usize = 32;

/// How many parts held behind which offset of the chat's chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Timeline(Vec<(u64, u16)>);

impl Default for Timeline {
    fn default() -> Self {
        Self(vec![(0, 1)])
    }
}

impl Timeline {
    /// From now on.
    pub fn parts(&self) -> u16 {
        self.0.last().map_or(1, |(_, parts)| *parts)
    }

    /// The most that is remembered: who shares a part of these has shared one all along, since parts are halves of parts.
    pub fn finest(&self) -> u16 {
        self.0.iter().map(|(_, parts)| *parts).max().unwrap_or(1)
    }

    /// When `offset` was told; `None` if that is forgotten.
    pub fn parts_at(&self, offset: u64) -> Option<u16> {
        self.0.iter().rev().find(|(from, _)| *from < offset).map(|(_, parts)| *parts)
    }

    /// `parts` hold behind `offset`.
    pub fn change(&mut self, offset: u64, parts: u16) {
        // What held behind no offset at all never held.
        self.0.retain(|(from, _)| *from < offset);
        self.0.push((offset, parts));
        if self.0.len() > CHANGES_MAX {
            self.0.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_knows_what_held_at_an_offset_and_that_it_forgot() {
        let mut timeline = Timeline::default();
        assert_eq!((timeline.parts(), timeline.parts_at(1)), (1, Some(1)));
        timeline.change(10, 4);
        timeline.change(10, 8);
        timeline.change(20, 2);
        let at: Vec<_> = [1, 10, 11, 20, 21].iter().map(|offset| timeline.parts_at(*offset)).collect();
        assert_eq!(at, [Some(1), Some(1), Some(8), Some(8), Some(2)]);
        for n in 0..CHANGES_MAX as u64 {
            timeline.change(100 + n, 4);
        }
        assert_eq!((timeline.parts_at(20), timeline.parts_at(101)), (None, Some(4)));
    }

    #[test]
    fn a_room_that_is_cut_before_its_first_message_was_never_whole() {
        let mut timeline = Timeline::default();
        timeline.change(0, 4);
        assert_eq!((timeline.parts(), timeline.parts_at(1)), (4, Some(4)));
    }
}
