//! [`Skipped`]: what lies in a stream and was told to nobody, or as a gift without its note.

use std::collections::VecDeque;

/// Offsets that are remembered. A muted user gets a line or two past an api that has not heard of it yet: this is for more
/// mutes than a room sees while its stream holds such a line.
const OFFSETS_MAX: usize = 256;

/// The newest of them; those that are forgotten lay at or before `forgotten`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Skipped {
    offsets: VecDeque<u64>,
    forgotten: u64,
}

impl Skipped {
    pub fn of(offsets: Vec<u64>, forgotten: u64) -> Self {
        Self { offsets: offsets.into(), forgotten }
    }

    /// `false`: it was in there.
    pub fn push(&mut self, offset: u64) -> bool {
        if self.contains(offset) {
            return false;
        }
        self.offsets.push_back(offset);
        if self.offsets.len() > OFFSETS_MAX
            && let Some(oldest) = self.offsets.pop_front()
        {
            self.forgotten = self.forgotten.max(oldest);
        }
        true
    }

    pub fn contains(&self, offset: u64) -> bool {
        self.offsets.contains(&offset)
    }

    pub fn offsets(&self) -> Vec<u64> {
        self.offsets.iter().copied().collect()
    }

    /// Whether it was, or may have been: that is forgotten.
    pub fn may_contain(&self, offset: u64) -> bool {
        offset <= self.forgotten || self.contains(offset)
    }

    /// Behind it all of them are known.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_from_where_on_it_knows_all() {
        let mut skipped = Skipped::default();
        assert!(skipped.push(7) && !skipped.push(7));
        for offset in 10..10 + OFFSETS_MAX as u64 {
            skipped.push(offset);
        }
        assert_eq!((skipped.forgotten(), skipped.contains(10), skipped.contains(9)), (7, true, false));
        assert_eq!([7, 8, 10].map(|offset| skipped.may_contain(offset)), [true, false, true]);
        assert_eq!(Skipped::of(skipped.offsets(), 7), skipped);
    }
}
