//! [`Trail`]: the newest offsets of a chain.
//!
//! A stream that has dropped its oldest messages does not say whose they were. A chain that remembers its own offsets tells
//! whether one of them was among those.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Offsets that are remembered: about two bytes each in a record that is written every second. A chain with more of them than
/// this in its stream is no quiet one: who comes back from before the stream's beginning is told of a gap there.
const OFFSETS_MAX: usize = 128;

/// The newest offsets of a chain: of those behind the oldest of these none is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u64>", into = "Vec<u64>")]
pub(super) struct Trail(VecDeque<u64>);

impl Trail {
    /// Of a chain that stands at `offset`; nothing is known of what was before.
    pub fn at(offset: u64) -> Self {
        Self([offset].into())
    }

    pub fn push(&mut self, offset: u64) {
        self.0.push_back(offset);
        if self.0.len() > OFFSETS_MAX {
            self.0.pop_front();
        }
    }

    pub fn last(&self) -> u64 {
        self.0.back().copied().unwrap_or(0)
    }

    /// Whether an offset is of the chain; `None` where that is forgotten.
    pub fn tells(&self, offset: u64) -> Option<bool> {
        let is_known = self.0.front().is_some_and(|oldest| *oldest <= offset);
        is_known.then(|| self.0.binary_search(&offset).is_ok())
    }

    /// Whether an offset is of the chain, for all that is remembered.
    pub fn may_hold(&self, offset: u64) -> bool {
        self.tells(offset) != Some(false)
    }

    /// Whether all of the chain with `after < offset < before` is known, and has been found.
    pub fn is_found(&self, after: u64, before: u64, found: impl Fn(u64) -> bool) -> bool {
        let is_known = self.0.front().is_some_and(|oldest| *oldest <= after);
        let from = self.0.partition_point(|offset| *offset <= after);
        is_known && self.0.range(from..).take_while(|offset| **offset < before).all(|offset| found(*offset))
    }
}

/// Of a chain in which nothing was ever said.
impl Default for Trail {
    fn default() -> Self {
        Self::at(0)
    }
}

// The oldest, then how far each is from the one before it.
impl From<Vec<u64>> for Trail {
    fn from(steps: Vec<u64>) -> Self {
        let add = |at: &mut u64, step: u64| {
            *at = at.saturating_add(step);
            Some(*at)
        };
        Self(steps.into_iter().scan(0, add).collect())
    }
}

impl From<Trail> for Vec<u64> {
    fn from(trail: Trail) -> Self {
        let step = |before: &mut u64, offset: u64| Some(offset - std::mem::replace(before, offset));
        trail.0.into_iter().scan(0, step).collect()
    }
}

#[cfg(test)]
mod tests {
    use pushmesh_protocol::wire;

    use super::*;

    #[test]
    fn it_knows_what_lay_between_as_far_back_as_it_goes() {
        let mut trail = Trail::default();
        for offset in [10, 20, 1_000] {
            trail.push(offset);
        }
        let nothing = |after, before| trail.is_found(after, before, |_| false);
        assert_eq!([0, 10, 11, 1_001].map(|offset| trail.tells(offset)), [true, true, false, false].map(Some));
        assert!(nothing(0, 10) && nothing(20, 1_000) && nothing(20, 21) && nothing(1_000, 5_000));
        assert!(!nothing(0, 11) && !nothing(19, 21) && !nothing(20, 1_001));
        assert!(trail.is_found(5, 1_001, |offset| [10, 20, 1_000].contains(&offset)));
        let of_later = Trail::at(20);
        assert_eq!((of_later.tells(19), of_later.tells(20)), (None, Some(true)));
        assert!(of_later.is_found(20, 999, |_| false) && !of_later.is_found(19, 20, |_| true));
        for offset in 1_001..1_001 + OFFSETS_MAX as u64 {
            trail.push(offset);
        }
        assert!(!trail.is_found(1_000, 1_001, |_| true) && trail.is_found(1_001, 1_002, |_| false));
    }

    #[test]
    fn a_record_holds_steps() {
        let mut trail = Trail::at(1_000_000);
        for n in 1..OFFSETS_MAX as u64 {
            trail.push(1_000_000 + 100 * n);
        }
        let bytes = wire::encode(&trail);
        assert!(bytes.len() < 150, "{}", bytes.len());
        assert_eq!(wire::decode::<Trail>(&bytes).unwrap(), trail);
        assert_eq!((trail.last(), Trail::from(Vec::new()).last()), (1_000_000 + 100 * (OFFSETS_MAX as u64 - 1), 0));
    }
}
